#!/usr/bin/env python3
"""Random numbers, console ports, balloon and sockets of a real guest, seen from both sides. Output is
TAP.

test_virtio.py RING3 GUEST_DIR --mkinitrd FILE --vsock-guest FILE [--engine NAME] [--few] [--only TEXT]

GUEST_DIR is what tools/guest makes; without it all that boots is skipped. --few runs a part: for slow
engines.
"""
import argparse
import fcntl
import hashlib
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import time

sys.dont_write_bytecode = True
# pylint: disable=wrong-import-position
from guest_tests import Failure, check, main, test

LIMIT_S = 180  # for a boot and a command, on a busy machine under sanitizers

# In the guest: the device of a named port, which comes a moment after the driver.
PORT = ("port() { n=0; while [ $n -lt 200 ]; do for p in /sys/class/virtio-ports/*; do "
        "[ \"$(cat $p/name 2>/dev/null)\" = $1 ] && { echo /dev/${p##*/}; return; }; done; "
        "sleep 0.05; n=$((n+1)); done; }; ")


def path(name):
    return os.path.join(DIR.name, name)


def start(*args, **more):
    return subprocess.Popen([ARGS.ring3, "run", "-q", "-e", ARGS.engine, *args],
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True, **more)


def finish(p):
    try:
        out, err = p.communicate(timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        p.kill()
        out, err = p.communicate()
    return p.returncode, out, err


def guest(script, *args):
    return finish(start(*args, "--", "sh", "-c", script))


def md5(data):
    return hashlib.md5(data).hexdigest()


def connect(name):
    """A unix socket of ring3, as soon as it is there."""
    end = time.monotonic() + LIMIT_S
    while True:
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(LIMIT_S)
        try:
            s.connect(name)
            return s
        except OSError:
            s.close()
            if time.monotonic() > end:
                raise
            time.sleep(0.02)


def read_all(s, size=None):
    data = b""
    while size is None or len(data) < size:
        part = s.recv(65536)
        if not part:
            break
        data += part
    return data


@test(boots=False)
def wrong_options():
    for args, part in ((["--port", "x"], "NAME=unix:PATH"), (["--port", "=unix:/x"], "NAME="),
                       (["--port", "n=tcp:1"], "NAME=unix:PATH"),
                       (["--vsock", ""], "no path"), (["--vsock", "2,/tmp/x"], "bad CID '2'"),
                       (["--vsock", "cid=9"], "no path"), (["--vsock", "path=/x,q=1"], "q=1"),
                       (["--vsock", "path=" + "x" * 200], "more than")):
        p = subprocess.run([ARGS.ring3, "run", *args, "-k", "/dev/null"], capture_output=True,
                           text=True, timeout=LIMIT_S, check=False)
        check(p.returncode in (2, 125) and part in p.stderr and p.stderr.count("\n") == 1, args, p)


@test(few=True)
def random_numbers():
    status, out, err = guest("cat /sys/class/misc/hw_random/rng_current; "
                             "dd if=/dev/hwrng bs=1k count=8 2>/dev/null | md5sum; "
                             "dd if=/dev/hwrng bs=1k count=8 2>/dev/null | md5sum")
    lines = out.split("\n")
    check(status == 0 and lines[0].startswith("virtio_rng"), status, out, err)
    check(lines[1] != lines[2], out)


@test()
def a_named_port():
    sock, size = path("port"), 3000000
    p = start("--port", "org.test.a=unix:" + sock, "--", "sh", "-c", PORT +
              "p=$(port org.test.a); exec 3<>$p; head -c %d <&3 | md5sum; "
              "head -c %d /dev/urandom > /tmp/r; md5sum < /tmp/r; cat /tmp/r >&3; "
              "read line <&3; echo $line; cat <&3 | wc -c" % (size, size))
    s = connect(sock)
    data = os.urandom(size)
    s.sendall(data)
    got = read_all(s, size)
    s.sendall(b"the end\n")
    s.close()  # the guest's reader sees the end
    status, out, err = finish(p)
    check(status == 0 and out.split() == [md5(data), "-", md5(got), "-", "the", "end", "0"], status,
          out, err)
    check(not os.path.exists(sock), "the socket is left")


@test(few=True)
def the_agent_over_its_port():
    status, out, err = guest("echo out; echo err >&2; exit 7", "-a", "ring3.agent=port")
    check((status, out, err) == (7, "out\n", "err\n"), status, out, err)


@test()
def much_over_the_agents_port():
    data = os.urandom(4000000)
    p = subprocess.run([ARGS.ring3, "run", "-q", "-e", ARGS.engine, "-a", "ring3.agent=port", "--",
                        "sh", "-c", "md5sum; head -c 9000000 /dev/zero"], input=data,
                       capture_output=True, timeout=LIMIT_S, check=False)
    check(p.returncode == 0 and p.stdout == md5(data).encode() + b"  -\n" + bytes(9000000),
          p.returncode, len(p.stdout), p.stderr)


class Terminal:
    """ring3 on a terminal of ours."""

    def __init__(self, *args):
        self.fd, slave = pty.openpty()
        self.resize(33, 101)
        self.p = subprocess.Popen([ARGS.ring3, "run", "-q", "-e", ARGS.engine, *args], stdin=slave,
                                  stdout=slave, stderr=slave, close_fds=True)
        os.close(slave)
        self.seen = b""

    def resize(self, rows, cols):
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))

    def pump(self, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if select.select([self.fd], [], [], 0.05)[0]:
                try:
                    self.seen += os.read(self.fd, 65536)
                except OSError:
                    return

    def until(self, text, limit=LIMIT_S):
        end = time.monotonic() + limit
        while text not in self.seen:
            check(time.monotonic() < end and self.p.poll() is None, "no %r in" % text, self.seen)
            self.pump(0.1)

    def type(self, text):
        os.write(self.fd, text.encode())

    def close(self):
        self.p.kill()
        self.p.wait()
        os.close(self.fd)

    def resident(self):
        """Bytes of guest memory that the host holds."""
        with open("/proc/%d/status" % self.p.pid, encoding="ascii") as f:
            return int(re.search(r"RssShmem:\s+(\d+)", f.read()).group(1)) << 10


@test()
def a_console_on_hvc0():
    with open(path("init"), "w", encoding="ascii") as f:
        f.write("""#!/bin/busybox sh
export PATH=/bin:/sbin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
cd /lib/modules/*; for m in virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci \\
    virtio_console; do insmod $m.ko; done
n=0; while [ ! -c /dev/hvc0 ] && [ $n -lt 100 ]; do sleep 0.1; n=$((n+1)); done
exec setsid sh -i < /dev/hvc0 > /dev/hvc0 2>&1
""")
    os.chmod(path("init"), 0o755)
    initrd = extended("hvc.img", "hvcinit=" + path("init"))
    t = Terminal("--hvc", "-k", os.path.join(ARGS.guest, "vmlinuz"), "-i", initrd, "-a",
                 "console=ttyS0 console=hvc0 quiet panic=-1 rdinit=/hvcinit")
    try:
        t.until(b"# ")
        t.type("echo size $(stty size); grep -c hvc0 /proc/consoles\n")
        t.until(b"size 33 101\r\n1\r\n")
        t.resize(44, 222)
        t.p.send_signal(signal.SIGWINCH)
        for _ in range(50):
            t.type("echo size $(stty size)\n")
            t.pump(0.1)
            if b"size 44 222" in t.seen:
                break
        check(b"size 44 222" in t.seen, t.seen)
        t.type("poweroff -f\n")
        check(t.p.wait(LIMIT_S) == 0, t.seen)
    finally:
        t.close()


@test()
def the_balloon():
    t = Terminal("-m", "1G")
    try:
        t.until(b":/# ")
        t.type("mount -t tmpfs -o size=400m t /mnt; head -c 300000000 /dev/zero > /mnt/x; echo fu''ll\n")
        t.until(b"full")
        full = t.resident()
        t.type("rm /mnt/x; echo go''ne\n")
        t.until(b"gone")
        end = time.monotonic() + 60
        while full - t.resident() < 200000000:  # free pages are reported a few at a time
            check(time.monotonic() < end, "full", full, "freed", t.resident())
            t.pump(0.5)
        t.type("\x01c")
        t.type("balloon 128M\r")
        for _ in range(600):
            t.type("balloon\r")
            t.pump(0.1)
            if b"the guest has 128 MiB, wanted 128 MiB" in t.seen:
                break
        check(b"the guest has 128 MiB, wanted 128 MiB" in t.seen, t.seen)
        check(t.resident() < 300000000, t.resident())
        check(re.search(rb"memory-total +\d{9}", t.seen), t.seen)
        t.type("balloon 2G\r")
        t.until(b"is no size")
        t.type("balloon 1G\r")
        t.pump(1)
        t.type("cont\r")
        t.type("grep -c . /proc/meminfo; poweroff -f\n")
        check(t.p.wait(LIMIT_S) == 0, t.seen)
    finally:
        t.close()


def extended(name, *additions):
    """The default guest's initrd with more files."""
    args = [sys.executable, ARGS.mkinitrd, "--base", os.path.join(ARGS.guest, "initrd.img"), "--out",
            path(name)]
    for addition in additions:
        args += ["--add", addition]
    subprocess.run(args, check=True)
    return path(name)


def vsock(script):
    initrd = extended("vsock.img", "usr/bin/vsock_guest=" + ARGS.vsock_guest)
    return start("-i", initrd, "--vsock", "5," + path("vs"), "--", "sh", "-c",
                 "n=0; while [ ! -e /dev/vsock ] && [ $n -lt 100 ]; do sleep 0.1; n=$((n+1)); done; " +
                 script)


def connect_to_guest(port):
    """The stream to a port of the guest, as soon as something listens there."""
    end = time.monotonic() + LIMIT_S
    while time.monotonic() < end:
        s = connect(path("vs"))
        try:
            s.sendall(b"CONNECT %d\n" % port)
            answer = b""
            while not answer.endswith(b"\n") and (byte := s.recv(1)):
                answer += byte
            if re.fullmatch(rb"OK \d+\n", answer):
                return s
            check(answer == b"", answer)
        except OSError:
            pass
        s.close()
        time.sleep(0.05)
    raise Failure("nothing listens at port %d of the guest" % port)


@test()
def sockets_from_the_guest():
    size = 8000000
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path("vs_52"))
        listener.listen()
        listener.settimeout(LIMIT_S)
        p = vsock("vsock_guest connect 53 </dev/null; head -c %d /dev/urandom > /tmp/r; "
                  "md5sum < /tmp/r; vsock_guest connect 52 < /tmp/r | md5sum" % size)
        s = listener.accept()[0]
        s.settimeout(LIMIT_S)
        got = read_all(s)  # up to the end of the guest's half
        data = os.urandom(size)
        s.sendall(data)
        s.close()
        status, out, err = finish(p)
    check(status == 0 and len(got) == size, status, len(got), out, err)
    check(out.split() == [md5(got), "-", md5(data), "-"], out, err)
    check("connect: " in err, err)  # nobody at port 53


@test(few=True)
def sockets_to_the_guest():
    data = os.urandom(200000 if ARGS.few else 8000000)
    p = vsock("vsock_guest listen 77 < /dev/null | md5sum; "
              "echo reply | vsock_guest listen 78; echo closed")
    s = connect_to_guest(77)
    s.sendall(data)
    s.shutdown(socket.SHUT_WR)
    check(read_all(s) == b"", "the guest said something")
    s.close()
    s = connect_to_guest(78)
    check(s.recv(100) == b"reply\n" and s.recv(100) == b"", "no reply")
    s.close()
    status, out, err = finish(p)
    check(status == 0 and out == "%s  -\nclosed\n" % md5(data), status, out, err)
    check(not os.path.exists(path("vs")), "the socket is left")


@test()
def many_sockets():
    p = vsock("for i in 1 2 3 4 5 6 7 8; do (vsock_guest listen $((100 + i)) | md5sum) < /dev/null & "
              "done; wait")
    data = [os.urandom(100000 * i) for i in range(1, 9)]
    peers = [connect_to_guest(100 + i) for i in range(1, 9)]
    left = list(data)
    while any(left):
        for i, s in enumerate(peers):
            if left[i]:
                s.sendall(left[i][:50000])
                left[i] = left[i][50000:]
    for s in peers:
        s.shutdown(socket.SHUT_WR)
    status, out, err = finish(p)
    check(status == 0 and sorted(out.split()) == sorted([md5(d) for d in data] + ["-"] * 8), out, err)


parser = argparse.ArgumentParser()
parser.add_argument("ring3")
parser.add_argument("guest")
parser.add_argument("--mkinitrd", required=True)
parser.add_argument("--vsock-guest", required=True)
parser.add_argument("--engine", default="bt")
parser.add_argument("--few", action="store_true")
parser.add_argument("--only", default="")
ARGS = parser.parse_args()
signal.alarm(3000)
with tempfile.TemporaryDirectory(prefix="ring3-virtio-") as directory:
    class DIR:
        name = directory
    sys.exit(main(ARGS, ARGS.guest, "vmlinuz", "initrd.img"))
