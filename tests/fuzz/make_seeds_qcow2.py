#!/usr/bin/env python3
"""Writes corpus/qcow2/: small images of every kind of cluster, each behind some requests."""
import os
import struct
import zlib

CLUSTER = 512
COPIED, COMPRESSED, ZERO = 1 << 63, 1 << 62, 1
OPS = b"".join(struct.pack("<BHB", what, where, much)
               for what, where, much in ((0, 0, 4), (2, 100, 255), (3, 0x2000, 16), (4, 0x1000, 255),
                                         (1, 0x8000, 200), (5, 0, 9), (13, 0, 9), (0, 0xfff0, 80)))


def image(version=3, features=0, order=4, size=32768, backing=b"", snapshots=0, crypt=0, l2=None,
          counts=None):
    """Header, refcount table, refcount block, L1, L2, then three clusters of data."""
    head = struct.pack(">IIQIIQIIQQIIQ", 0x514649fb, version, 0, 0, 9, size, crypt, 1, 3 * CLUSTER,
                       CLUSTER, 1, snapshots, 5 * CLUSTER if snapshots else 0)
    if version == 3:
        head += struct.pack(">QQQII", features, 0, 0, order, 104)
        head += struct.pack(">II", 0xe2792aca, 3) + b"raw".ljust(8, b"\0") + bytes(8)
    if backing:
        head = head[:8] + struct.pack(">QI", len(head), len(backing)) + head[20:] + backing
    pack = zlib.compressobj(9, zlib.DEFLATED, -12)
    packed = pack.compress(b"ring" * (CLUSTER // 4)) + pack.flush()
    table = l2 or [5 * CLUSTER | COPIED, COMPRESSED | 7 * CLUSTER, ZERO if version == 3 else 0, 0,
                   6 * CLUSTER | COPIED]
    parts = [head, struct.pack(">Q", 2 * CLUSTER), struct.pack(">8H", *(counts or [1] * 8)),
             struct.pack(">Q", 4 * CLUSTER | COPIED), struct.pack(">%dQ" % len(table), *table),
             b"A" * CLUSTER, b"B" * CLUSTER, packed]
    return b"".join(part.ljust(CLUSTER, b"\0") for part in parts)


def main():
    seeds = {
        "good": image(),
        "v2": image(version=2),
        "dirty": image(features=1, counts=[1, 1, 1, 1, 1, 0, 2, 0]),
        "corrupt": image(features=2),
        "unknown-feature": image(features=16),
        "encrypted": image(crypt=1),
        "wide-refcounts": image(order=6),
        "bit-refcounts": image(order=0),
        "itself-as-backing": image(backing=b"/proc/self/exe"),
        "snapshots": image(snapshots=3),
        "twice": image(l2=[5 * CLUSTER | COPIED, 5 * CLUSTER | COPIED]),
        "tables-as-data": image(l2=[CLUSTER | COPIED, 2 * CLUSTER | COPIED, 3 * CLUSTER | COPIED,
                                    4 * CLUSTER | COPIED, COPIED]),
        "far": image(features=1, l2=[(1 << 55) | COPIED, COMPRESSED | ((1 << 61) - 1)]),
        "loop": image(l2=[4 * CLUSTER | COPIED] * 64),
        "short": image()[:1024],
        "huge": image(size=1 << 62),
    }
    out = os.path.join(os.path.dirname(os.path.abspath(__file__)), "corpus", "qcow2")
    os.makedirs(out, exist_ok=True)
    for name, data in seeds.items():
        with open(os.path.join(out, name), "wb") as f:
            f.write(OPS + data)


if __name__ == "__main__":
    main()
