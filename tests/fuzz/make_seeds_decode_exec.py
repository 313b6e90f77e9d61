#!/usr/bin/env python3
"""Writes the seeds of fuzz_decode_exec: instructions of every kind in every mode.

make_seeds_decode_exec.py CORPUS   (the directory that holds decode_exec/)
"""
import os
import sys

REAL, VM86, PROT16, PROT32, LONG64, COMPAT32 = range(6)
CODE = {
    "alu": "01c8 29d8 f7e1 f7f1 0fafc3 c1e005 d3e8 0fa4c805",
    "string": "b91000 f3aa f3a4 f2ae f3a6 ac",
    "stack": "50 58 60 61 9c 9d c8100001 c9 ff30 8f00",
    "branch": "eb00 7500 e800000000 c3 e2fe",
    "far": "ea00800000 0800 cb cf cd80 cc ce",
    "system": "0f20c0 0f22c0 0f01c8 0f0000 0f00d8 0f32 0f30 0fa2 f4",
    "segments": "8ed8 8ec0 8ed0 8ee0 c500 0fb200 0f02c3 0f03c3 63c3",
    "x87": "d9e8 d9ee def9 ddd8 9b dbe3 d9f2 dd30 dd20",
    "sse": "0f58c1 660f58c1 f30f5ec1 0fae00 0fae08 0f29 00 660fefc0",
    "avx": "c5f458c0 c5fd6f00 c4e27d9004 08 c4e27d8c00",
    "lock": "f00100 f00fb108 f00fc708 f0480fc708 0fc108",
    "io": "e460 e660 ec ee 6c 6e f36c",
    "long": "480fc7 08 48cf 0f05 480f07 0f34 0f35 0f01f8 480f01f8",
}


def main():
    out = os.path.join(sys.argv[1], "decode_exec")
    os.makedirs(out, exist_ok=True)
    for mode in range(6):
        for flags in (0, 1):
            for name, text in CODE.items():
                code = bytes.fromhex(text.replace(" ", ""))
                regs = bytes((i * 37 + 5) & 0xff for i in range(24))
                head = bytes([mode, flags | 6, 0x3d if flags else 0x20, 0x02 if flags else 0])
                with open(os.path.join(out, f"{name}-{mode}-{flags}"), "wb") as f:
                    f.write(head + regs + code)
    # Any opcode of the one- and two-byte maps, a run of them each.
    for mode in (REAL, PROT32, LONG64):
        for first in range(0, 256, 16):
            for escape in (b"", b"\x0f"):
                code = b"".join(escape + bytes([op, 0xc1, 0, 0, 0, 0]) for op in range(first, first + 16))
                name = f"map{len(escape)}-{first:02x}-{mode}"
                with open(os.path.join(out, name), "wb") as f:
                    f.write(bytes([mode, 6, 0x20, 0]) + bytes(24) + code)


if __name__ == "__main__":
    main()
