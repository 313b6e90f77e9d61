#!/usr/bin/env python3
"""The network of a real guest: user mode, forwards, and machines among themselves. Output is TAP.

test_net.py RING3 GUEST_DIR [--engine NAME] [--few] [--only TEXT]

GUEST_DIR is what tools/guest makes; without it all is skipped. --few runs a part: for slow engines.
Servers are this test's own, on the host's loopback.
"""
import argparse
import contextlib
import hashlib
import os
import socket
import subprocess
import sys
import tempfile
import threading

sys.dont_write_bytecode = True
# pylint: disable=wrong-import-position
from guest_tests import check, expect, main, test

LIMIT_S = 180  # for a boot and a command, on a busy machine under sanitizers
BIG = hashlib.sha256(b"seed").digest() * (1 << 18)  # 8 MiB


def md5(data):
    return hashlib.md5(data).hexdigest()


def command(options, script):
    return [ARGS.ring3, "run", "-q", "-e", ARGS.engine, *options, "--", "sh", "-c", script]


def guest(options, script):
    """Runs a shell script in a guest; (status, stdout, stderr)."""
    p = subprocess.run(command(options, script), stdin=subprocess.DEVNULL, capture_output=True,
                       timeout=LIMIT_S, check=False)
    return p.returncode, p.stdout.decode("utf-8", "replace"), p.stderr.decode("utf-8", "replace")


@contextlib.contextmanager
def server(answer):
    """Calls answer(connection) for each caller; yields the port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def run():
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection, contextlib.suppress(OSError):
                    answer(connection)

    threading.Thread(target=run, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.close()


def http(body):
    """An answer that reads a request's head and sends one body."""
    def answer(connection):
        head = b""
        while b"\r\n\r\n" not in head:
            head += connection.recv(4096) or b"\r\n\r\n"
        connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    return answer


@test(few=True)
def a_file_from_the_host():
    with server(http(b"from the host\n")) as port:
        expect(guest([], "wget -qO- http://10.0.2.2:%d/file" % port), "from the host\n")


@test()
def a_large_file_down():
    with server(http(BIG)) as port:
        script = "for i in 1 2 3; do wget -qO- http://10.0.2.2:%d/ | md5sum; done" % port
        expect(guest([], script), ("%s  -\n" % md5(BIG)) * 3)


@test()
def a_large_file_up():
    """With segments of 64 KiB and checksums that the device completes."""
    got = []

    def take(connection):
        data = b""
        while len(data) < len(BIG):
            more = connection.recv(1 << 20)
            if not more:
                break
            data += more
        got.append(md5(data))

    with server(http(BIG)) as down, server(take) as up:
        script = ("wget -qO /tmp/big http://10.0.2.2:%d/ && nc 10.0.2.2 %d < /tmp/big; "
                  "cat /sys/class/net/eth0/carrier" % (down, up))
        expect(guest([], script), "1\n")
    check(got == [md5(BIG)], got)


@test()
def many_connections():
    with server(http(b"x" * 1000)) as port:
        script = ("for i in 0 1 2 3 4 5 6 7 8 9; do (wget -qO- http://10.0.2.2:%d/ | wc -c) & done; "
                  "wait" % port)
        expect(guest([], script), "1000\n" * 10)


@test()
def dhcp_and_names():
    status, out, err = guest([], "ifconfig eth0 0.0.0.0; udhcpc -n -q -t 3 -i eth0 2>&1; "
                                 "nslookup no.such.name.invalid 10.0.2.3 2>&1; true")
    check(status == 0 and "10.0.2.15" in out and "NXDOMAIN" in out or "SERVFAIL" in out or
          "can't" in out, out, err)
    check("lease of 10.0.2.15 obtained" in out, out, err)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as s:
        return s.getsockname()[1]


@test()
def a_port_that_leads_into_the_guest():
    port = free_port()
    script = "echo served > /tmp/page; httpd -p 80 -h /tmp && echo up; read line; echo $line"
    with subprocess.Popen(command(["-p", "%d:80" % port], script), stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE) as p:
        try:
            check(p.stdout.readline() == b"up\n", "the server did not start")
            with socket.create_connection(("127.0.0.1", port), timeout=30) as s:
                s.sendall(b"GET /page HTTP/1.0\r\n\r\n")
                answer = b"".join(iter(lambda: s.recv(4096), b""))
            check(answer.endswith(b"served\n"), answer)
            out, err = p.communicate(b"bye\n", timeout=LIMIT_S)
            check(out == b"bye\n" and p.returncode == 0, out, err)
        finally:
            p.kill()


@test()
def restricted():
    with server(http(b"secret")) as port:
        status, out, _ = guest(["-n", "user,restrict=on"],
                               "wget -T 3 -qO- http://10.0.2.2:%d/ 2>/dev/null" % port)
        check(status != 0 and out == "", status, out)


@test()
def none():
    expect(guest(["-n", "none"], "ls /sys/class/net"), "lo\n")


@test()
def addresses_and_several_interfaces():
    expect(guest(["-n", "user,mac=52:54:00:aa:bb:cc", "-n", "user"],
                 "cat /sys/class/net/eth0/address /sys/class/net/eth1/address"),
           "52:54:00:aa:bb:cc\n52:54:00:12:34:57\n")


def two_machines(first, second):
    """One serves a file, the other fetches it."""
    serve = ("ifconfig eth0 192.168.7.1 up; httpd -p 80 -h /bin && echo up; read line; "
             "cat /sys/class/net/eth0/carrier")
    fetch = ("ifconfig eth0 192.168.7.2 up; i=0; "
             "while [ $i -lt 60 ] && ! ping -c 1 -W 1 192.168.7.1 >/dev/null; do i=$((i+1)); done; "
             "for i in 1 2 3; do wget -qO- http://192.168.7.1/busybox | md5sum; done")
    with open(os.path.join(ARGS.guest, "busybox"), "rb") as f:
        want = "%s  -\n" % md5(f.read())
    with subprocess.Popen(command(["-n", first], serve), stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE) as p:
        try:
            check(p.stdout.readline() == b"up\n", "the server did not start")
            expect(guest(["-n", second], fetch), want * 3)
            out, err = p.communicate(b"\n", timeout=LIMIT_S)
        finally:
            p.kill()
    return out, err


@test()
def two_machines_over_a_stream():
    path = os.path.join(DIR.name, "stream")
    out, err = two_machines("stream,path=%s,server" % path, "stream,path=" + path)
    check(out == b"0\n", "the cable should be out when the peer has left:", out, err)


@test()
def two_machines_over_datagrams():
    a, b = os.path.join(DIR.name, "a"), os.path.join(DIR.name, "b")
    two_machines("dgram,local=%s,remote=%s" % (a, b), "dgram,local=%s,remote=%s" % (b, a))
    check(not os.path.exists(a) and not os.path.exists(b), "sockets are left behind")


@test()
def what_is_refused():
    taken = socket.create_server(("127.0.0.1", 0))
    port = taken.getsockname()[1]
    for options, part, wanted in (
            (["-n", "carrier"], "unknown kind", 2), (["-n", "user,mac=01:00:00:00:00:01"], "mac=", 2),
            (["-n", "stream"], "needs path=", 2), (["-n", "dgram,local=x"], "needs remote=", 2),
            (["-n", "user,mtu=9"], "does not take", 2), (["-p", "80"], "PORT:PORT", 2),
            (["-n", "tap,ifname=a-name-that-is-too-long"], "more than 15", 2),
            (["-n", "none", "-p", "80:80"], "needs an interface", 2),
            (["-n", "none", "-n", "user"], "none goes alone", 2),
            (["-p", "%d:80" % port], "in use", 125),
            (["-n", "stream,path=/no/such/socket"], "is its server running?", 125),
            (["-n", "tap,ifname=ring3-none-0"], "tun", 125)):
        status, out, err = guest(options, "true")
        if "tap" in options[1] and status == 0:
            continue  # who may make one, may
        check(status == wanted and out == "" and part in err or "tap" in options[1], options, status,
              err)
    taken.close()


parser = argparse.ArgumentParser()
parser.add_argument("ring3")
parser.add_argument("guest")
parser.add_argument("--engine", default="bt")
parser.add_argument("--few", action="store_true")
parser.add_argument("--only", default="")
ARGS = parser.parse_args()
with tempfile.TemporaryDirectory() as directory:
    DIR = argparse.Namespace(name=directory)
    sys.exit(main(ARGS, ARGS.guest, "vmlinuz", "initrd.img"))
