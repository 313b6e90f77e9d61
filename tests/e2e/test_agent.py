#!/usr/bin/env python3
"""Drives the guest agent over a socketpair, as the monitor does over a serial port.

usage: test_agent.py AGENT          prints TAP

The protocol is written down here a second time on purpose: it checks proto.h from outside.
"""
import errno
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import time

SPEC, EXEC, STDIN, STDIN_EOF, WINSIZE, SIGNAL = range(1, 7)
READY, STDOUT, STDERR, CREDIT, EXIT = range(0x81, 0x86)
EXITED, SIGNALED, FAILED, UNSTARTED = range(4)
SYNC = b"\nR3AGENT1\n"
TTY = 1
TIMEOUT_S = 30


class Agent:
    """One agent process and the host's half of one conversation."""

    def __init__(self):
        self.sock, theirs = socket.socketpair()
        self.process = subprocess.Popen(
            [AGENT, "--serve", str(theirs.fileno())], pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
        theirs.close()
        self.deadline = time.monotonic() + TIMEOUT_S
        self.bytes = b""
        self.credit = 0
        self.credited = 0
        self.out = {STDOUT: b"", STDERR: b""}
        self.exit = None
        while SYNC not in self.bytes:
            self.receive()
        self.bytes = self.bytes.split(SYNC, 1)[1]
        assert self.frame() == (READY, struct.pack("<II", 1, 0))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()
        self.process.kill()
        self.process.wait()
        self.process.stderr.close()

    def receive(self):
        left = self.deadline - time.monotonic()
        assert left > 0 and select.select([self.sock], [], [], left)[0], "the agent is silent"
        got = self.sock.recv(65536)
        assert got, "the agent is gone"
        self.bytes += got

    def frame(self):
        while len(self.bytes) < 4 or len(self.bytes) < 4 + struct.unpack("<H", self.bytes[2:4])[0]:
            self.receive()
        magic, kind, size = struct.unpack("<BBH", self.bytes[:4])
        assert magic == 0xA3 and size <= 4096
        payload, self.bytes = self.bytes[4:4 + size], self.bytes[4 + size:]
        return kind, payload

    def step(self):
        """Takes one frame from the guest."""
        kind, payload = self.frame()
        if kind == CREDIT:
            self.credit += struct.unpack("<I", payload)[0]
            self.credited += struct.unpack("<I", payload)[0]
        elif kind == EXIT:
            self.exit = struct.unpack("<BI", payload)
        else:
            self.out[kind] += payload
        return kind

    def send(self, kind, payload=b""):
        try:
            self.sock.sendall(struct.pack("<BBH", 0xA3, kind, len(payload)) + payload)
        except BrokenPipeError:
            pass  # EXIT says why

    def send_credited(self, kind, data, piece=4096):
        while data and self.exit is None:
            size = min(len(data), piece, self.credit)
            if size == 0:
                self.step()
                continue
            self.send(kind, data[:size])
            self.credit -= size
            data = data[size:]

    def run(self, *argv, tty=False, rows=0, cols=0, cwd="", env=()):
        strings = [cwd, *argv, *env]
        self.send_credited(SPEC, b"".join(s.encode() + b"\0" for s in strings))
        self.send(EXEC, struct.pack("<IHHHH", TTY if tty else 0, rows, cols, len(argv), len(env)))

    def finish(self):
        """Receives until EXIT, which must be the last thing, and returns it."""
        while self.exit is None:
            self.step()
        assert self.process.wait(TIMEOUT_S) == 0
        try:
            assert not self.bytes and self.sock.recv(1) == b"", "bytes after EXIT"
        except ConnectionResetError:
            pass  # it ended without reading all we sent
        return self.exit

    def wait_output(self, text, stream=STDOUT):
        while text not in self.out[stream]:
            assert self.exit is None, self.out
            self.step()


def test_exit_status_and_separate_streams():
    with Agent() as a:
        a.run("sh", "-c", "echo out; echo err >&2; exit 42")
        assert a.finish() == (EXITED, 42)
        assert a.out == {STDOUT: b"out\n", STDERR: b"err\n"}, a.out


def test_initial_credit_is_the_window():
    with Agent() as a:
        a.step()
        assert a.credit == 8192
        a.run("true")
        assert a.finish() == (EXITED, 0)


def test_one_mebibyte_through_a_command():
    data = bytes(range(97, 123)) * (1024 * 1024 // 26 + 1)
    with Agent() as a:
        a.run("tr", "a-z", "A-Z")
        a.send_credited(STDIN, data)
        a.send(STDIN_EOF)
        assert a.finish() == (EXITED, 0)
        assert a.out[STDOUT] == data.upper()


def test_one_byte_frames():
    data = os.urandom(5000)
    with Agent() as a:
        a.run("cat")
        a.send_credited(STDIN, data, piece=1)
        a.send(STDIN_EOF)
        assert a.finish() == (EXITED, 0)
        assert a.out[STDOUT] == data


def test_output_before_exit_is_whole():
    with Agent() as a:
        a.run("head", "-c", "3000000", "/dev/zero")
        time.sleep(0.5)  # back-pressure: the command must wait, not lose
        assert a.finish() == (EXITED, 0)
        assert a.out[STDOUT] == bytes(3000000)


def test_full_output_does_not_stop_input_or_the_other_stream():
    with Agent() as a:
        a.run("sh", "-c", "yes e | head -c 300000 >&2 & yes o | head -c 300000; wait; cat")
        a.send_credited(STDIN, b"tail")
        a.send(STDIN_EOF)
        assert a.finish() == (EXITED, 0)
        assert len(a.out[STDERR]) == 300000
        assert len(a.out[STDOUT]) == 300004 and a.out[STDOUT].endswith(b"tail")


def test_death_by_signal():
    with Agent() as a:
        a.run("sh", "-c", "kill -SEGV $$")
        assert a.finish() == (SIGNALED, signal.SIGSEGV)


def test_signal_frame_reaches_the_process_group():
    with Agent() as a:
        a.run("sh", "-c", "trap 'echo got; exit 5' TERM; echo up; sleep 20")
        a.wait_output(b"up\n")
        a.send(SIGNAL, bytes([signal.SIGTERM]))
        assert a.finish() == (EXITED, 5)
        assert a.out[STDOUT] == b"up\ngot\n"


def test_signals_are_default_in_the_command():
    with Agent() as a:
        a.run("sh", "-c", "grep -E '^Sig(Blk|Ign):' /proc/self/status")
        assert a.finish() == (EXITED, 0)
        masks = [int(word, 16) for word in a.out[STDOUT].split()[1::2]]
        libc_own = 3 << 31  # 32 and 33: inherited, and out of a program's reach
        assert len(masks) == 2 and not any(mask & ~libc_own for mask in masks), a.out


def test_no_descriptor_leaks_into_the_command():
    with Agent() as a:
        a.run("sh", "-c", "for f in 3 4 5 6 7 8 9; do [ ! -e /proc/$$/fd/$f ] || echo $f; done")
        assert a.finish() == (EXITED, 0)
        assert a.out[STDOUT] == b"", a.out


def test_command_not_found():
    with Agent() as a:
        a.run("/no/such/file")
        assert a.finish() == (FAILED, errno.ENOENT)


def test_command_not_executable():
    with Agent() as a:
        a.run("/etc/passwd")
        assert a.finish() == (FAILED, errno.EACCES)


def test_directory_missing():
    with Agent() as a:
        a.run("true", cwd="/no/such/dir")
        assert a.finish() == (UNSTARTED, errno.ENOENT)


def test_directory_and_environment():
    with Agent() as a:
        a.run("sh", "-c", 'pwd; echo "$A|$B"', cwd="/usr", env=("A=1 2", "B="))
        assert a.finish() == (EXITED, 0)
        assert a.out[STDOUT] == b"/usr\n1 2|\n"


def test_empty_argument():
    with Agent() as a:
        a.run("sh", "-c", 'echo "$#:$1:$2"', "x", "", "b")
        assert a.finish() == (EXITED, 0)
        assert a.out[STDOUT] == b"2::b\n"


def test_spec_larger_than_the_window():
    big = "x" * 100000
    with Agent() as a:
        a.run("sh", "-c", 'echo "${#1}"', "x", big)
        assert a.finish() == (EXITED, 0)
        assert a.out[STDOUT] == b"100000\n"


def test_stdin_closed_early_keeps_credits_flowing():
    with Agent() as a:
        a.run("sh", "-c", "exec <&-; sleep 0.3; echo alive")
        a.send_credited(STDIN, bytes(200000))
        assert a.exit is None or a.out[STDOUT] == b"alive\n"
        assert a.credited >= 8192 + 180000, a.credited
        if a.exit is None:
            a.send(STDIN_EOF)
        assert a.finish() == (EXITED, 0)
        assert a.out[STDOUT] == b"alive\n"


def test_command_that_never_reads_stdin():
    with Agent() as a:
        a.run("true")
        a.send_credited(STDIN, bytes(4096))
        assert a.finish() == (EXITED, 0)


def test_descendant_holds_stdout():
    with Agent() as a:
        a.run("sh", "-c", "sleep 3 & echo hi; exit 7")
        a.wait_output(b"hi\n")
        start = time.monotonic()
        assert a.finish() == (EXITED, 7)
        took = time.monotonic() - start
        assert took < 1.5, took


def test_descendant_writes_in_the_linger():
    with Agent() as a:
        a.run("sh", "-c", "(sleep 0.05; echo late) & exit 0")
        assert a.finish() == (EXITED, 0)
        assert a.out[STDOUT] == b"late\n"


def test_descendant_that_never_stops_writing():
    with Agent() as a:
        a.run("sh", "-c", "yes & echo $! >&2; exit 3")
        assert a.finish() == (EXITED, 3)
        try:
            os.kill(int(a.out[STDERR]), signal.SIGKILL)
        except ProcessLookupError:
            pass  # SIGPIPE was there first


def test_pty_size_and_resize():
    with Agent() as a:
        a.run("sh", "-c", "trap 'stty size; exit' WINCH; tty; stty size; echo up; "
              "while :; do sleep 0.05; done", tty=True, rows=33, cols=101)
        a.wait_output(b"up\r\n")
        assert b"/dev/pts/" in a.out[STDOUT] and b"33 101\r\n" in a.out[STDOUT], a.out
        a.send(WINSIZE, struct.pack("<HH", 50, 132))
        assert a.finish() == (EXITED, 0)
        assert a.out[STDOUT].endswith(b"50 132\r\n"), a.out
        assert a.out[STDERR] == b""


def test_pty_interrupt_character():
    with Agent() as a:
        a.run("sh", "-c", "echo up; sleep 20", tty=True)
        a.wait_output(b"up\r\n")
        a.send_credited(STDIN, b"\x03")
        assert a.finish() == (SIGNALED, signal.SIGINT)


def test_pty_job_control():
    with Agent() as a:
        a.run("sh", "-i", tty=True, env=("PS1=$ ", "ENV="))
        a.send_credited(STDIN, b"sleep 20 & jobs; kill %1; echo don''e; exit 9\n")
        assert a.finish() == (EXITED, 9)
        assert b"Running" in a.out[STDOUT] and b"done\r\n" in a.out[STDOUT], a.out
        assert b"job control turned off" not in a.out[STDOUT], a.out


def test_pty_end_of_input():
    for text in (b"line\n", b"line\nopen", b""):
        with Agent() as a:
            a.run("sh", "-c", "stty -echo; echo up; cat", tty=True)
            a.wait_output(b"up\r\n")
            a.send_credited(STDIN, text)
            a.send(STDIN_EOF)
            assert a.finish() == (EXITED, 0)
            assert a.out[STDOUT] == b"up\r\n" + text.replace(b"\n", b"\r\n"), a.out


def test_pty_output_is_whole():
    with Agent() as a:
        a.run("sh", "-c", "stty -opost; yes 0123456789 | head -c 500000", tty=True)
        assert a.finish() == (EXITED, 0)
        assert a.out[STDOUT] == (b"0123456789\n" * 50000)[:500000]


def refused(talk):
    """The agent answers with EXIT{FAILED, EPROTO} and says so on its stderr."""
    with Agent() as a:
        talk(a)
        assert a.finish() == (FAILED, errno.EPROTO), a.exit
        assert b"malformed" in a.process.stderr.read()


def run_sleep(agent):
    while not agent.credit:
        agent.step()
    agent.run("sleep", "20")


def test_refuses_malformed_frames():
    spec = b"\0true\0"
    one = struct.pack("<IHHHH", 0, 0, 0, 1, 0)

    def sequence(*frames):
        def talk(agent):
            for frame in frames:
                agent.send(*frame)
        return talk

    refused(lambda a: a.sock.sendall(b"garbage"))
    refused(lambda a: a.sock.sendall(b"\xa3\x01\x01\x10"))
    refused(sequence((0x7F,)))
    refused(sequence((READY, bytes(8))))
    refused(sequence((EXEC, one)))
    refused(sequence((STDIN, b"early")))
    refused(sequence((SPEC, spec), (EXEC, one[:-1])))
    refused(sequence((SPEC, spec), (EXEC, b"\x80" + one[1:])))
    refused(sequence((SPEC, spec), (EXEC, struct.pack("<IHHHH", 0, 0, 0, 0, 0))))
    refused(sequence((SPEC, spec), (EXEC, struct.pack("<IHHHH", 0, 0, 0, 2, 0))))
    refused(sequence((SPEC, spec), (EXEC, struct.pack("<IHHHH", 0, 0, 0, 65535, 65535))))
    refused(sequence((SPEC, spec + b"more\0"), (EXEC, one)))
    refused(sequence((SPEC, spec[:-1]), (EXEC, one)))
    refused(sequence((WINSIZE, b"\0")))
    refused(sequence((SIGNAL, b"\0")))


def test_refuses_malformed_frames_while_running():
    refused(lambda a: (run_sleep(a), a.send(EXEC, struct.pack("<IHHHH", 0, 0, 0, 1, 0))))
    refused(lambda a: (run_sleep(a), a.send(SPEC, b"x")))
    refused(lambda a: (run_sleep(a), a.send(STDIN_EOF), a.send(STDIN_EOF)))
    refused(lambda a: (run_sleep(a), a.send(STDIN_EOF), a.send(STDIN, b"x")))
    refused(lambda a: (run_sleep(a), [a.send(STDIN, bytes(4096)) for _ in range(40)]))


def test_spec_is_bounded():
    with Agent() as a:
        a.send_credited(SPEC, bytes(1024 * 1024 + 1))
        assert a.finish() == (FAILED, errno.EPROTO)


def test_host_gone_kills_the_command():
    with Agent() as a:
        a.run("sh", "-c", "echo $$; exec sleep 20")
        a.wait_output(b"\n")
        a.sock.close()
        assert a.process.wait(TIMEOUT_S) == 1
        pid = int(a.out[STDOUT])
        for _ in range(100):
            try:
                with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
                    if ") Z " in stat.read():
                        return
            except OSError:
                return
            time.sleep(0.02)
        raise AssertionError("the command still runs")


def test_waiting_agent_uses_no_time():
    """With streams at their end, with output nobody takes, and with plain silence."""
    for script in ("exec 1>&- 2>&-; sleep 1", "yes", "sleep 1"):
        with Agent() as a:
            a.run("sh", "-c", script)
            time.sleep(0.7)
            with open(f"/proc/{a.process.pid}/stat", encoding="ascii") as stat:
                ticks = sum(int(t) for t in stat.read().rsplit(")", 1)[1].split()[11:13])
            assert ticks < 10, (script, ticks)


def main():
    tests = [(name[5:], run) for name, run in globals().items() if name.startswith("test_")]
    print(f"1..{len(tests)}")
    failed = 0
    for number, (name, run) in enumerate(tests, 1):
        try:
            run()
            print(f"ok {number} - {name}")
        except Exception as error:  # a broken test must not hide the next one
            failed += 1
            print(f"not ok {number} - {name}")
            print(f"# {type(error).__name__}: {str(error)[:500]!r}")
        sys.stdout.flush()
    return 1 if failed else 0


if len(sys.argv) != 2:
    sys.exit(__doc__)
AGENT = sys.argv[1]
sys.exit(main())
