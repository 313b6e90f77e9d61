#!/usr/bin/env python3
"""run_guest.py - runs a guest test program under one engine; one TAP test a program

usage: run_guest.py RING3 ENGINE[:TUNING] IMAGE SOURCE

TUNING is what --bt takes; for engine kvm, what --irqchip takes.

The program prints "FAIL ..." lines and "checks: N passed, M failed" on the debug console and leaves by
the debug-exit port. Its source says in the header what is expected: "expected: all checks passed" or
"expected: N checks passed".
"""
import json
import os
import re
import subprocess
import sys
import tempfile

TIMEOUT_S = 120
EXIT_PASSED = 1  # debug-exit status 0: (0 << 1) | 1

# What a KVM that emulates kernel code does right, with the interpreter's help. The others need one
# that the probe finds fit.
ON_ANY_KVM = {"clocks", "entry_patched", "mmio", "rip1", "smc", "tlb"}


def kvm_or_skip(ring3, name):
    """Ends the test with the reason when this host's KVM cannot run the program."""
    out = subprocess.run([ring3, "doctor", "--json"], capture_output=True, check=True).stdout
    kvm = next(e for e in json.loads(out)["engines"] if e["name"] == "kvm")
    if kvm["verdict"] == "emulates" and name in ON_ANY_KVM:
        os.environ["RING3_KVM_UNCHECKED"] = "1"
    elif not kvm["works"]:
        print(f"1..0 # SKIP {kvm['reason']}")
        sys.exit(0)


def expected_checks(source):
    with open(source, encoding="utf-8") as f:
        head = f.read(600)
    m = re.search(r"expected: (all|\d+) checks passed", head)
    if not m:
        raise SystemExit(f"{source}: no 'expected:' line in the header")
    return None if m.group(1) == "all" else int(m.group(1))


def run(ring3, engine, image):
    with tempfile.TemporaryDirectory() as tmp:
        out = os.path.join(tmp, "debugcon")
        name, _, tuning = engine.partition(":")
        option = "--irqchip" if name == "kvm" else "--bt"
        cmd = [ring3, "run", "-q", "-e", name, *([option, tuning] if tuning else []), "-k", image,
               "-m", "64", "--debug-exit", "0xf4", "--debugcon", f"0xe9={out}"]
        try:
            p = subprocess.run(cmd, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT_S)
            status, err = p.returncode, p.stderr.decode(errors="replace")
        except subprocess.TimeoutExpired:
            status, err = None, f"no end within {TIMEOUT_S} s"
        text = ""
        if os.path.exists(out):
            with open(out, encoding="latin-1") as f:
                text = f.read()
    return status, text, err


def main():
    if len(sys.argv) != 5:
        raise SystemExit(__doc__)
    ring3, engine, image, source = sys.argv[1:]
    name = os.path.splitext(os.path.basename(source))[0]
    want = expected_checks(source)
    if engine.startswith("kvm"):
        kvm_or_skip(ring3, name)
    status, text, err = run(ring3, engine, image)
    m = re.search(r"checks: (\d+) passed, (\d+) failed", text)
    passed = int(m.group(1)) if m else 0
    ok = status == EXIT_PASSED and m and m.group(2) == "0" and want in (None, passed)
    print("1..1")
    print(f"{'ok' if ok else 'not ok'} 1 - {name} on {engine}: {passed} checks")
    if not ok:
        print(f"# exit status {status}" + (f", expected {want} checks" if want else ""))
        for line in (text + err).splitlines():
            print("# " + line)
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
