#!/usr/bin/env python3
"""Writes the seeds of fuzz_script and fuzz_fwcfg: make_seeds_dev.py CORPUS_DIR"""
import os
import random
import struct
import sys

# Index of a corner in tests/dev/stir.c, and what to write to it.
CORNER = {n: i for i, n in enumerate(
    "pic pic2 elcr pit port61 kbd kbdcmd rtc page port92 ferr pci pm fwcfg pvpanic com1 com2 com3 com4 "
    "testdev irq exit debug ioapic hpet lapic mmio moved".split())}
SIZE = {1: 0, 2: 1, 4: 2, 8: 3}


def access(corner, off, val, size=1, write=True):
    op = 6 | (0x10 if write else 0) | SIZE[size] << 5
    return struct.pack("<BBHQ", op, CORNER[corner], off, val & (1 << 64) - 1)


def step(shift):
    return struct.pack("<BB10x", 0, shift)


def script_seeds():
    pit = access("pit", 3, 0x34) + access("pit", 0, 2) + access("pit", 0, 0) + step(27)
    pic = b"".join(access("pic", o, v) for o, v in ((0, 0x11), (1, 0x30), (1, 4), (1, 1), (1, 0)))
    lapic = access("lapic", 0xf0, 0x1ff, 4) + access("lapic", 0x320, 0x200ee, 4) + \
        access("lapic", 0x380, 1, 4) + step(27)
    hpet = access("hpet", 0x100, 0x4c, 4) + access("hpet", 0x108, 1, 8) + access("hpet", 0x10, 3, 4) + step(27)
    ioapic = access("ioapic", 0, 0x2c, 4) + access("ioapic", 0x10, 0x8077, 4) + access("irq", 14, 1)
    rtc = access("rtc", 0, 0x8b) + access("rtc", 1, 0x72) + step(27) + access("rtc", 0, 0x0c) + \
        access("rtc", 1, 0, write=False)
    uart = access("com1", 4, 0x10) + access("com1", 2, 7) + access("com1", 1, 15) + \
        access("com1", 0, 0x41) * 20 + step(20)
    rng = random.Random(3)
    noise = bytes(rng.randrange(256) for _ in range(2400))
    return {"pit": pit, "pic": pic + pit, "lapic": lapic, "hpet": hpet, "ioapic": lapic + ioapic,
            "rtc": rtc, "uart": uart, "noise": noise,
            "all": pic + pit + lapic + hpet + ioapic + rtc + uart}


def dma(control, length, address, at=0x1000):
    return struct.pack("<BH", 0, at) + struct.pack(">IIQ", control, length, address)


def fwcfg_seeds():
    items = struct.pack("<BHBHBHBH", 3, 100, 0, 20, 1, 10, 4, 0x19)
    read = items + dma(0x0019000a, 200, 0x2000) + dma(0x0000000a, 4, 0x2000)
    hostile = items + dma(0x0000000a, 0xffffffff, 0x1000) + dma(0x0000000a, 16, 0x1000) + \
        dma(0x00000018, 4, 0x2000) + dma(0x4, 0xffffffff, 0) + dma(0x2, 64, 0x20000) + dma(0xa, 1, 1 << 63)
    ports = items + struct.pack("<BBBH", 1, 0, 1, 0x19) + struct.pack("<BBB", 2, 1, 0) * 80
    return {"read": read, "hostile": hostile, "ports": ports}


def main():
    for target, seeds in (("script", script_seeds()), ("fwcfg", fwcfg_seeds())):
        folder = os.path.join(sys.argv[1], target)
        os.makedirs(folder, exist_ok=True)
        for name, data in seeds.items():
            with open(os.path.join(folder, name), "wb") as f:
                f.write(data)


main()
