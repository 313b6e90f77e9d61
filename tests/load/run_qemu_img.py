#!/usr/bin/env python3
"""Disk files that ring3 and qemu-img make, each as the other one sees them.

run_qemu_img.py RING3 STIR_DISK

Images of many shapes from qemu-img are read and written by ring3, those of ring3 are checked and
compared by qemu-img. Output is TAP; skipped where there is no qemu-img (package qemu-utils).
"""
import os
import shutil
import subprocess
import sys
import tempfile

RING3, STIR = map(os.path.abspath, sys.argv[1:3])
SIZE = 12 << 20
# Options of `qemu-img create`, and of `convert` when it ends in "-c": compressed clusters.
SHAPES = ["compat=1.1", "compat=0.10", "cluster_size=512", "cluster_size=4k", "cluster_size=2M",
          "refcount_bits=1", "refcount_bits=4", "refcount_bits=8", "refcount_bits=32",
          "refcount_bits=64", "lazy_refcounts=on", "preallocation=metadata",
          "cluster_size=64k -c", "cluster_size=4k -c", "compat=0.10 -c",
          "compression_type=zstd -c", "compression_type=zstd,cluster_size=2M -c"]


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise AssertionError("%s: status %d: %s" % (" ".join(command), done.returncode,
                                                    (done.stdout + done.stderr).strip()))


def stir(form, path, seed, rounds=100):
    run(STIR, form, path, str(seed), str(rounds))


def same(raw, image):
    """Both programs find no fault with the image, and the same contents in it."""
    run("qemu-img", "check", image)
    run("qemu-img", "compare", "-f", "raw", "-F", "qcow2", raw, image)
    run(RING3, "disk", "check", image)
    if os.path.exists("out"):
        os.remove("out")
    run(RING3, "disk", "convert", image, "out", "-f", "raw")
    run("cmp", raw, "out")


def new_raw(name, seed):
    with open(name, "wb") as f:
        f.truncate(SIZE)
    stir("raw", name, seed, 60)


def from_qemu(shape):
    options = shape.split()
    new_raw("raw", 1)
    run("qemu-img", "convert", *options[1:], "-f", "raw", "-O", "qcow2", "-o", options[0], "raw",
        "image")
    same("raw", "image")
    for seed in (2, 3):
        stir("raw", "raw", seed)
        stir("qcow2", "image", seed)
        same("raw", "image")


def from_ring3(cluster):
    run(RING3, "disk", "create", "-f", "qcow2", "--cluster", cluster, "image", str(SIZE))
    with open("raw", "wb") as f:
        f.truncate(SIZE)
    same("raw", "image")
    stir("raw", "raw", 4)
    stir("qcow2", "image", 4)
    same("raw", "image")


def converted(_):
    new_raw("raw", 5)
    run(RING3, "disk", "convert", "raw", "image", "-f", "qcow2")
    same("raw", "image")


def chain(form):
    """An overlay of qemu-img over an image, an overlay of ring3 over that; the base is shorter."""
    new_raw("raw", 6)
    run("qemu-img", "convert", "-f", "raw", "-O", form, "raw", "base")
    with open("raw", "r+b") as f:
        f.truncate(SIZE + (1 << 20))
    run("qemu-img", "create", "-q", "-f", "qcow2", "-b", "base", "-F", form, "middle",
        str(SIZE + (1 << 20)))
    stir("raw", "raw", 7, 30)
    stir("qcow2", "middle", 7, 30)
    run(RING3, "disk", "create", "-f", "qcow2", "-b", "middle", "image")
    same("raw", "image")
    stir("raw", "raw", 8)
    stir("qcow2", "image", 8)
    same("raw", "image")


def snapshots(shape):
    """What an internal snapshot holds is not touched by writing."""
    new_raw("raw", 9)
    shutil.copy("raw", "old")
    run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-o", shape, "raw", "image")
    run("qemu-img", "snapshot", "-c", "one", "image")
    stir("raw", "raw", 10)
    stir("qcow2", "image", 10)
    same("raw", "image")
    run("qemu-img", "snapshot", "-a", "one", "image")
    same("old", "image")
    run("qemu-img", "snapshot", "-d", "one", "image")
    same("old", "image")


def main():
    tests = [(from_qemu, s) for s in SHAPES]
    tests += [(from_ring3, c) for c in ("512", "4K", "64K", "2M")] + [(converted, "raw")]
    tests += [(chain, f) for f in ("raw", "qcow2")]
    tests += [(snapshots, s) for s in ("cluster_size=64k", "cluster_size=512", "compat=0.10")]
    if not shutil.which("qemu-img"):
        print("1..0 # SKIP no qemu-img here: apt-get install qemu-utils")
        return 0
    print("1..%d" % len(tests), flush=True)
    bad = 0
    for number, (test, arg) in enumerate(tests, 1):
        problem = ""
        with tempfile.TemporaryDirectory() as tmp:
            os.chdir(tmp)
            try:
                test(arg)
            except AssertionError as e:
                problem = str(e)
            os.chdir("/")
        bad += bool(problem)
        print("%sok %d - %s %s" % ("not " if problem else "", number, test.__name__, arg), flush=True)
        for line in problem.splitlines():
            print("# " + line)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
