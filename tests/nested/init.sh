#!/bin/sh
# init.sh - init of the machine that has KVM: loads it, runs /nested/commands.sh, ends the machine
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
mount -t tmpfs tmp /tmp
for module in irqbypass kvm kvm-amd; do
    insmod "/nested/modules/$module.ko" || echo "nested: cannot load $module"
done
export LD_LIBRARY_PATH=/nested/lib
echo "nested: kvm node: $(ls -l /dev/kvm 2>&1)"
sh /nested/commands.sh </dev/null 2>&1
echo "nested: end"
reboot -f
