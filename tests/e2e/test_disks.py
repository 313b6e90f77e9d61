#!/usr/bin/env python3
"""Disks of a real guest, seen from both sides. Output is TAP.

test_disks.py RING3 GUEST_DIR [--engine NAME] [--few] [--only TEXT]

GUEST_DIR is what tools/guest makes; without it all is skipped. --few runs a part: for slow engines.
"""
import argparse
import hashlib
import os
import resource
import shutil
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
# pylint: disable=wrong-import-position
from guest_tests import Skip, check, expect, main, test

LIMIT_S = 180  # for a boot and a command, on a busy machine under sanitizers
MIB = 1 << 20

# In the guest: the drivers load by themselves, the block device comes a moment later.
WAIT = "for d in %s; do n=0; while [ ! -b /dev/$d ] && [ $n -lt 100 ]; do sleep 0.1; n=$((n+1)); done; done; "


def path(name):
    return os.path.join(DIR.name, name)


def image(name, megabytes, fill=None):
    """A raw file: a hole, or full of one byte."""
    with open(path(name), "wb") as f:
        if fill is not None:
            f.write(bytes([fill]) * (megabytes * MIB))
        f.truncate(megabytes * MIB)
    return path(name)


def digest(name, start=0, end=None):
    with open(path(name), "rb") as f:
        return hashlib.md5(f.read()[start:end]).hexdigest()


def guest(disks, script, way="auto", preexec=None, more=()):
    """Runs a shell script in a guest that has these disks; (status, stdout, stderr)."""
    names = " ".join("vd" + chr(ord("a") + i) for i in range(len(disks)))
    args = [ARGS.ring3, "run", "-q", "-e", ARGS.engine]
    for disk in disks:
        args += ["-d", disk]
    p = subprocess.run([*args, *more, "--", "sh", "-c", WAIT % names + script],
                       stdin=subprocess.DEVNULL, capture_output=True, timeout=LIMIT_S, check=False,
                       env=dict(os.environ, RING3_AIO=way), preexec_fn=preexec)
    return p.returncode, p.stdout.decode("utf-8", "replace"), p.stderr.decode("utf-8", "replace")


MAKE = ("mke2fs /dev/vda >/dev/null && mount -t ext4 /dev/vda /mnt && "
        "for i in 1 2 3 4 5; do cp /bin/busybox /mnt/b$i; done && md5sum </mnt/b3 && umount /mnt")
AGAIN = ("mount -t ext4 -o ro /dev/vda /mnt && cat /mnt/b? | md5sum && ls /mnt | wc -l && "
         "dd if=/dev/vda bs=128k 2>/dev/null | md5sum")


def file_system(way):
    """Made in one guest, found in the next; the bytes are those the host sees."""
    if way == "uring":
        probe = guest([image("none.img", 1)], "true", way)
        if "refuses io_uring" in probe[2]:
            raise Skip("this host refuses io_uring")
    disk = image(way + ".img", 32) + ",data"
    with open(os.path.join(ARGS.guest, "busybox"), "rb") as f:
        busybox = f.read()
    expect(guest([disk], MAKE, way), hashlib.md5(busybox).hexdigest() + "  -\n")
    expect(guest([disk], AGAIN, way), "%s  -\n6\n%s  -\n" %
           (hashlib.md5(busybox * 5).hexdigest(), digest(way + ".img")))


@test()
def file_system_by_page_cache():
    file_system("auto")


@test()
def file_system_by_io_uring():
    file_system("uring")


@test()
def file_system_by_threads():
    file_system("threads")


@test(few=True)
def read_only_disk():
    disk = image("ro.img", 1, 0x41)
    before = digest("ro.img")
    expect(guest([disk + ",ro"], "cat /sys/block/vda/ro; head -c 3 /dev/vda; "
                 "echo x 2>/dev/null >/dev/vda || echo refused"), "1\nAAArefused\n")
    check(digest("ro.img") == before, "a disk opened ro was changed")


@test()
def writes_to_a_snapshot_vanish():
    disk = image("snap.img", 4, 0x41)
    before = digest("snap.img")
    write = "yes hello | dd of=/dev/vda bs=64k count=16 conv=fsync 2>/dev/null; head -c 5 /dev/vda"
    for args in ({"disks": [disk + ",snapshot"]}, {"disks": [disk], "more": ["--ephemeral"]}):
        got = guest(script=write, **args)
        if "not supported by this version" in got[2]:
            raise Skip(got[2].strip())
        expect(got, "hello")
        check(digest("snap.img") == before, "the file was changed")


@test()
def discard_gives_space_back():
    disk = image("full.img", 16, 0x41)
    used = os.stat(path("full.img")).st_blocks * 512
    expect(guest([disk], "blkdiscard -o 4194304 -l 8388608 /dev/vda && "
                 "cmp -n 8388608 -s /dev/zero - </dev/vda || echo differs"), "differs\n")
    left = os.stat(path("full.img")).st_blocks * 512
    check(used - left >= 8 * MIB - 65536, "%d bytes of %d are left" % (left, used))
    with open(path("full.img"), "rb") as f:
        data = f.read()
    check(data == b"A" * (4 * MIB) + bytes(8 * MIB) + b"A" * (4 * MIB), "the contents are wrong")


@test(few=True)
def two_disks_and_serial_numbers():
    disks = [image("a.img", 1, 0x41) + ",serial=first", image("b.img", 2, 0x42) + ",serial=the-2nd"]
    expect(guest(disks, "for d in vda vdb; do cat /sys/block/$d/serial /sys/block/$d/size; "
                 "head -c 2 /dev/$d; done; cat /dev/vda >/dev/vdb"), "first2048\nAAthe-2nd4096\nBB")
    check(digest("b.img", 0, MIB) == digest("a.img"), "vdb does not hold what vda held")


@test()
def minidisk_is_all_there_is():
    """Nothing the guest does to the slice reaches what is around it."""
    image("whole.img", 8, 0x41)
    around = digest("whole.img", 0, 3 * MIB), digest("whole.img", 5 * MIB)
    expect(guest([path("whole.img") + ",offset=3,size=2"],
                 "cat /sys/block/vda/size; yes B | tr -d '\\n' | dd of=/dev/vda bs=64k 2>/dev/null; "
                 "dd if=/dev/zero of=/dev/vda bs=4k seek=512 count=1 2>/dev/null || echo no; "
                 "sync; blkdiscard -o 1048576 -l 1048576 /dev/vda || echo fail"),
           "4096\nno\n")
    check(around == (digest("whole.img", 0, 3 * MIB), digest("whole.img", 5 * MIB)),
          "bytes outside of the slice were changed")
    with open(path("whole.img"), "rb") as f:
        data = f.read()[3 * MIB:5 * MIB]
    check(data == b"B" * MIB + bytes(MIB), "the slice holds something else")
    got = guest([path("whole.img") + ",offset=9"], "true")
    check(got[0] == 125 and "whole.img" in got[2], got)


def small_files():
    """Room for the guest's memory, not for all of the disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (700 * MIB, 700 * MIB))


@test()
def errors_of_the_host_reach_the_guest():
    """Writes beyond the limit fail on the host: the guest hears of it, the machine lives on."""
    for way in ("auto", "threads"):
        disk = image("limit.img", 1024)
        got = guest([disk], "dd if=/dev/zero of=/dev/vda bs=64k count=16 conv=fsync 2>/dev/null && "
                    "echo below; dd if=/dev/zero of=/dev/vda bs=64k seek=12800 count=4 conv=fsync "
                    "2>/dev/null || echo error; dmesg | grep -q 'I/O error, dev vda' && echo logged; "
                    "head -c 8388608 /dev/vda | wc -c; echo alive", way, small_files)
        expect(got, "below\nerror\nlogged\n8388608\nalive\n")
        check("the guest sees I/O errors" in got[2], got[2])


@test()
def full_file_system():
    """ENOSPC of a file system that is full."""
    where = path("tiny")
    os.mkdir(where)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", where], check=False,
                      capture_output=True).returncode:
        raise Skip("cannot mount a small tmpfs (needs root)")
    try:
        image("tiny/disk.img", 4)
        got = guest([path("tiny/disk.img")],
                    "dd if=/dev/zero of=/dev/vda bs=64k conv=fsync 2>/dev/null || echo full; "
                    "head -c 4096 /dev/vda | wc -c; echo alive")
        expect(got, "full\n4096\nalive\n")
        check("No space left" in got[2], got[2])
    finally:
        subprocess.run(["umount", where], check=False)


@test()
def root_on_a_disk():
    """The default guest takes a disk with a file system as its root, not one for data."""
    if not shutil.which("mke2fs"):
        raise Skip("no mke2fs here (package e2fsprogs)")
    tree, disk = path("tree"), image("root.img", 16)
    for name in ("bin", "dev", "proc", "sys", "run", "sbin"):
        os.makedirs(os.path.join(tree, name))
    shutil.copy(os.path.join(ARGS.guest, "busybox"), os.path.join(tree, "bin/busybox"))

    def build():
        subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", "-d", tree, disk], check=True,
                       stdout=subprocess.DEVNULL)

    build()  # no init: data, whatever the key says
    for key in ("", ",data"):
        expect(guest([disk + key], "echo here; [ -d /lost+found ] || echo apart"), "here\napart\n")
    with open(os.path.join(tree, "sbin/init"), "w", encoding="ascii") as f:
        f.write("#!/bin/busybox sh\necho from the disk\n/bin/busybox poweroff -f\n")
    os.chmod(os.path.join(tree, "sbin/init"), 0o755)
    build()
    p = subprocess.run([ARGS.ring3, "run", "-q", "-e", ARGS.engine, "-d", disk],
                       stdin=subprocess.DEVNULL, capture_output=True, timeout=LIMIT_S, check=False)
    check(p.returncode == 0 and b"from the disk" in p.stdout, p)
    expect(guest([disk + ",data"], "echo here; [ -d /lost+found ] || echo apart"), "here\napart\n")


@test()
def disks_that_cannot_be_opened():
    for disk, part in ((path("none.such"), "none.such"), ("/", "/"), (path("a") + ",format=x", "raw"),
                       ("x,rw", "'rw'")):
        status, out, err = guest([disk], "true")
        check(status in (2, 125) and out == "" and err.count("\n") == 1 and part in err, disk, err)


parser = argparse.ArgumentParser()
parser.add_argument("ring3")
parser.add_argument("guest")
parser.add_argument("--engine", default="bt")
parser.add_argument("--few", action="store_true")
parser.add_argument("--only", default="")
ARGS = parser.parse_args()
with tempfile.TemporaryDirectory(prefix="ring3-disks-") as directory:
    class DIR:
        name = directory
    sys.exit(main(ARGS, ARGS.guest, "vmlinuz", "initrd.img"))
