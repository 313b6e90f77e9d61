#!/usr/bin/env python3
"""Writes the seeds of fuzz_virtio_blk: make_seeds_virtio_blk.py CORPUS_DIR"""
import os
import random
import struct
import sys

IN, OUT, FLUSH, GET_ID, DISCARD, ZEROES, BAD = range(7)
WRITE = 4   # data is for the device to write
ODD = 8     # any length
FAR = 0x40  # the status lies in a hole
HIGH = 0x80  # the upper half of the sector is given
KICK = b"\x04"
QUIESCE = b"\x06"


def request(kind, sector, length, pieces=1, shape=0, at=0, upper=None):
    shape |= pieces | (HIGH if upper is not None else 0)
    out = struct.pack("<BBBHB", 2, kind, sector, length, shape)
    if upper is not None:
        out += struct.pack("<I", upper)
    out += struct.pack("<H", at) * pieces
    return out + (b"\0\0" if shape & FAR else b"")


def memory(gpa, value):
    return b"\0" + struct.pack("<I", gpa)[:3] + struct.pack("<Q", value)


def ranges(kind, sector, sectors, flags):
    data = memory(0x9000, sector) + memory(0x9008, sectors | flags << 32)
    return data + request(kind, 0, 16, 1, ODD) + KICK


def seeds():
    read = request(IN, 1, 4096, 1, WRITE) + KICK + request(IN, 0, 8192, 2, WRITE) + KICK
    write = request(OUT, 1, 4096) + KICK + request(FLUSH, 0, 0, 0) + KICK
    ends = request(OUT, 127, 1024) + request(IN, 128, 512, 1, WRITE) + \
        request(IN, 0, 512, 1, WRITE, upper=~0 & 0xffffffff) + KICK
    erase = ranges(DISCARD, 8, 16, 0) + ranges(ZEROES, 8, 16, 1) + ranges(ZEROES, 1 << 62, 9, 0) + \
        ranges(DISCARD, 0, 8, 2)
    odd = request(IN, 0, 513, 1, WRITE | ODD) + request(GET_ID, 0, 20, 1, WRITE | ODD) + \
        request(BAD, 0, 0, 0) + request(OUT, 0, 512, 1, FAR) + KICK
    reset = b"\x07" + write + b"\x87" + bytes(8) + write + QUIESCE + b"\x05\x20\0" + write
    rng = random.Random(5)
    noise = bytes(rng.randrange(256) for _ in range(1500))
    return {"read": b"\0" + read, "write": b"\0" + write, "ends": b"\0" + ends,
            "erase": b"\0" + erase, "odd": b"\0" + odd, "reset": b"\0" + reset,
            "read_only": b"\1" + read + write, "noise": noise}


def main():
    folder = os.path.join(sys.argv[1], "virtio_blk")
    os.makedirs(folder, exist_ok=True)
    for name, data in seeds().items():
        with open(os.path.join(folder, name), "wb") as f:
            f.write(data)


main()
