#!/usr/bin/env python3
"""Writes the seeds of fuzz_kvm: shared pages with one exit each (corpus/kvm)."""
import os
import struct

DIR = os.path.join(os.path.dirname(os.path.abspath(__file__)), "corpus", "kvm")


def page(reason, union, data=b""):
    """struct kvm_run: exit_reason at 8, the exit's own union at 32; data at 4096."""
    head = struct.pack("<8xI20x", reason) + union
    return head if not data else head.ljust(4096, b"\0") + data


SEEDS = {
    "out": page(2, struct.pack("<BBHIQ", 1, 1, 0x3f8, 1, 4096), b"A"),
    "ins": page(2, struct.pack("<BBHIQ", 0, 2, 0x1f0, 256, 4096), b"\0" * 512),
    "outs-far": page(2, struct.pack("<BBHIQ", 1, 4, 0x80, 0x40000000, 4096)),
    "offset": page(2, struct.pack("<BBHIQ", 1, 4, 0x80, 1, 12286)),
    "mmio-read": page(6, struct.pack("<Q8sIB", 0x100, b"", 4, 0)),
    "mmio-write": page(6, struct.pack("<Q8sIB", 0x7fe, b"abcdefgh", 8, 1)),
    "mmio-long": page(6, struct.pack("<Q8sIB", 0, b"", 0xffffffff, 1)),
    "rdmsr": page(29, struct.pack("<B7xIIQ", 0, 2, 0x1b, 0)),
    "wrmsr-deadline": page(30, struct.pack("<B7xIIQ", 0, 2, 0x6e0, 1 << 60)),
    "wrmsr-mtrr": page(30, struct.pack("<B7xIIQ", 0, 2, 0x200, 6)),
    "internal": page(17, struct.pack("<II", 1, 0)),
}

os.makedirs(DIR, exist_ok=True)
for name, data in SEEDS.items():
    with open(os.path.join(DIR, name), "wb") as f:
        f.write(data)
