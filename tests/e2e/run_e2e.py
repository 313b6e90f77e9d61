#!/usr/bin/env python3
"""Boots the default guest by the ring3 program and checks what a user sees. Output is TAP.

run_e2e.py RING3 GUEST_DIR [--engine NAME] [--few] [--boots N] [--only TEXT]

GUEST_DIR is what tools/guest makes; without it only the tests that boot nothing run, the others are
skipped. --boots adds N boots in a row. --few runs a part of the tests: for slow engines.
"""
import argparse
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time

BOOT_LIMIT_S = 120  # an interpreter under sanitizers on a busy machine

tests = []


def test(guest=True, few=False):
    """A test that needs the default guest or not; `few`: one that even slow engines run."""
    def add(fn):
        tests.append((fn.__name__.replace("_", " "), fn, guest, few))
        return fn
    return add


class Failure(Exception):
    pass


def check(condition, *what):
    if not condition:
        raise Failure(" ".join(str(w) for w in what))


def ring3(*args, stdin=b"", limit=BOOT_LIMIT_S):
    """Runs the program; returns (status, stdout, stderr)."""
    p = subprocess.run([ARGS.ring3, *args], input=stdin, capture_output=True, timeout=limit)
    return p.returncode, p.stdout, p.stderr.decode("utf-8", "replace")


def run(*args, **more):
    return ring3("run", "-e", ARGS.engine, *args, **more)


def start(*args):
    return subprocess.Popen([ARGS.ring3, "run", "-e", ARGS.engine, *args], stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def finish(p):
    """Waits for a started program; returns (status, stderr)."""
    try:
        status = p.wait(BOOT_LIMIT_S)
    except subprocess.TimeoutExpired:
        p.kill()
        status = p.wait()
    err = p.stderr.read().decode("utf-8", "replace")
    p.stderr.close()
    if not p.stdout.closed:
        p.stdout.close()
    return status, err


def expect(got, status, out=None):
    check(got[0] == status,
          "status %d, expected %d; stdout %r stderr %s" % (got[0], status, got[1], got[2]))
    if out is not None:
        check(got[1] == out, "stdout %r, expected %r; stderr %s" % (got[1], out, got[2]))


def kernel_release():
    """The release a bzImage names (boot protocol: kernel_version at 20Eh)."""
    with open(os.path.join(ARGS.guest, "vmlinuz"), "rb") as f:
        head = f.read(0x8000)
    at = struct.unpack_from("<H", head, 0x20e)[0] + 0x200
    return head[at:].split(b" ", 1)[0]


# ---- without a guest ----

@test(guest=False)
def help_and_version():
    status, out, err = ring3("--help")
    check(status == 0 and b"doctor" in out and err == "", status, out, err)
    status, out, err = ring3("run", "--help")
    check(status == 0 and b"--kernel" in out and b"124" in out, status, out, err)
    status, out, err = ring3("--version")
    check(status == 0 and out.startswith(b"ring3 "), status, out, err)
    status, out, err = ring3("run", "-e", "help")
    check(status == 0 and b"interp" in out, status, out, err)
    status, out, err = ring3("run", "--cpu", "help")
    check(status == 0 and b"ring3-v2" in out, status, out, err)


@test(guest=False)
def wrong_options():
    for args in (["run", "--nonsense"], ["run", "-m", "lots"], ["run", "stray"], ["run", "--"],
                 ["run", "-e", "nosuch", "--", "true"], ["run", "-c", "2", "--", "true"],
                 ["run", "--lockstep=0", "--", "true"], ["run", "--bt", "block=0", "--", "true"],
                 ["run", "-e", "interp", "--bt", "miss=on"],
                 ["run", "-e", "interp", "--profile", "x"], ["run", "--bt", "perfmap=x"],
                 ["run", "--bios", "x", "--", "true"], ["run", "-e", "script"], ["doctor", "x"],
                 ["bogus"]):
        status, out, err = ring3(*args)
        check(status == 2 and out == b"" and err.count("\n") == 1 and "try ring3" in err,
              args, status, out, err)


@test(guest=False)
def bad_files():
    for args, part in ((["-k", "/etc/passwd"], "not a kernel"),
                       (["-k", "/nonexistent"], "/nonexistent"),
                       (["-k", "/dev/null"], "empty"), (["--bios", "/etc/passwd"], "4 KiB"),
                       (["-k", "/etc"], "/etc")):
        status, out, err = ring3("run", *args)
        check(status == 125 and out == b"" and err.count("\n") == 1 and part in err,
              args, status, out, err)


@test(guest=False)
def engines_that_are_not_built():
    status, out, err = ring3("run", "-e", "kvm", "--", "true")
    check(status in (0, 125), status, err)
    if status == 125:
        check(err.count("\n") == 1 and "kvm" in err and "-e bt" in err, err)


@test(guest=False)
def doctor():
    status, out, err = ring3("doctor")
    check(status == 0 and b"bt" in out and b"kvm" in out, status, out, err)
    status, out, err = ring3("doctor", "--json")
    found = json.loads(out)
    check([e["name"] for e in found["engines"]] == ["kvm", "bt", "interp", "script"], out)
    check(all(e["works"] for e in found["engines"] if e["name"] in ("bt", "interp")), out)
    kvm = found["engines"][0]
    check(kvm["verdict"] in ("works", "no-node", "no-permission", "no-cpu-support", "dead-node",
                             "refused", "emulates"), kvm)
    check(kvm["works"] == (kvm["verdict"] == "works") == (kvm["reason"] == ""), kvm)
    # The status is about the engine asked for.
    check(ring3("doctor", "-e", "bt")[0] == 0)
    check(ring3("doctor", "-e", "kvm")[0] == (0 if kvm["works"] else 125), kvm)
    check(ring3("doctor", "-e", "nosuch")[0] == 2)


@test(guest=False)
def doctor_without_kvm():
    """What the probe says of nodes that are missing, dead or locked; each with its mend."""
    def verdict(*prefix):
        p = subprocess.run([*prefix, ARGS.ring3, "doctor", "--json"], capture_output=True)
        kvm = json.loads(p.stdout)["engines"][0]
        return kvm["verdict"], kvm["reason"]

    def in_namespace(setup):
        return verdict("unshare", "-m", "sh", "-c", setup + '; exec "$0" "$@"')

    if os.getuid() == 0 and os.path.exists("/dev/kvm") and not os.stat("/dev/kvm").st_mode & 0o004:
        got = verdict("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
        check(got[0] == "no-permission" and "group kvm" in got[1], got)
    may = subprocess.run(["unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt"],
                         capture_output=True).returncode == 0
    if not may:
        return
    got = in_namespace("mount -t tmpfs none /dev")
    check(got[0] in ("no-node", "no-cpu-support") and "-e bt" in got[1], got)
    got = in_namespace("mount -t tmpfs none /dev; mknod /dev/kvm c 1 3")
    check(got[0] in ("dead-node", "refused") and "bt" in got[1] or "device" in got[1], got)


@test(guest=False)
def snapshot_options():
    for words, part in ((["--save", "x"], "--at"), (["--at", "1"], "--save"),
                        (["--save", "x", "--at", "soon"], "soon"),
                        (["--save", "x", "--at", "1", "--", "true"], "command"),
                        (["--restore", "x", "-k", "y"], "--restore")):
        status, out, err = ring3("run", *words)
        check(status == 2 and part in err, words, status, err)
    status, out, err = ring3("run", "--restore", scratch("no.snap", b"hello" * 100))
    check(status == 125 and "no.snap" in err and "no snapshot" in err, status, err)


def scratch(name, data):
    path = os.path.join(DIR.name, name)
    with open(path, "wb") as f:
        f.write(data)
    return path


HELLO = b"".join(b"\xb0%c\xe6\xe9" % c for c in b"hello\n")  # mov al, c; out e9h, al
LEAVE = b"\xb0\x15\xe6\xf4\xf4"  # mov al, 15h; out f4h, al; hlt


@test(guest=False, few=True)
def rom_image():
    """16-bit code from the reset vector, once by way of the shadow below 1 MiB."""
    code = HELLO + LEAVE
    near = code.ljust(0xfff0, b"\xf4") + b"\xe9" + struct.pack("<H", -0xfff3 & 0xffff)
    far = code.ljust(0xfff0, b"\xf4") + b"\xea\0\0\0\xf0"
    for name, rom in (("near", near), ("far", far)):
        log = os.path.join(DIR.name, name + ".log")
        got = run("--bios", scratch(name, rom.ljust(0x10000, b"\xf4")), "--debug-exit", "0xf4",
                  "--debugcon", "0xe9=" + log, "--timeout", "20")
        expect(got, 0x15 << 1 | 1, b"")
        with open(log, "rb") as f:
            check(f.read() == b"hello\n", name)


@test(guest=False, few=True)
def multiboot_kernel():
    load, flags = 0x200000, 0x10000
    head = struct.pack("<8I", 0x1badb002, flags, -(0x1badb002 + flags) & 0xffffffff, load, load, 0,
                       0, load + 0x20)
    kernel = scratch("kernel", head + HELLO + LEAVE)
    status, out, err = run("-k", kernel, "--debug-exit", "0xf4", "--debugcon", "0xe9=-",
                           "--timeout", "20")
    check(status == 0x15 << 1 | 1 and out == b"" and err == "hello\n", status, out, err)
    triple = scratch("triple", head + b"\xcc")
    status, out, err = run("-k", triple, "--timeout", "20")
    check(status == 33 and "triple fault" in err, status, err)
    reset = scratch("reset", head + b"\xb0\xfe\xe6\x64\xf4")
    status, out, err = run("-k", reset, "--timeout", "20")
    check(status == 32 and "reset" in err, status, err)


@test(guest=False)
def device_script():
    good = scratch("good", b"outb 0x3ff 0x5a\ninb 0x3ff == 0x5a\nstep 1ms\ntsc >= 1000000\n")
    expect(ring3("run", "-e", "script", "-s", good), 0, b"")
    wrong = scratch("wrong", b"outb 0x3ff 1\ninb 0x3ff == 2\n")
    status, out, err = ring3("run", "-e", "script", "-s", wrong)
    check(status == 125 and "line 2" in err and err.count("\n") == 1, status, err)
    damaged = scratch("damaged", b"inb\n")
    status, out, err = ring3("run", "-e", "script", "-s", damaged)
    check(status == 125 and damaged in err and "line 1" in err, status, err)


# ---- a command in the guest ----

@test()
def release_alone_on_stdout():
    expect(run("--", "uname", "-r"), 0, kernel_release() + b"\n")


@test(few=True)
def exit_status():
    expect(run("--", "sh", "-c", "exit 7"), 7, b"")


@test(few=True)
def stdin_to_stdout():
    expect(run("--", "tr", "a-z", "A-Z", stdin=b"hello\n"), 0, b"HELLO\n")


@test()
def stderr_apart():
    status, out, err = run("-q", "--", "sh", "-c", "echo err >&2")
    check(status == 0 and out == b"" and err == "err\n", status, out, err)


@test(few=True)
def bulk_through_the_guest():
    data = bytes(range(256)) * 512
    expect(run("--", "cat", stdin=data), 0, data)


@test()
def input_from_a_file_and_from_nowhere():
    data = bytes(reversed(range(256))) * 64
    with open(scratch("input", data), "rb") as f:
        p = subprocess.run([ARGS.ring3, "run", "-q", "-e", ARGS.engine, "--", "cat"], stdin=f,
                           capture_output=True, timeout=BOOT_LIMIT_S)
    check(p.returncode == 0 and p.stdout == data and p.stderr == b"",
          p.returncode, len(p.stdout), p.stderr)
    p = subprocess.run([ARGS.ring3, "run", "-q", "-e", ARGS.engine, "--", "wc", "-c"],
                       stdin=subprocess.DEVNULL, capture_output=True, timeout=BOOT_LIMIT_S)
    check(p.returncode == 0 and p.stdout == b"0\n", p.returncode, p.stdout, p.stderr)


@test()
def slow_reader_loses_nothing():
    p = start("-q", "--", "seq", "1", "40000")
    time.sleep(10)  # more than a boot: the guest is held up, or gone
    out = b""
    while True:
        more = p.stdout.read(2000)
        if not more:
            break
        out += more
        time.sleep(0.01)
    status, err = finish(p)
    wanted = b"".join(b"%d\n" % i for i in range(1, 40001))
    check(status == 0 and out == wanted, status, len(out), err)


@test()
def environment_and_directory():
    expect(run("-E", "COLOUR=blue sky", "-w", "/tmp", "--", "sh", "-c", "pwd; echo $COLOUR"), 0,
           b"/tmp\nblue sky\n")


@test()
def commands_that_cannot_run():
    status, out, err = run("--", "/nonexistent/program")
    check(status == 127 and "/nonexistent/program" in err, status, err)
    status, out, err = run("--", "/tmp")
    check(status == 126 and "/tmp" in err, status, err)


@test()
def killed_command():
    expect(run("--", "sh", "-c", "kill -9 $$"), 137, b"")


@test()
def timeout_is_124():
    began = time.monotonic()
    status, out, err = run("--timeout", "2", "--", "sleep", "100")
    check(status == 124 and time.monotonic() - began < 30, status, err)


@test()
def auto_says_what_it_chose():
    status, out, err = ring3("run", "--", "true")
    check(status == 0 and err.count("\n") == 1, status, err)
    check(err.startswith(("ring3: engine kvm ", "ring3: engine bt ")), err)
    status, out, err = ring3("run", "-q", "--", "true")
    check(status == 0 and err == "", status, err)


@test(few=True)
def json_at_the_end():
    status, out, err = run("--json", "--", "sh", "-c", "exit 3")
    last = json.loads(err.strip().split("\n")[-1])
    check(status == 3 and last["status"] == 3 and last["outcome"] == "command", status, err)
    check(last["engine"] == ARGS.engine and last["boot_ms"] > 0, err)
    print("# boot to the agent: %d ms" % last["boot_ms"])


LOAD = ("cat /bin/busybox | gzip | gunzip | md5sum > /tmp/a; md5sum < /bin/busybox | cmp - /tmp/a && "
        "for i in 1 2 3 4 5; do (echo $i; exit $i) | cat > /dev/null; done; echo fine")


@test()
def lockstep():
    """Translated blocks give what the interpreter gives, one in a hundred of a whole boot."""
    if ARGS.engine != "bt":
        return
    expect(run("-q", "--lockstep=100", "--", "sh", "-c", LOAD), 0, b"fine\n")


BURN = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; sleep 1; echo fine"


@test()
def profile():
    """Samples of a run: every one is counted, in sorted order, and a sleeping guest is asleep."""
    if ARGS.engine != "bt":
        return
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "profile")
        expect(run("-q", "--profile", path, "--bt", "perfmap=off", "--", "sh", "-c", BURN), 0,
               b"fine\n")
        with open(path, encoding="ascii") as f:
            lines = f.read().splitlines()
    total = int(lines[0].split()[1])
    kinds = {words[2]: int(words[1]) for words in map(str.split, lines[1:8])}
    rows = [line.split() for line in lines if not line.startswith("#")]
    guest = [row for row in rows if row[1] != "-"]
    check(total == sum(kinds.values()) == sum(int(row[0]) for row in guest), lines[:10])
    check(kinds["halt"] > 500 and kinds["guest"] > 50 and kinds["translate"] > 20, kinds)
    counts = [int(row[0]) for row in guest]
    check(counts == sorted(counts, reverse=True), counts[:20])
    check({row[1] for row in guest} == {"0", "3"}, "both rings")
    check(any(row[1] == "-" and row[3].startswith("Zydis") for row in rows), "functions of ring3")
    status, out, err = run("--profile", "/nonexistent/x", "--", "true")
    check(status == 125 and "/nonexistent/x" in err, status, err)


@test()
def perf_map():
    """Each line names a piece of translated code; the pieces do not overlap."""
    if ARGS.engine != "bt":
        return
    p = start("-q", "--bt", "perfmap=on", "--", "echo", "fine")
    path = "/tmp/perf-%d.map" % p.pid
    out = p.stdout.read()
    status, err = finish(p)
    with open(path, encoding="ascii") as f:
        rows = [line.split() for line in f]
    os.unlink(path)
    check(status == 0 and out == b"fine\n", status, out, err)
    pieces = sorted((int(row[0], 16), int(row[1], 16)) for row in rows)
    check(len(pieces) > 10000 and all(re.fullmatch("stubs|guest[03]_[0-9a-f]+", row[2]) for row in rows),
          rows[:3])
    check(all(a + n <= b for (a, n), (b, _) in zip(pieces, pieces[1:])), "pieces overlap")


@test()
def four_gigabytes():
    status, out, err = run("-m", "4G", "--", "sh", "-c", "grep MemTotal /proc/meminfo")
    check(status == 0 and int(out.split()[1]) > 3800000, status, out, err)


@test()
def kaslr_is_on():
    bases = set()
    for _ in range(3):
        status, out, err = run("--", "grep", "-w", "-m1", "_text", "/proc/kallsyms")
        check(status == 0, status, err)
        bases.add(out.split()[0])
    check(len(bases) > 1, "the kernel lay at the same address three times:", bases)


@test()
def pvh_kernel():
    vmlinux = os.path.join(ARGS.guest, "vmlinux")
    if not os.path.exists(vmlinux):
        top = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        subprocess.run([os.path.join(top, "tools/guest"), "vmlinux"], check=True, stdout=sys.stderr,
                       env=dict(os.environ, RING3_GUEST_DIR=ARGS.guest))
    expect(run("-k", vmlinux, "--", "uname", "-r"), 0, kernel_release() + b"\n")


class Terminal:
    """The program on a terminal of its own."""

    def __init__(self, *args):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execv(ARGS.ring3, [ARGS.ring3, "run", "-e", ARGS.engine, *args])
        self.text = b""

    def expect(self, part, limit=BOOT_LIMIT_S):
        end = time.monotonic() + limit
        while part not in self.text:
            ready = select.select([self.fd], [], [], max(0, end - time.monotonic()))[0]
            check(ready, "no %r on the terminal: %r" % (part, self.text[-800:]))
            try:
                more = os.read(self.fd, 4096)
            except OSError:
                more = b""
            check(more, "the terminal closed before %r: %r" % (part, self.text[-800:]))
            self.text += more
        self.text = self.text[self.text.index(part) + len(part):]

    def type(self, keys):
        os.write(self.fd, keys)

    def close(self):
        """The exit status; the terminal must be as it was."""
        end = time.monotonic() + 60
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                break
            if time.monotonic() > end:
                os.kill(self.pid, signal.SIGKILL)
            try:
                if select.select([self.fd], [], [], 0.05)[0]:
                    os.read(self.fd, 4096)
            except OSError:
                pass
        cooked = termios.tcgetattr(self.fd)[3] & termios.ICANON
        os.close(self.fd)
        check(cooked, "the terminal was left in raw mode")
        return os.waitstatus_to_exitcode(status)


@test(few=True)
def console_shell():
    t = Terminal()
    t.expect(b"Ctrl-a h")
    t.expect(b"# ")
    t.type(b"echo sum $((40 + 2)); stty size\r")
    t.expect(b"sum 42\r\n")
    t.type(b"exit\r")
    check(t.close() == 0, "status")


@test()
def console_escapes():
    t = Terminal()
    t.expect(b"Ctrl-a h")
    t.type(b"\1h")
    t.expect(b"Ctrl-a x  end the run")
    t.type(b"\1cinfo registers\r")
    t.expect(b"rip ")
    t.type(b"cont\r\1x")
    check(t.close() == 0, "status")


@test()
def command_on_a_terminal():
    t = Terminal("--", "sh", "-c", "tty; read line; echo got $line; exit 5")
    t.expect(b"/dev/pts/")
    t.type(b"abc\r")
    t.expect(b"got abc\r\n")
    check(t.close() == 5, "status")


@test()
def interrupt_key_reaches_the_command():
    t = Terminal("--", "sh", "-c", "echo up; exec sleep 1000")
    t.expect(b"up")
    t.type(b"\3")
    check(t.close() == 130, "status")


@test(few=True)
def kernel_without_root():
    """No initrd: the kernel panics, resets at once, and its last words are shown."""
    empty = os.path.join(ARGS.guest, "vmlinuz")
    status, out, err = run("-k", empty, "-a", "console=ttyS0 panic=-1")
    check(status == 34 and b"Kernel panic" in out, status, out[-400:], err)


@test()
def terminate_ends_the_command():
    p = start("--", "sh", "-c", "echo up; exec sleep 1000")
    line = p.stdout.readline()
    p.send_signal(signal.SIGTERM)
    status, err = finish(p)
    check(line == b"up\n" and status == 143, line, status, err)


@test()
def reader_that_leaves():
    p = start("-q", "--", "yes")
    start_of_output = p.stdout.read(2)
    p.stdout.close()
    status, err = finish(p)
    check(start_of_output == b"y\n" and status == 141, start_of_output, status, err)


def boots_in_a_row():
    times = []
    for i in range(ARGS.boots):
        began = time.monotonic()
        expect(run("--", "echo", str(i)), 0, b"%d\n" % i)
        times.append(time.monotonic() - began)
    print("# %d boots: %.1f to %.1f s" % (len(times), min(times), max(times)))


def run_one(number, name, fn, skipped):
    if skipped:
        print("ok %d - %s # SKIP %s" % (number, name, skipped), flush=True)
        return True
    began = time.monotonic()
    try:
        fn()
        problem = None
    except (Failure, subprocess.SubprocessError, OSError, ValueError) as e:
        problem = "%s: %s" % (type(e).__name__, e)
    print("%sok %d - %s" % ("not " if problem else "", number, name))
    print("# %.1f s" % (time.monotonic() - began), flush=True)
    if problem:
        for line in problem.split("\n"):
            print("# " + line, flush=True)
    return problem is None


def main():
    global ARGS, DIR
    DIR = tempfile.TemporaryDirectory()
    parser = argparse.ArgumentParser()
    parser.add_argument("ring3")
    parser.add_argument("guest")
    parser.add_argument("--engine", default="bt")
    parser.add_argument("--few", action="store_true")
    parser.add_argument("--boots", type=int, default=0)
    parser.add_argument("--only", default="")
    ARGS = parser.parse_args()
    missing = [name for name in ("vmlinuz", "initrd.img")
               if not os.path.exists(os.path.join(ARGS.guest, name))]
    reason = None
    if missing:
        reason = "no %s in %s: run tools/guest" % (" and ".join(missing), ARGS.guest)
    if reason:
        print("# the guest tests are SKIPPED: %s" % reason)
        print("e2e: %s" % reason, file=sys.stderr)
    if ARGS.boots:
        tests.append(("boots in a row", boots_in_a_row, True, True))
    chosen = [t for t in tests if ARGS.only in t[0] and (t[3] or not ARGS.few)]
    print("1..%d" % len(chosen), flush=True)
    good = True
    for number, (name, fn, guest, few) in enumerate(chosen, 1):
        good &= run_one(number, name, fn, reason if guest else None)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
