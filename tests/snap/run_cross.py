#!/usr/bin/env python3
"""run_cross.py - cross.sh among the engines that work here

usage: run_cross.py RING3 GUEST_DIR

With a KVM that is fit for guests in all six directions among kvm, bt and interp, and between the
kernel's interrupt controllers and ours; else between the other two engines. Output is TAP.
"""
import json
import os
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
MKINITRD = os.path.join(HERE, "..", "..", "tools", "mkinitrd.py")


def kvm_reason(ring3):
    """Why engine kvm does not work here; empty when it does."""
    out = subprocess.run([ring3, "doctor", "--json"], capture_output=True, check=True).stdout
    return next(e["reason"] for e in json.loads(out)["engines"] if e["name"] == "kvm")


def main():
    ring3, guest = sys.argv[1:]
    base = os.path.join(guest, "initrd.img")
    if not os.path.exists(base):
        print("1..0 # SKIP no default guest: make guest")
        return 0
    reason = kvm_reason(ring3)
    engines = ["bt", "interp", "bt"] if reason else \
        ["kvm", "bt", "interp", "kvm", "interp", "bt", "kvm:user", "kvm", "kvm:user", "bt"]
    with tempfile.TemporaryDirectory() as tmp:
        initrd = os.path.join(tmp, "initrd")
        subprocess.run([sys.executable, MKINITRD, "--base", base, "--out", initrd,
                        "--add", "verify=" + os.path.join(HERE, "verify")], check=True)
        out = subprocess.run(["sh", os.path.join(HERE, "cross.sh"), ring3,
                              os.path.join(guest, "vmlinuz"), initrd, *engines],
                             stdout=subprocess.PIPE, text=True, check=False)
    lines = out.stdout.splitlines()
    if reason:
        lines[0] = f"1..{len(engines) + 1}"
        lines.append(f"ok {len(engines) + 1} - among kvm and the others # SKIP {reason}")
    print("\n".join(lines))
    return out.returncode


if __name__ == "__main__":
    sys.exit(main())
