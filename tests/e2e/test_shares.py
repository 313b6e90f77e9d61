#!/usr/bin/env python3
"""Folders of the host in a real guest, seen from both sides. Output is TAP.

test_shares.py RING3 GUEST_DIR [--engine NAME] [--few] [--only TEXT]

GUEST_DIR is what tools/guest makes, with the set full/ in it; without that all is skipped. --few runs
a part: for slow engines.
"""
import argparse
import hashlib
import os
import stat
import subprocess
import sys
import tarfile
import tempfile

sys.dont_write_bytecode = True
# pylint: disable=wrong-import-position
from guest_tests import Skip, check, expect, main, test

LIMIT_S = 240  # for a boot and a command, on a busy machine under sanitizers
MIB = 1 << 20


def folder(name):
    path = os.path.join(DIR.name, name)
    os.makedirs(path, exist_ok=True)
    return path


def write(path, data, mode=0o644):
    with open(path, "wb") as f:
        f.write(data)
    os.chmod(path, mode)


def read(*names):
    with open(os.path.join(*names), "rb") as f:
        return f.read()


def ring3(*args, cwd=None):
    p = subprocess.run([ARGS.ring3, "run", "-q", "-e", ARGS.engine, *args], cwd=cwd,
                       stdin=subprocess.DEVNULL, capture_output=True, timeout=LIMIT_S, check=False)
    return p.returncode, p.stdout.decode("utf-8", "replace"), p.stderr.decode("utf-8", "replace")


def guest(share, script, *more, cwd=None):
    """Runs a shell script in a guest with a folder at /mnt; (status, stdout, stderr)."""
    return ring3("-v", share, *more, "--", "sh", "-c", script, cwd=cwd)


@test(boots=False)
def clear_errors():
    here = folder("errors")
    write(os.path.join(here, "file"), b"")
    for share, status, part in (("nowhere", 2, "HOST:GUEST"), (":/mnt", 2, "HOST:GUEST"),
                                (here + ":mnt", 2, "absolute"), (here + ":/", 2, "absolute"),
                                (here + ":/a b", 2, "blanks"),
                                (here + "/none:/mnt", 125, "none: No such file"),
                                (here + "/file:/mnt", 125, "file: Not a directory"),
                                ("/proc:/mnt", 125, "kernel")):
        got = ring3("-v", share, "--bios", "/nonexistent") if status == 2 else \
            ring3("-v", share, "--", "true")
        if status == 125 and "tools/guest" in got[2]:
            raise Skip("no guest that can mount folders; run tools/guest")
        check(got[0] == status and part in got[2] and got[2].count("\n") == 1, share, got)
    got = ring3("-v", here + ":/mnt", "--save", os.path.join(here, "saved"), "--at", "1")
    check(got[0] == 2 and "cannot be saved" in got[2], got)


@test()
def a_relative_folder():
    here = folder("relative")
    write(os.path.join(here, "README.md"), b"hello\n")
    expect(guest(".:/mnt", "ls /mnt/README.md && cat /mnt/README.md", cwd=here),
           "/mnt/README.md\nhello\n")


@test(few=True)
def written_there_and_read_here():
    here = folder("write")
    script = """cd /mnt && mkdir -p d/e && echo hello >d/file && ln -s ../x d/link && ln d/file hard &&
        mv d/file d/moved && chmod 640 hard && touch -d '2001-02-03 04:05:06' d/moved &&
        mkfifo pipe && { echo through >pipe & } && cat pipe && rmdir d/e && echo more >>hard &&
        dd if=/dev/zero of=big bs=1024 count=3000 2>/dev/null && truncate -s 5000 big && sync &&
        exec 3<hard && rm hard && cat <&3"""
    expect(guest(here + ":/mnt", script), "through\nhello\nmore\n")
    check(read(here, "d", "moved") == b"hello\nmore\n", read(here, "d", "moved"))
    check(sorted(os.listdir(here)) == ["big", "d", "pipe"], os.listdir(here))
    check(sorted(os.listdir(here + "/d")) == ["link", "moved"], os.listdir(here + "/d"))
    check(os.readlink(here + "/d/link") == "../x", os.readlink(here + "/d/link"))
    check(os.path.getsize(here + "/big") == 5000, os.path.getsize(here + "/big"))
    check(stat.S_ISFIFO(os.lstat(here + "/pipe").st_mode), "pipe")
    check(stat.S_IMODE(os.stat(here + "/d/moved").st_mode) == 0o640, os.stat(here + "/d/moved"))


@test()
def a_read_only_folder():
    here = folder("ro")
    write(os.path.join(here, "file"), b"content\n", 0o666)
    # Once as mounted, once mounted anew for writing: the host's word counts.
    script = """cat /mnt/file; { echo x >/mnt/file; } 2>/dev/null || echo refused
        umount /mnt && mkdir /tmp/m && mount -t 9p -o trans=virtio,version=9p2000.L r3share0 /tmp/m || exit 9
        for c in 'echo x >/tmp/m/file' 'touch /tmp/m/new' 'rm /tmp/m/file' 'mkdir /tmp/m/d' \\
            'mv /tmp/m/file /tmp/m/f' 'chmod 600 /tmp/m/file' 'ln -s a /tmp/m/l'; do
            sh -c "$c" 2>/tmp/err && echo "$c"; grep -q 'Read-only' /tmp/err || cat /tmp/err
        done; cat /tmp/m/file"""
    expect(guest(here + ":/mnt:ro", script), "content\nrefused\ncontent\n")
    check(os.listdir(here) == ["file"] and read(here, "file") == b"content\n", os.listdir(here))


@test()
def two_folders_and_links_that_lead_out():
    one, two, beside = folder("one"), folder("two"), folder("beside")
    write(os.path.join(beside, "secret"), b"secret\n")
    write(os.path.join(two, "file"), b"two\n")
    if not os.path.lexists(one + "/out"):
        os.symlink("../beside/secret", one + "/out")
        os.symlink(beside + "/secret", one + "/abs")
    expect(ring3("-v", one + ":/a/b", "-v", two + ":/c", "--", "sh", "-c",
                 "cat /a/b/out /a/b/abs 2>/dev/null; cat /a/b/../../c/file; ls -d /a/b/../beside"
                 " 2>/dev/null; echo end"), "two\nend\n")


@test()
def many_files():
    """A tree of 500 files is unpacked, listed, summed and removed."""
    here = folder("many")
    with tarfile.open(os.path.join(DIR.name, "many.tar"), "w") as tar:
        for i in range(500):
            path = os.path.join(DIR.name, "item")
            write(path, b"%d " % i * (i + 1), 0o600 + i % 64)
            tar.add(path, "tree/%d/%d" % (i % 20, i))
    os.replace(os.path.join(DIR.name, "many.tar"), here + "/many.tar")
    got = guest(here + ":/mnt", "cd /mnt && tar xf many.tar && find tree -type f | wc -l && "
                "cat $(find tree -type f | sort) | md5sum")
    files = sorted((os.path.relpath(os.path.join(d, n), here)
                    for d, _, names in os.walk(here + "/tree") for n in names),
                   key=lambda name: name.encode())
    total = hashlib.md5(b"".join(read(here, name) for name in files)).hexdigest()
    expect(got, "500\n%s  -\n" % total)
    check(all(stat.S_IMODE(os.stat(here + "/" + n).st_mode) == 0o600 + int(n.split("/")[-1]) % 64
              for n in files), "modes")
    expect(guest(here + ":/mnt", "rm -r /mnt/tree && ls /mnt"), "many.tar\n")


@test()
def programs_run_from_the_folder():
    """The kernel maps them into memory from there."""
    here = folder("programs")
    write(os.path.join(here, "busybox"), read(ARGS.guest, "busybox"), 0o755)
    write(os.path.join(here, "script"), b"#!/mnt/busybox sh\necho script $1\n", 0o755)
    expect(guest(here + ":/mnt", "/mnt/busybox echo mapped && /mnt/script 1"), "mapped\nscript 1\n")


@test()
def big_files_both_ways():
    here = folder("big")
    data = os.urandom(MIB) * 48
    write(os.path.join(here, "in"), data)
    expect(guest(here + ":/mnt", "cd /mnt && dd if=in of=out bs=1M 2>/dev/null && md5sum <in && "
                 "cat in | md5sum"),
           (hashlib.md5(data).hexdigest() + "  -\n") * 2)
    check(read(here, "out") == data, "the copy differs")


@test()
def errors_of_the_host():
    """They reach the guest's programs, and the folder goes on."""
    here = folder("refusals")
    expect(guest(here + ":/mnt", "dd if=/dev/zero of=/mnt/f bs=1 count=1 seek=9000000000000000000 "
                 "2>&1 | grep -o 'File too large'; echo fine >/mnt/g; cat /mnt/g"),
           "File too large\nfine\n")
    check(read(here, "g") == b"fine\n", "g")


parser = argparse.ArgumentParser()
parser.add_argument("ring3")
parser.add_argument("guest")
parser.add_argument("--engine", default="bt")
parser.add_argument("--few", action="store_true")
parser.add_argument("--only", default="")
ARGS = parser.parse_args()
ARGS.ring3 = os.path.abspath(ARGS.ring3)
with tempfile.TemporaryDirectory(prefix="ring3-shares-") as directory:
    class DIR:
        name = directory
    sys.exit(main(ARGS, os.path.join(ARGS.guest, "full"), "vmlinux", "initrd.img"))
