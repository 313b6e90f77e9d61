#!/usr/bin/env python3
"""Picks the kernel modules that virtio devices need, and writes down the order to load them in.

usage: modules.py FROM TO

FROM is lib/modules/VERSION of an unpacked kernel package. TO/VERSION gets the modules, without
debugging symbols, and ring3.list: a line a driver, first the type of virtio device (0: the PCI
transport), then files in loading order. What a module needs it says itself (its "depends").
A driver that this kernel lacks or has built in is left out.
"""
import os
import re
import shutil
import subprocess
import sys

DRIVERS = [
    (0, ["virtio_pci"]),
    (1, ["virtio_net"]),
    (2, ["virtio_blk"]),
    (3, ["virtio_console"]),
    (4, ["virtio_rng"]),
    (5, ["virtio_balloon"]),
    (9, ["9pnet_virtio", "9p"]),
    (19, ["vmw_vsock_virtio_transport"]),
]


def find_modules(top):
    """Path of each module by its name."""
    found = {}
    for folder, _, names in os.walk(top):
        for name in names:
            if name.endswith(".ko"):
                found[name[:-3].replace("-", "_")] = os.path.join(folder, name)
    return found


def needs(path):
    """Names of the modules that this one says it depends on."""
    with open(path, "rb") as file:
        said = re.search(rb"\0depends=([^\0]*)\0", file.read())
    return [name.replace("-", "_") for name in said.group(1).decode().split(",") if name]


def order(found, name, done):
    """Appends the module to `done`, after what it needs."""
    if name in done or name not in found:
        return
    for other in needs(found[name]):
        order(found, other, done)
    done.append(name)


def copy(source, folder):
    """Copies a module without what only a debugger wants; its file name."""
    target = os.path.join(folder, os.path.basename(source))
    shutil.copyfile(source, target)
    subprocess.run(["strip", "--strip-debug", target], check=True)
    return os.path.basename(source)


def main():
    """Parses the command line."""
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    top, folder = sys.argv[1], os.path.join(sys.argv[2], os.path.basename(sys.argv[1]))
    found = find_modules(top)
    shutil.rmtree(sys.argv[2], ignore_errors=True)
    os.makedirs(folder)
    copied, lines, transport = {}, [], []
    for kind, drivers in DRIVERS:
        wanted = []
        for driver in drivers:
            order(found, driver, wanted)
        wanted = [name for name in wanted if name not in transport]
        transport = transport or wanted
        for name in wanted:
            if name not in copied:
                copied[name] = copy(found[name], folder)
        if wanted:
            lines.append(" ".join([str(kind)] + [copied[name] for name in wanted]) + "\n")
    with open(os.path.join(folder, "ring3.list"), "w", encoding="ascii") as file:
        file.writelines(lines)


main()
