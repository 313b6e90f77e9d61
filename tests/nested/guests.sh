#!/bin/sh
# guests.sh - programs of tests/guest under engine kvm, on a machine that QEMU emulates
#
# The emulated processor has faults of its own: it checks no segment limits, for one. So these are the
# programs that pass on it without KVM as well.
for name in apic clocks entry_patched irq mmio rip1 smc tlb; do
    out=$(ring3 run -q -e kvm -k "/nested/tests/$name.img" -m 64 --debug-exit 0xf4 \
        --debugcon 0xe9=- --timeout 120 2>&1)
    status=$?
    if [ $status -eq 1 ] && echo "$out" | grep -q "passed, 0 failed"; then
        echo "$name: passed"
    else
        echo "$name: FAIL, status $status"
        echo "$out"
    fi
done
