"""The sides of the bench: the host itself, ring3 with one of its engines, and QEMU's TCG.

Every side runs the same static program, ringbench; the machines boot it as their first process,
from the same kernel and initial RAM disk, and it reports on the first serial port.
"""
import contextlib
import json
import os
import re
import signal
import subprocess
import threading
import time

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.path.join(TOP, os.environ.get("RING3_BUILD", "build"))
GUEST = os.environ.get("RING3_GUEST_DIR", os.path.join(TOP, "build/guest"))
RING3 = os.path.join(BUILD, "ring3")
RINGBENCH = os.path.join(BUILD, "bench/ringbench")
PROGRAMS = os.path.join(GUEST, "programs")
KERNEL = os.path.join(GUEST, "vmlinuz")
INITRD = os.path.join(GUEST, "initrd.img")
DEBIAN = os.path.join(GUEST, "debian.img")
BENCH_INITRD = os.path.join(BUILD, "bench-initrd")
BENCH_DISK = os.path.join(BUILD, "bench-disk")
DISK_MIB = 64
QEMU = "qemu-system-x86_64"

MEMORY_MIB = "512"
CONSOLE = "console=ttyS0 quiet panic=-1"
LIMIT_S = 180       # for one boot with all its rows
GIVE_UP = 3         # a side that lost so many rows loses the others, too
CLOCK_TOLERANCE = 0.1
CLOCK_MIN_S = 1     # shorter runs say nothing about a clock

RESULT = re.compile(r"(\S+) (\d+) ([0-9a-f]+)$")
NO_RESULT = re.compile(r"(\S+) (skip|fail) (.+)$")
END = re.compile(r"end (\d+)$")


class Broken(Exception):
    """A side that cannot run at all."""


class Output:
    """What one run of ringbench printed."""

    def __init__(self):
        self.results = {}   # row: (ns, checksum)
        self.reasons = {}   # row: why it has no result
        self.began = self.ended = None  # host time
        self.own_s = None   # between the two by the machine's own clock
        self.tail = []

    def line(self, text):
        self.tail = self.tail[-4:] + [text]
        if text == "begin":
            self.began = time.monotonic()
        elif self.began and END.match(text):
            self.ended = time.monotonic()
            self.own_s = int(END.match(text)[1]) / 1e9
        elif self.began and RESULT.match(text):
            name, ns, checksum = RESULT.match(text).groups()
            self.results[name] = int(ns), checksum
        elif self.began and NO_RESULT.match(text):
            name, _, reason = NO_RESULT.match(text).groups()
            self.reasons[name] = reason


@contextlib.contextmanager
def started(command):
    """A process and its output on `stdout`; killed at the end or in time, with its children."""
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, start_new_session=True) as process:
        def kill():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        timer = threading.Timer(LIMIT_S, kill)
        timer.start()
        try:
            yield process
        finally:
            timer.cancel()
            kill()


def run_ringbench(command):
    """Runs one side's command to its end and returns its Output."""
    output = Output()
    with started(command) as process:
        for raw in process.stdout:
            text = raw.decode("utf-8", "replace").strip()
            if text:
                output.line(text)
    return output


class Side:
    """One column of the table."""

    def __init__(self, name):
        self.name = name
        self.notes = []     # for the user, each once
        self.given_up = set()

    def note(self, text):
        if text not in self.notes:
            self.notes.append(text)

    def command(self, words):
        """The command that runs ringbench with these words."""
        raise NotImplementedError

    def boot_ns(self):
        """From the start of the monitor to an agent that is up, or None."""
        return None

    def debian_ns(self):
        """From the start of the monitor to the login prompt of a Debian disk, or None."""
        return None

    def check_clock(self, output):
        host_s = output.ended - output.began
        if host_s > CLOCK_MIN_S and abs(output.own_s / host_s - 1) > CLOCK_TOLERANCE:
            self.note("its clock counted %.1f s in %.1f s: do not trust its times" %
                      (output.own_s, host_s))

    def measure(self, rows, reps, limit_ms):
        """{row: (ns, checksum)}. A row that ends the run is given up; the others go on."""
        results = {}
        todo = [row for row in rows if row not in self.given_up]
        lost = 0
        while todo:
            words = ["--reps", str(reps), "--limit", str(limit_ms), "--rows", ",".join(todo)]
            output = run_ringbench(self.command(words))
            if not output.began:
                raise Broken("ringbench did not begin: " + ("; ".join(output.tail) or "no output"))
            results.update(output.results)
            for row, reason in output.reasons.items():
                self.note("%s: %s" % (row, reason))
                self.given_up.add(row)
            if output.ended:
                self.check_clock(output)
                break
            todo = [row for row in todo if row not in results and row not in self.given_up]
            if todo:
                lost += 1
                self.given_up.add(todo[0])
                self.note("%s: the run ended, or did not within %d s; its last words: %s" %
                          (todo.pop(0), LIMIT_S, "; ".join(output.tail)))
            if lost == GIVE_UP:
                self.given_up.update(todo)
                break
        return results


class Native(Side):
    """The host."""

    def command(self, words):
        return [RINGBENCH, "--programs", PROGRAMS, "--disk", BENCH_DISK, *words]


class Ring3(Side):
    """ring3 with the engine of this name."""

    def command(self, words):
        return [RING3, "run", "-q", "-e", self.name, "-m", MEMORY_MIB, "-k", KERNEL,
                "-i", BENCH_INITRD, "-d", BENCH_DISK + ",data", "-a", kernel_words(words)]

    def boot_ns(self):
        command = [RING3, "run", "-q", "-e", self.name, "-m", MEMORY_MIB, "--json", "--", "true"]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              check=False, timeout=LIMIT_S)
        lines = done.stderr.strip().splitlines()
        if done.returncode:
            raise Broken("; ".join(lines[-3:]))
        return json.loads(lines[-1])["boot_ms"] * 1000000


    def debian_ns(self):
        return until_login([RING3, "run", "-q", "-e", self.name, "-m", MEMORY_MIB,
                            "-d", DEBIAN + ",snapshot"])


class Qemu(Side):
    """QEMU without hardware virtualization."""

    MACHINE = [QEMU, "-accel", "tcg", "-cpu", "max", "-m", MEMORY_MIB, "-nodefaults", "-no-reboot",
               "-display", "none", "-kernel", KERNEL]

    def command(self, words):
        return [*self.MACHINE, "-serial", "stdio", "-initrd", BENCH_INITRD,
                "-drive", "if=none,id=disk,format=raw,file=" + BENCH_DISK,
                "-device", "virtio-blk-pci,drive=disk,disable-legacy=on",
                "-append", kernel_words(words)]

    def boot_ns(self):
        """The agent speaks first, on the second serial port."""
        command = [*self.MACHINE, "-serial", "null", "-serial", "stdio", "-initrd", INITRD,
                   "-append", CONSOLE + " ring3.agent=ttyS1"]
        begin = time.monotonic()
        with started(command) as process:
            up = any(b"R3AGENT" in line for line in process.stdout)
            took = time.monotonic() - begin
        return int(took * 1e9) if up else None


    def debian_ns(self):
        """The same kernel, initial RAM disk, disk and devices as ring3 gives."""
        return until_login([*self.MACHINE, "-serial", "stdio", "-initrd", INITRD,
                            "-drive", "if=none,id=disk,format=raw,snapshot=on,file=" + DEBIAN,
                            "-device", "virtio-blk-pci,drive=disk,disable-legacy=on",
                            "-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net",
                            "-device", "virtio-rng-pci", "-append",
                            CONSOLE + " ring3.root=/dev/vda"])


def until_login(command):
    """Host time until the console asks for a login: systemd has started its services by then."""
    begin = time.monotonic()
    with started(command) as process:
        text = b""
        while b"login:" not in text:
            more = os.read(process.stdout.fileno(), 4096)
            if not more:
                raise Broken("Debian did not come up: " + repr(text[-300:]))
            text = text[-100:] + more
        return int((time.monotonic() - begin) * 1e9)


def kernel_words(words):
    """A kernel command line that starts ringbench with these words."""
    return "%s rdinit=/bench/ringbench -- --disk /dev/vda %s" % (CONSOLE, " ".join(words))


def make_initrd():
    """The default guest's root with /bench added."""
    add = ["bench=" + PROGRAMS] if os.path.isdir(PROGRAMS) else []
    subprocess.run([os.path.join(TOP, "tools/mkinitrd.py"), "--base", INITRD, *(
        word for item in [*add, "bench/ringbench=" + RINGBENCH] for word in ("--add", item)),
        "--out", BENCH_INITRD], check=True)


def make_disk():
    """A file without holes, on stable storage."""
    with open(BENCH_DISK, "wb") as f:
        for _ in range(DISK_MIB):
            f.write(b"ring" * (1 << 18))
        f.flush()
        os.fsync(f.fileno())
