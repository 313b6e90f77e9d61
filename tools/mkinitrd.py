#!/usr/bin/env python3
"""Writes the default guest's root as a cpio archive: busybox, its links, /etc and the agent as /init.

usage: mkinitrd.py --busybox FILE --agent FILE [--add NAME=PATH ...] --out FILE
       mkinitrd.py --base FILE --add NAME=PATH ... --out FILE

The second form writes what is in the base. --add adds files: PATH is a file or a directory, NAME
where it appears in the guest.

Needs no root: device nodes and owners are only numbers in the archive ("newc", see the kernel's
Documentation/driver-api/early-userspace/buffer-format.rst). The same input gives the same bytes.
Uncompressed on purpose: unpacking costs an emulated processor more than reading a few MB.
"""
import argparse
import os
import stat
import subprocess

DIRECTORIES = [
    "bin", "dev", "etc", "home", "lib", "mnt", "proc", "root", "run", "sbin", "sys", "tmp", "usr",
    "usr/bin", "usr/lib", "usr/local", "usr/local/bin", "usr/sbin", "usr/share", "var", "var/log",
    "var/tmp",
]

DIRECTORY_MODES = {"root": 0o700, "tmp": 0o1777, "var/tmp": 0o1777}

FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\n"
                  "daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\n"
                  "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    "etc/group": "root:x:0:\ndaemon:x:1:\ntty:x:5:\ndisk:x:6:\nnogroup:x:65534:\n",
    "etc/shadow": "root::19000:0:99999:7:::\n",
    "etc/hostname": "ring3\n",
    "etc/hosts": "127.0.0.1\tlocalhost ring3\n::1\tlocalhost\n",
    "etc/resolv.conf": "nameserver 10.0.2.3\n",
    "etc/shells": "/bin/sh\n",
    "etc/profile": "export PS1='\\u@\\h:\\w\\$ '\n",
    "etc/services": "ssh\t22/tcp\ndomain\t53/udp\nhttp\t80/tcp\nhttps\t443/tcp\n",
}

FILE_MODES = {"etc/shadow": 0o600}

# The kernel opens /dev/console for init before anything mounts a devtmpfs.
DEVICES = {"dev/console": (0o600, 5, 1), "dev/null": (0o666, 1, 3)}


class Archive:
    """A newc archive that grows in memory."""

    def __init__(self):
        self.parts = []
        self.count = 0

    def add(self, name, mode, data=b"", device=(0, 0), links=1):
        """Appends one entry: owner 0:0, time 0."""
        self.count += 1
        name = name.encode() + b"\0"
        fields = [self.count, mode, 0, 0, links, 0, len(data), 0, 0, *device, len(name), 0]
        header = b"070701" + b"".join(b"%08X" % field for field in fields) + name
        self.parts += [header, bytes(-len(header) % 4), data, bytes(-len(data) % 4)]

    def finish(self):
        """The whole archive, to a multiple of 512 bytes."""
        self.add("TRAILER!!!", 0)
        data = b"".join(self.parts)
        return data + bytes(-len(data) % 512)


def read(path):
    """A file's bytes."""
    with open(path, "rb") as file:
        return file.read()


def build(busybox, agent, additions):
    """The archive's bytes."""
    applets = subprocess.run([busybox, "--list-full"], check=True, capture_output=True, text=True)
    archive = Archive()
    for name in DIRECTORIES:
        archive.add(name, stat.S_IFDIR | DIRECTORY_MODES.get(name, 0o755), links=2)
    for name, (mode, *device) in DEVICES.items():
        archive.add(name, stat.S_IFCHR | mode, device=device)
    for name, text in FILES.items():
        archive.add(name, stat.S_IFREG | FILE_MODES.get(name, 0o644), text.encode())
    archive.add("init", stat.S_IFREG | 0o755, read(agent))
    archive.add("bin/busybox", stat.S_IFREG | 0o755, read(busybox))
    for name in sorted(set(applets.stdout.split()) - {"bin/busybox", "linuxrc"}):
        archive.add(name, stat.S_IFLNK | 0o777, b"/bin/busybox")
    for addition in additions:
        add_tree(archive, *addition.split("=", 1))
    return archive.finish()


def add_tree(archive, name, path):
    """Appends a file, or a directory with all that is in it."""
    if os.path.isdir(path):
        archive.add(name, stat.S_IFDIR | 0o755, links=2)
        for entry in sorted(os.listdir(path)):
            add_tree(archive, name + "/" + entry, os.path.join(path, entry))
    else:
        mode = 0o755 if os.access(path, os.X_OK) else 0o644
        archive.add(name, stat.S_IFREG | mode, read(path))


def extend(base, additions):
    """The base's bytes and an archive of the additions: the kernel unpacks one after the other."""
    archive = Archive()
    for addition in additions:
        add_tree(archive, *addition.split("=", 1))
    data = read(base)
    return data + bytes(-len(data) % 512) + archive.finish()


def main():
    """Parses the command line."""
    parser = argparse.ArgumentParser()
    for option in ("--busybox", "--agent", "--base"):
        parser.add_argument(option)
    parser.add_argument("--add", action="append", default=[], metavar="NAME=PATH")
    parser.add_argument("--out", required=True)
    args = parser.parse_args()
    if args.base:
        data = extend(args.base, args.add)
    elif args.busybox and args.agent:
        data = build(os.path.abspath(args.busybox), args.agent, args.add)
    else:
        parser.error("--busybox and --agent, or --base")
    with open(args.out + ".new", "wb") as file:
        file.write(data)
    os.replace(args.out + ".new", args.out)


main()
