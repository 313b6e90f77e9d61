#!/usr/bin/env python3
"""run_nested.py - runs commands on a machine with KVM that QEMU emulates (AMD SVM, nested paging)

usage: run_nested.py RING3 GUEST_DIR [--log FILE] [--add NAME=PATH]... [--program FILE]...
                     [--timeout S] CASE...

--program adds one, with the libraries it needs, to the path. A CASE is NAME:EXPECTED:COMMAND - a
shell command there, with ring3 in the path, and a regular expression that its output must match; it
must end with status 0. Output is TAP; the log holds the machine's whole console.
"""
import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TOOLS = os.path.join(HERE, "..", "..", "tools")
MKINITRD = os.path.join(TOOLS, "mkinitrd.py")


def skip(why):
    print(f"1..0 # SKIP {why}")
    sys.exit(0)


def libraries(program):
    """The shared libraries of a program, its loader included: (path in the guest, path here)."""
    out = subprocess.run(["ldd", program], check=True, capture_output=True, text=True).stdout
    for line in out.splitlines():
        m = re.search(r"(?:=>\s*)?(/\S+) \(0x", line)
        if m:
            path = m.group(1)
            name = path if "ld-linux" in path else "/nested/lib/" + os.path.basename(path)
            yield name.lstrip("/"), os.path.realpath(path)


def commands(cases):
    """The script that runs there, with marks around each command."""
    lines = []
    for number, (_, _, command) in enumerate(cases):
        lines += [f"echo '=== begin {number}'", f"( {command} )", "status=$?",
                  f"echo; echo \"=== end {number} status $status\""]
    return "\n".join(lines) + "\n"


def make_initrd(args, cases, tmp):
    script = os.path.join(tmp, "commands.sh")
    with open(script, "w", encoding="utf-8") as f:
        f.write(commands(cases))
    out = os.path.join(tmp, "initrd")
    pairs = [("nested/init", os.path.join(HERE, "init.sh")), ("nested/commands.sh", script),
             ("usr/bin/ring3", args.ring3), ("lib64", None), ("nested/lib", None),
             ("nested/modules", os.path.join(args.guest, "kvm")), ("usr/bin/guest", None)]
    pairs += [("usr/bin/guest/" + n, os.path.join(args.guest, n)) for n in ("vmlinuz", "initrd.img")]
    pairs += [("usr/bin/" + os.path.basename(p), p) for p in args.program]
    pairs += sorted({pair for p in [args.ring3, *args.program] for pair in libraries(p)})
    pairs += [tuple(a.split("=", 1)) for a in args.add]
    empty = os.path.join(tmp, "empty")
    os.makedirs(empty)
    cmd = [sys.executable, MKINITRD, "--base", os.path.join(args.guest, "initrd.img"), "--out", out,
           "--add", f"nested={empty}"]
    for name, path in pairs:
        cmd += ["--add", f"{name}={path or empty}"]
    subprocess.run(cmd, check=True)
    return out


def boot(args, initrd):
    cmd = ["qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-m", "2G", "-M", "q35",
           "-nodefaults", "-serial", "stdio", "-display", "none", "-no-reboot",
           "-kernel", os.path.join(args.guest, "vmlinux"), "-initrd", initrd, "-append",
           "console=ttyS0 rdinit=/nested/init reboot=t mitigations=off panic=-1"]
    began = time.monotonic()
    log = args.log or initrd + ".log"
    with open(log, "wb") as out:
        try:
            subprocess.run(cmd, stdin=subprocess.DEVNULL, stdout=out, stderr=out, check=False,
                           timeout=args.timeout)
        except subprocess.TimeoutExpired:
            out.write(b"\nnested: no end in time\n")
    with open(log, encoding="utf-8", errors="replace", newline="") as f:
        return f.read().replace("\r", ""), time.monotonic() - began


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("ring3")
    parser.add_argument("guest")
    parser.add_argument("--log")
    parser.add_argument("--add", action="append", default=[])
    parser.add_argument("--program", action="append", default=[])
    parser.add_argument("--timeout", type=float, default=600)
    parser.add_argument("case", nargs="+")
    args = parser.parse_args()
    cases = [case.split(":", 2) for case in args.case]
    if not shutil.which("qemu-system-x86_64"):
        skip("no qemu-system-x86_64 to emulate a machine with KVM: tools/setup --bench installs it")
    if not os.path.exists(os.path.join(args.guest, "initrd.img")):
        skip("no default guest: make guest")
    for what in ("vmlinux", "kvm"):
        made = subprocess.run([os.path.join(TOOLS, "guest"), what], check=False,
                              env={**os.environ, "RING3_GUEST_DIR": os.path.abspath(args.guest)},
                              capture_output=True, text=True)
        if made.returncode:
            skip(f"tools/guest {what}: {made.stderr.strip()}")
    with tempfile.TemporaryDirectory() as tmp:
        text, seconds = boot(args, make_initrd(args, cases, tmp))
    print(f"1..{len(cases)}")
    bad = 0
    for number, (name, expected, _) in enumerate(cases):
        m = re.search(f"=== begin {number}\n(.*?)=== end {number} status (\\d+)", text, re.S)
        ok = bool(m) and m.group(2) == "0" and bool(re.search(expected, m.group(1)))
        bad += not ok
        print(f"{'ok' if ok else 'not ok'} {number + 1} - {name}")
        if not ok:
            tail = m.group(1) if m else text
            for line in tail.splitlines()[-60:]:
                print("# " + line)
    print(f"# {seconds:.0f} s in all")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
