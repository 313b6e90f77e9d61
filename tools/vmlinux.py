#!/usr/bin/env python3
"""Takes the ELF kernel out of a bzImage.

usage: vmlinux.py BZIMAGE VMLINUX

The setup header says where the payload is (Documentation/arch/x86/boot.rst: payload_offset and
payload_length); its first bytes say how it is compressed. Prints the entry point a PVH loader uses.
"""
import bz2
import lzma
import os
import struct
import subprocess
import sys
import zlib

PVH_NOTE = 18  # XEN_ELFNOTE_PHYS32_ENTRY


def fail(message):
    """One line, and no more."""
    sys.exit(f"tools/vmlinux.py: {message}")


def payload_of(image):
    """The compressed kernel inside a bzImage."""
    if len(image) < 0x268 or image[0x202:0x206] != b"HdrS":
        fail("not a bzImage: no setup header")
    version, = struct.unpack_from("<H", image, 0x206)
    if version < 0x208:
        fail(f"boot protocol {version:#x} does not tell where the payload is")
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = ((image[0x1F1] or 4) + 1) * 512 + offset
    if start + length > len(image) or length < 8:
        fail("truncated bzImage")
    return image[start:start + length]


def tool(*command):
    """A decompressor that is a program from stdin to stdout."""
    def run(data):
        try:
            done = subprocess.run(command, input=data, capture_output=True, check=False)
        except FileNotFoundError:
            fail(f"the kernel needs {command[0]} to unpack, which is not installed")
        if done.returncode:
            fail(f"{command[0]}: {done.stderr.decode(errors='replace').strip()}")
        return done.stdout
    return run


# Magic, decompressor. Four bytes of size follow the payload in all formats but gzip; Python's
# decompressors leave them, the programs would take them for more data.
FORMATS = [
    (b"\x1f\x8b", lambda data: zlib.decompressobj(31).decompress(data)),
    (b"\xfd7zXZ\0", lambda data: lzma.LZMADecompressor().decompress(data)),
    (b"]\0\0", lambda data: lzma.LZMADecompressor(lzma.FORMAT_ALONE).decompress(data)),
    (b"BZh", lambda data: bz2.BZ2Decompressor().decompress(data)),
    (b"\x28\xb5\x2f\xfd", lambda data: tool("zstd", "-dc")(data[:-4])),
    (b"\x02\x21\x4c\x18", lambda data: tool("lz4", "-dc")(data[:-4])),
    (b"\x89LZO", lambda data: tool("lzop", "-dc")(data[:-4])),
    (b"\x7fELF", lambda data: data),
]


def decompress(payload):
    """The ELF file."""
    for magic, unpack in FORMATS:
        if payload.startswith(magic):
            try:
                elf = unpack(payload)
            except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
                fail(f"damaged payload: {error}")
            if elf[:6] != b"\x7fELF\x02\x01":
                fail("the payload is not a 64-bit ELF file")
            return elf
    return fail(f"unknown compression (payload starts with {payload[:6].hex()})")


def pvh_entry(elf):
    """The address in the PVH note, or None."""
    table, = struct.unpack_from("<Q", elf, 32)
    size, count = struct.unpack_from("<HH", elf, 54)
    for i in range(count):
        kind, _, at, _, _, length = struct.unpack_from("<IIQQQQ", elf, table + i * size)
        end = at + length
        while kind == 4 and at + 12 <= end:
            name_size, desc_size, note = struct.unpack_from("<III", elf, at)
            name = elf[at + 12:at + 12 + name_size]
            desc = at + 12 + (name_size + 3 & ~3)
            if note == PVH_NOTE and name == b"Xen\0":
                return int.from_bytes(elf[desc:desc + min(desc_size, 8)], "little")
            at = desc + (desc_size + 3 & ~3)
    return None


def main():
    """Parses the command line."""
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    source, target = sys.argv[1:]
    try:
        with open(source, "rb") as file:
            elf = decompress(payload_of(file.read()))
        with open(target + ".new", "wb") as file:
            file.write(elf)
        os.replace(target + ".new", target)
    except OSError as error:
        fail(error)
    entry = pvh_entry(elf)
    print(f"{target}: {len(elf)} bytes, " + (f"PVH entry {entry:#x}" if entry else "no PVH entry"))


main()
