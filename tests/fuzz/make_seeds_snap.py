#!/usr/bin/env python3
"""Writes corpus/snap/: one good stream and the ways in which it most often goes wrong."""
import os
import struct
import zlib


def field(kind, values):
    width = {1: "B", 2: "H", 3: "I", 4: "Q", 5: "B"}[kind]
    return struct.pack("<BI%d%s" % (len(values), width), kind, len(values), *values)


def record(name, instance, version, payload):
    body = struct.pack("<B", len(name)) + name + struct.pack("<III", instance, version, len(payload))
    body += payload
    return body + struct.pack("<I", zlib.crc32(body))


def chip(mode, on=1):
    return (field(1, [mode]) + field(5, [on]) + field(2, [1, 2, 0xffff]) + field(3, [0xfee00000])
            + field(4, [1 << 60, 7]))


def stream(*records):
    return b"R3SNAP\0\1" + struct.pack("<I", len(records)) + b"".join(records)


def main():
    good = [record(b"chip", 0, 1, chip(2)), record(b"chip", 1, 1, chip(5, 0))]
    seeds = {
        "good": stream(*good),
        "swapped": stream(good[1], good[0]),
        "truncated": stream(*good)[:-20],
        "trailing": stream(*good) + b"\0",
        "twice": stream(good[0], good[0]),
        "missing": stream(good[0]),
        "impossible-mode": stream(good[0], record(b"chip", 1, 1, chip(10))),
        "bad-bool": stream(good[0], record(b"chip", 1, 1, chip(1, 2))),
        "newer": stream(good[0], record(b"chip", 1, 2, chip(1))),
        "huge-record": stream(good[0])[:12] + b"\4chip" + struct.pack("<III", 0, 1, 0xffffffff),
        "huge-count": b"R3SNAP\0\1" + b"\xff\xff\xff\xff",
        "long-name": stream(record(b"x" * 40, 0, 1, b"")),
        "empty": b"",
    }
    here = os.path.join(os.path.dirname(os.path.abspath(__file__)), "corpus", "snap")
    os.makedirs(here, exist_ok=True)
    for name, data in seeds.items():
        with open(os.path.join(here, name), "wb") as f:
            f.write(data)


if __name__ == "__main__":
    main()
