#!/usr/bin/env python3
"""A Debian disk with systemd, as `tools/guest debian` makes it. Output is TAP.

test_debian.py RING3 GUEST_DIR [--engine NAME] [--only TEXT]

Without GUEST_DIR/debian.img all is skipped. The disk itself stays as it is: guests write to a copy.
"""
import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

LIMIT_S = 240  # for a boot and a command, on a busy machine
SKIP = "no debian.img (tools/guest debian makes it)"

tests = []


def test(fn):
    tests.append((fn.__name__.replace("_", " "), fn))
    return fn


class Failure(Exception):
    pass


def check(condition, *what):
    if not condition:
        raise Failure(" ".join(str(w) for w in what))


def fresh_disk():
    """A sparse copy; a reflink where the file system of the host has them."""
    copy = os.path.join(DIR.name, "debian.img")
    subprocess.run(["cp", "--sparse=always", "--reflink=auto",
                    os.path.join(ARGS.guest, "debian.img"), copy], check=True)
    return copy


def command(*more):
    return [ARGS.ring3, "run", "-q", "-e", ARGS.engine, "-m", "1G", "-d", fresh_disk(), *more]


def run(script, stdin=b"", more=()):
    p = subprocess.run([*command(*more), "--", "bash", "-c", script], input=stdin,
                       capture_output=True, timeout=LIMIT_S, check=False)
    return p.returncode, p.stdout.decode(), p.stderr.decode()


def serve_once(text):
    """A server on the loopback of the host that says `text` to who connects; its port."""
    server = socket.create_server(("127.0.0.1", 0))

    def answer():
        server.settimeout(LIMIT_S)
        try:
            with server, server.accept()[0] as peer:
                peer.sendall(text)
        except OSError:
            pass
    threading.Thread(target=answer, daemon=True).start()
    return server.getsockname()[1]


@test
def a_command_finds_a_system_that_runs():
    """Start-up is complete, nothing failed, the network is there; status and stdin are carried."""
    port = serve_once(b"from the host\n")
    status, out, err = run(
        "systemctl is-system-running --wait; echo $?; "
        "systemctl list-units --state=failed --no-legend; "
        "grep -c '^nameserver' /etc/resolv.conf; systemctl is-active ssh.socket; "
        "cat </dev/tcp/10.0.2.2/%d; findmnt -n -o FSTYPE /; "
        "tr a-z A-Z; exit 7" % port, b"hello\n")
    want = "running\n0\n1\nactive\nfrom the host\next4\nHELLO\n"
    check(out == want, "stdout %r, expected %r; stderr %s" % (out, want, err))
    check(status == 7, "status", status, "expected 7; stderr", err)


@test
def after_a_command_the_disk_is_whole():
    """What a command wrote is there after it, and the file system was left in good order."""
    status, out, err = run("echo kept > /root/kept; dd if=/dev/urandom of=/root/big bs=1M count=20 "
                           "2>/dev/null; md5sum < /root/big > /root/sum; rm /etc/hostname")
    check(status == 0, "status", status, out, err)
    image = os.path.join(DIR.name, "debian.img")
    fsck = subprocess.run(["e2fsck", "-fn", image], capture_output=True, text=True, check=False)
    check(fsck.returncode == 0, fsck.stdout)
    shown = subprocess.run(["debugfs", "-R", "cat /root/kept", image], capture_output=True,
                           text=True, check=False)
    check(shown.stdout == "kept\n", shown.stdout, shown.stderr)


def wait_banner(port, process, until):
    """The first line of the ssh server behind a forward."""
    while time.monotonic() < until and process.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=20) as s:
                line = s.makefile("rb").readline()
                if line:
                    return line
        except OSError:
            pass
        time.sleep(0.3)
    return b""


@test
def the_console_has_a_login_and_the_power_button_works():
    """ssh answers through a forward; SIGTERM is the power button, which ends the system cleanly."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    until = time.monotonic() + LIMIT_S
    log = os.path.join(DIR.name, "console")
    with open(log, "wb") as out, subprocess.Popen(
            command("-p", "%d:22" % port), stdin=subprocess.PIPE, stdout=out,
            stderr=subprocess.STDOUT) as p:
        def console():
            with open(log, "rb") as file:
                return file.read()
        try:
            while b"debian login:" not in console() and time.monotonic() < until:
                check(p.poll() is None, "it ended:", console()[-2000:])
                time.sleep(0.2)
            check(b"debian login:" in console(), "no login:", console()[-2000:])
            banner = wait_banner(port, p, until)
            check(banner.startswith(b"SSH-2.0-OpenSSH"), "banner", banner)
            p.send_signal(signal.SIGTERM)
            check(p.wait(LIMIT_S) == 0, "status", p.returncode, console()[-2000:])
        finally:
            p.kill()


def main():
    for tool in ("e2fsck", "debugfs"):
        check(shutil.which(tool), tool, "is missing")
    chosen = [t for t in tests if not ARGS.only or ARGS.only in t[0]]
    print("1..%d" % len(chosen))
    failed = False
    for number, (name, fn) in enumerate(chosen, 1):
        started = time.monotonic()
        try:
            fn()
            print("ok %d - %s # %.0f s" % (number, name, time.monotonic() - started), flush=True)
        except (Failure, subprocess.TimeoutExpired) as e:
            failed = True
            print("not ok %d - %s\n# %s" % (number, name, str(e).replace("\n", "\n# ")), flush=True)
    return 1 if failed else 0


parser = argparse.ArgumentParser()
parser.add_argument("ring3")
parser.add_argument("guest")
parser.add_argument("--engine", default="auto")
parser.add_argument("--only", default="")
ARGS = parser.parse_args()
os.environ["PATH"] += ":/usr/sbin:/sbin"
if not os.path.exists(os.path.join(ARGS.guest, "debian.img")):
    print("1..0 # SKIP " + SKIP)
    sys.exit(0)
with tempfile.TemporaryDirectory(dir=ARGS.guest) as name:
    DIR = argparse.Namespace(name=name)
    sys.exit(main())
