#!/usr/bin/env python3
"""Writes the seeds of the kernel loaders: small files that load, and some that nearly do.

make_seeds_boot.py CORPUS   (the directory that holds bzimage/, elf/ and multiboot/)
"""
import os
import struct
import sys


def put(image, at, fmt, *values):
    struct.pack_into("<" + fmt, image, at, *values)


def bzimage(**changes):
    f = {"sects": 1, "syssize": 64, "version": 0x20f, "jump": 0x66, "loadflags": 1,
         "align": 0x200000, "relocatable": 1, "xloadflags": 3, "pref": 0x1000000,
         "init_size": 0x10000, "max": 0x7fffffff}
    f.update(changes)
    image = bytearray(1024 + 1024)
    put(image, 0x1f1, "B", f["sects"])
    put(image, 0x1f4, "I", f["syssize"])
    put(image, 0x1fe, "H", 0xaa55)
    put(image, 0x200, "BB", 0xeb, f["jump"])
    image[0x202:0x206] = b"HdrS"
    put(image, 0x206, "H", f["version"])
    put(image, 0x211, "B", f["loadflags"])
    put(image, 0x22c, "I", f["max"])
    put(image, 0x230, "IBBHI", f["align"], f["relocatable"], 0, f["xloadflags"], 2047)
    put(image, 0x258, "QI", f["pref"], f["init_size"])
    return image


def elf(is64, note=True, multiboot=False, paddr=0x200000):
    image = bytearray(0x400)
    image[0:7] = b"\x7fELF" + bytes([2 if is64 else 1, 1, 1])
    put(image, 16, "HHI", 2, 62 if is64 else 3, 1)
    if is64:
        put(image, 24, "QQ", paddr, 64)
        put(image, 52, "HHH", 64, 56, 2)
        put(image, 64, "IIQQQQQQ", 1, 7, 0x300, paddr, paddr, 0x100, 0x3000, 4096)
        put(image, 120, "IIQQQQQQ", 4, 4, 0x200, 0, 0, 20, 20, 4)
    else:
        put(image, 24, "II", paddr, 52)
        put(image, 40, "HHH", 52, 32, 2)
        put(image, 52, "8I", 1, 0x300, paddr, paddr, 0x100, 0x3000, 7, 4096)
        put(image, 84, "8I", 4, 0x200, 0, 0, 20, 20, 4, 4)
    if note:
        put(image, 0x200, "III4sI", 4, 4, 18, b"Xen", paddr + 16 & 0xffffffff)
    if multiboot:
        put(image, 0x280, "III", 0x1badb002, 3, -(0x1badb002 + 3) & 0xffffffff)
    return image


def kludge(load, load_end, bss_end):
    image = bytearray(0x400)
    flags = 0x10000
    put(image, 0x10, "8I", 0x1badb002, flags, -(0x1badb002 + flags) & 0xffffffff, load + 0x10, load,
        load_end, bss_end, load + 0x40)
    return image


SEEDS = {
    "bzimage/good": bzimage(),
    "bzimage/moved": bzimage(pref=0x40000000),
    "bzimage/fixed": bzimage(pref=0x40000000, relocatable=0),
    "bzimage/old": bzimage(version=0x20b),
    "bzimage/cut": bzimage()[:0x250],
    "elf/pvh64": elf(True),
    "elf/pvh32": elf(False),
    "elf/plain": elf(True, note=False),
    "elf/high": elf(True, paddr=1 << 40),
    "elf/cut": elf(True)[:0x200],
    "multiboot/elf32": elf(False, multiboot=True),
    "multiboot/elf64": elf(True, multiboot=True),
    "multiboot/addresses": kludge(0x200000, 0x200400, 0x280000),
    "multiboot/low": kludge(0x4000, 0, 0x20000),
    "multiboot/cut": kludge(0x200000, 0x300000, 0),
}


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    for name, data in SEEDS.items():
        path = os.path.join(sys.argv[1], name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as f:
            f.write(data)


if __name__ == "__main__":
    main()
