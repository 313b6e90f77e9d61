#!/usr/bin/env python3
"""Writes the seeds of fuzz_p9: sessions that use every message.

make_seeds_p9.py DIR
"""
import os
import sys

NAMES = ["a", "b", "d", "l", "k", "p", "new", "..", ".", "", "e", "n2", "secret", "user.x", "/a",
         "outside"]


def record(kind, *fields):
    """A message: numbers are 4 bytes (as FDh and one byte when that does), bytes are themselves,
    strings are the names the target knows."""
    body = b""
    for field in fields:
        if isinstance(field, bytes):
            body += field
        elif isinstance(field, str):
            body += bytes([0xfe, NAMES.index(field)])
        elif field < 256:
            body += bytes([0xfd, field])
        else:
            body += field.to_bytes(4, "little")
    return bytes([kind, len(body)]) + body


def walk(fid, new, *names):
    """Twalk."""
    return record(110, fid, new, len(names).to_bytes(2, "little"), *names)


ZERO = 0, 0  # eight bytes

SEEDS = {
    "files": walk(1, 2, "a") + record(12, 2, 2) + record(118, 2, *ZERO, 3, b"abc") +
             record(116, 2, *ZERO, 100) + record(50, 2, 0) + record(24, 2, 0xffffffff, 0) +
             record(26, 2, 0x1ff, 0x1a4, 0, 0, 5, 0, 1, 0, 1, 0, 1, 0, 1, 0) + record(120, 2),
    "names": record(72, 1, "new", 0x1ed, 0) + record(18, 1, "n2", 0x1a4, 0, 0, 0) +
             record(16, 1, "e", "outside", 0) + walk(1, 2, "e") + record(22, 2) +
             record(74, 1, "n2", 1, "e") + walk(1, 3, "a") + record(70, 1, 3, "n2") +
             record(20, 3, 1, "b") + record(122, 3) + record(76, 1, "new", 0x200) +
             record(76, 1, "n2", 0) + record(76, 1, "e", 0) + record(76, 1, "b", 0),
    "links": walk(1, 2, "l", "secret") + walk(1, 2, "l") + walk(2, 3, "secret") + record(12, 2, 0) +
             record(72, 2, "new", 0x1ed, 0) + record(76, 2, "secret", 0) + walk(1, 4, "k") +
             record(14, 4, "new", 0x42, 0x1a4, 0) + walk(1, 5, "..", "..", "outside") +
             walk(1, 6, "p") + record(12, 6, 2),
    "directories": walk(1, 2, "d") + record(12, 2, 0) + record(40, 2, *ZERO, 0x200) +
                   bytes([0, 0]) + record(40, 2, *ZERO, 0x200) + walk(1, 3, "e", "b") +
                   walk(1, 4, "e", "..", "a") + bytes([1, 0]) + record(8, 1),
    "create": walk(1, 2) + record(14, 2, "new", 0x242, 0x1a4, 0) + record(118, 2, *ZERO, 1, b"x") +
              record(52, 2, b"\1", 0, *ZERO, *ZERO, 1, "a") +
              record(54, 2, b"\1", *ZERO, *ZERO, 1, "a") + record(76, 1, "new", 0),
    "attributes": walk(1, 2, "a") + record(32, 2, "user.x", 3, 0, 0) +
                  record(118, 2, *ZERO, 3, b"abc") + record(120, 2) + walk(1, 2, "a") +
                  record(30, 2, 3, "user.x") + record(116, 3, *ZERO, 9) + record(30, 2, 4, "") +
                  record(116, 4, *ZERO, 99),
    "sessions": record(102, 2, "a", "", 0) + record(108, b"\0\0") +
                record(104, 2, 0xffffffff, "a", "/a", 0) + record(100, 0x2000, "a") +
                record(24, 1, 0, 0) + record(117, 0xffffff) + record(119, 7),
}


def main():
    """Writes them."""
    for name, data in SEEDS.items():
        with open(os.path.join(sys.argv[1], name), "wb") as file:
            file.write(data)


main()
