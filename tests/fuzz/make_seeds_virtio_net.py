#!/usr/bin/env python3
"""Writes seeds of fuzz_virtio_net: buffers offered, an ARP request and a DHCP discovery sent.

make_seeds_virtio_net.py FOLDER. What the bytes mean is in virtio_input.h.
"""
import os
import random
import struct
import sys


def desc(queue, slot, write, follows, gpa, length):
    """Act 0: a descriptor at 0x80000 + 8 * n, of a 16-bit length."""
    kind = (2 if write else 0) << 2 | (1 if follows else 0) << 2
    tail = b"" if follows else struct.pack("<H", 0)
    return (bytes([queue << 4, slot, kind | (1 << 5 if follows else 0)]) +
            struct.pack("<HH", (gpa - 0x80000) // 8, length) + tail)


def put(gpa, data):
    """Act 3: bytes into a buffer, 64 at a time."""
    out = b""
    for at in range(0, len(data), 64):
        part = data[at:at + 64]
        out += bytes([3]) + struct.pack("<H", (gpa + at - 0x80000) // 8)
        out += bytes([len(part) - 1]) + part
    return out


def offer(queue, head):
    """Act 5: offers a chain and rings."""
    return bytes([5 | queue << 4, head])


def send(frame, header=bytes(12)):
    """A frame behind its header, in one buffer."""
    data = header + frame
    return put(0x90000, data) + desc(1, 0, False, False, 0x90000, len(data)) + offer(1, 0)


def room(count):
    """Receive buffers of 1,526 bytes."""
    out = b""
    for slot in range(count):
        out += desc(0, slot, True, False, 0xa0000 + slot * 0x800, 1526) + offer(0, slot)
    return out


ETHERNET = b"\xff" * 6 + bytes.fromhex("525400123456")
ARP = ETHERNET + bytes.fromhex("0806 0001 0800 0604 0001 525400123456 0a00020f 000000000000 0a000202")
DHCP = (ETHERNET + bytes.fromhex("0800 4500 0110 0000 0000 4011 79de 00000000 ffffffff "
                                 "0044 0043 00fc 0000 01010600 12345678") + bytes(20) +
        bytes.fromhex("525400123456") + bytes(202) + bytes.fromhex("63825363 350101 ff"))

SEEDS = {
    "arp": b"\1" + room(4) + send(ARP) + bytes([15]),
    "dhcp": b"\1" + room(4) + send(DHCP) + bytes([15]),
    "echo": b"\0" + room(3) + send(b"x" * 60) + send(b"y" * 400),
    "checksum": b"\0" + room(3) + send(b"z" * 100, bytes.fromhex("0101 3600 a005 2200 1000 0000")),
    "control": b"\0" + put(0x90000, bytes([1, 1])) + put(0x90100, b"\2abcde") +
               desc(2, 0, False, True, 0x90000, 2) + desc(2, 1, False, True, 0x90100, 6) +
               desc(2, 2, True, False, 0x90200, 1) + offer(2, 0),
    "noise": b"\1" + random.Random(1).randbytes(1500),
    "noise2": b"\0" + random.Random(2).randbytes(1500),
}

for name, seed in SEEDS.items():
    with open(os.path.join(sys.argv[1], name), "wb") as file:
        file.write(seed)
