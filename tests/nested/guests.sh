#!/bin/sh
# guests.sh - programs of tests/guest under engine kvm, on a machine that QEMU emulates
#
# The emulated processor has faults of its own: it checks no segment limits, for one. So these are the
# programs that pass on it without KVM as well. KVM's local APIC takes vectors below 16, so that
# program runs with ours alone.
for test in apic:user clocks:kernel clocks:user entry_patched:kernel irq:kernel irq:user mmio:kernel \
    rip1:kernel smc:kernel tlb:kernel; do
    name=${test%:*}
    out=$(ring3 run -q -e kvm --irqchip "${test#*:}" -k "/nested/tests/$name.img" -m 64 \
        --debug-exit 0xf4 --debugcon 0xe9=- --timeout 120 2>&1)
    status=$?
    if [ $status -eq 1 ] && echo "$out" | grep -q "passed, 0 failed"; then
        echo "$test: passed"
    else
        echo "$test: FAIL, status $status"
        echo "$out"
    fi
done
