#!/usr/bin/env python3
"""Kills the monitor in the middle of a guest's writes, again and again, on one image.

run_kill.py RING3 GUEST_DIR MKINITRD RECORDS FORMAT [--kills N] [--way auto|uring|threads]

After each kill the image must check without errors, and every record that the guest ever announced
as written must be in it. A qcow2 image that nobody closed may have clusters that nobody uses: every other
time `disk check --repair` gives them back, else the next run does when it opens the image. Either way
the image is clean in the end. Output is TAP.
"""
import argparse
import json
import os
import random
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time

SLOT, SLOTS, ODD = 4096, 65536, 40503
LIMIT_S = 120    # until the first record
LONGEST_S = 1.5  # from the first record to the kill

parser = argparse.ArgumentParser()
for name in ("ring3", "guest", "mkinitrd", "records", "format"):
    parser.add_argument(name)
parser.add_argument("--kills", type=int, default=100)
parser.add_argument("--way", default="auto")
parser.add_argument("--engine", default="bt")
ARGS = parser.parse_args()


class Failure(Exception):
    """What is wrong with the image, or with the run."""


def disk(*args):
    done = subprocess.run([ARGS.ring3, "disk", *args], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failure("disk %s: status %d: %s%s" % (" ".join(args), done.returncode, done.stdout,
                                                     done.stderr))


def write_and_kill(image, initrd, first, rng):
    """One run; the numbers that were announced, all of them in order from `first`."""
    seen = []
    command = [ARGS.ring3, "run", "-q", "-e", ARGS.engine, "-i", initrd, "-d",
               "%s,data,format=%s" % (image, ARGS.format), "--", "/root/records", "/dev/vda", str(first)]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, env=dict(os.environ, RING3_AIO=ARGS.way)) as p:
        late = threading.Timer(LIMIT_S, p.kill)
        late.start()
        line = p.stdout.readline()
        if line:
            late.cancel()
            threading.Timer(rng.uniform(0, LONGEST_S), p.send_signal, [signal.SIGKILL]).start()
        while line.endswith(b"\n"):
            seen.append(int(line))
            line = p.stdout.readline()
        late.cancel()
        err = p.stderr.read().decode("utf-8", "replace")
    if not seen or p.returncode != -signal.SIGKILL:
        raise Failure("status %d after %d records: %s" % (p.returncode, len(seen), err))
    if seen != list(range(first, first + len(seen))):
        raise Failure("the numbers do not follow each other: %s" % seen[:20])
    return seen


def count(image, what):
    done = subprocess.run([ARGS.ring3, "disk", "check", "--json", image], capture_output=True,
                          text=True, check=False)
    try:
        return json.loads(done.stdout).get(what, 0)
    except ValueError as why:
        raise Failure("disk check: %s%s" % (done.stdout, done.stderr)) from why


def verify(image, announced, scratch, repair):
    if count(image, "errors"):
        disk("check", image)
    if repair:
        disk("check", "--repair", image)
        disk("check", image)
    raw = image
    if ARGS.format != "raw":
        raw = os.path.join(scratch, "copy")
        if os.path.exists(raw):
            os.unlink(raw)
        disk("convert", "-f", "raw", image, raw)
    with open(raw, "rb") as f:
        for n in announced:
            f.seek(n * ODD % SLOTS * SLOT)
            if f.read(SLOT) != struct.pack("<I", n) * (SLOT // 4):
                raise Failure("record %d was announced and is not there" % n)


def kill_often(scratch):
    image, initrd = os.path.join(scratch, "disk"), os.path.join(scratch, "initrd")
    rng, announced, first = random.Random(os.getpid()), [], 0
    subprocess.run([ARGS.mkinitrd, "--base", os.path.join(ARGS.guest, "initrd.img"), "--add",
                    "root/records=" + ARGS.records, "--out", initrd], check=True)
    disk("create", "-f", ARGS.format, image, "%dM" % (SLOTS * SLOT >> 20))
    began = time.monotonic()
    for turn in range(ARGS.kills):
        try:
            announced += write_and_kill(image, initrd, first, rng)
            verify(image, announced, scratch, turn % 2 or turn + 1 == ARGS.kills)
        except Failure as why:
            raise Failure("kill %d: %s" % (turn + 1, why)) from why
        if (turn + 1) % 10 == 0:
            print("# %d kills, %d s" % (turn + 1, time.monotonic() - began), flush=True)
        first = announced[-1] + 2  # the next one may be there or not
        if first > SLOTS - 10000:
            first, announced = 0, []
    print("# %d records since the image was last full" % len(announced))


def main():
    print("1..1", flush=True)
    if not os.path.exists(os.path.join(ARGS.guest, "initrd.img")):
        print("ok 1 - kills # SKIP no guest in %s; run tools/guest" % ARGS.guest)
        return 0
    try:
        with tempfile.TemporaryDirectory(prefix="ring3-kill-") as scratch:
            kill_often(scratch)
    except (Failure, OSError, subprocess.SubprocessError) as why:
        print("\n".join("# " + line for line in str(why).split("\n")))
        print("not ok 1 - kills")
        return 1
    print("ok 1 - kills")
    return 0


sys.exit(main())
