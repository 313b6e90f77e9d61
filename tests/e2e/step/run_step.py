#!/usr/bin/env python3
"""run_step.py - feeds cases.jsonl and small published-format files to ring3-step, as TAP

usage: run_step.py RING3_STEP
"""
import gzip
import json
import os
import struct
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
REGS32 = ["cr0", "cr3", "eax", "ebx", "ecx", "edx", "esi", "edi", "ebp", "esp",
          "cs", "ds", "es", "fs", "gs", "ss", "eip", "eflags", "dr6", "dr7"]
REGS16 = ["ax", "bx", "cx", "dx", "cs", "ss", "ds", "es", "sp", "bp", "si", "di", "ip", "flags"]


def contains(got, want, path=""):
    """Where `got` lacks something of `want`, or None."""
    if isinstance(want, dict):
        if not isinstance(got, dict):
            return f"{path}: {got!r} is no object"
        if not want and got:
            return f"{path}: {got!r} is not empty"
        for k, v in want.items():
            if k not in got:
                return f"{path}.{k} is missing"
            found = contains(got[k], v, f"{path}.{k}")
            if found:
                return found
        return None
    if isinstance(want, list) and path.endswith((".st", ".ymm")):
        got = got[:len(want)]
    return None if got == want else f"{path}: got {got!r}, expected {want!r}"


def json_cases(tool):
    with open(os.path.join(HERE, "cases.jsonl"), encoding="utf-8") as f:
        tests = [json.loads(line) for line in f if line.strip() and not line.startswith("#")]
    # A line that is no JSON must not disturb the others.
    lines = [json.dumps(t["case"]) for t in tests]
    text = "\n".join(lines[:1] + ["{broken"] + lines[1:]) + "\n"
    p = subprocess.run([tool], input=text, capture_output=True, text=True, timeout=60, check=False)
    results = [json.loads(line) for line in p.stdout.splitlines()]
    if len(results) != len(tests) + 1:
        yield "one result a line", f"{len(results)} results for {len(tests) + 1} lines: {p.stderr}"
        return
    broken = results.pop(1)
    yield "a broken line", None if broken.get("error", "").startswith("bad JSON") else repr(broken)
    for t, got in zip(tests, results):
        yield t["test"], contains(got, t["expect"])


def chunk(tag, data):
    return tag.encode() + struct.pack("<I", len(data)) + data


def moo(tests, names, tag, unit):
    """The same tests as a MOO file (github.com/dbalsom/moo)."""
    def side(s):
        present = [n for n in names if n in s["regs"]]
        bits = sum(1 << names.index(n) for n in present)
        regs = struct.pack("<" + unit, bits) + b"".join(struct.pack("<" + unit, s["regs"][n]) for n in present)
        ram = struct.pack("<I", len(s["ram"])) + b"".join(struct.pack("<IB", a, b) for a, b in s["ram"])
        return chunk(tag, regs) + chunk("RAM ", ram)

    out = chunk("MOO ", struct.pack("<BBHI4s", 1, 1, 0, len(tests), b"386E"))
    for i, t in enumerate(tests):
        name, code = t["name"].encode(), bytes(t["bytes"])
        body = struct.pack("<I", i)
        body += chunk("NAME", struct.pack("<I", len(name)) + name)
        body += chunk("BYTS", struct.pack("<I", len(code)) + code)
        body += chunk("INIT", side(t["initial"])) + chunk("FINA", side(t["final"]))
        if "exception" in t:
            e = t["exception"]
            body += chunk("EXCP", struct.pack("<BI", e["number"], e["flag_address"]))
        out += chunk("TEST", body)
    return out


def sst_tests(model):
    """ADD, a wrong result, a MUL whose undefined flags differ, and (386) a divide error."""
    wide = model == "386"
    names = REGS32 if wide else REGS16
    hlt = 0 if model == "8088" else 1
    e = "e" if wide else ""

    def test(name, code, regs, changed, ram=(), ram_after=(), exc=None):
        initial = {n: 0 for n in names}
        initial.update({"cs": 0x1000, e + "ip": 0x100, e + "flags": 2, e + "sp": 0x200, "ss": 0x2000})
        if wide:
            initial.update({"cr0": 0x7ffefff0, "dr6": 0xffff0ff0})
        initial.update(regs)
        final = dict(changed)
        final.setdefault(e + "ip", 0x100 + len(code) + hlt)
        mem = [[0x10100 + i, b] for i, b in enumerate(code + [0xf4])] + [list(x) for x in ram]
        t = {"name": name, "bytes": code, "initial": {"regs": initial, "ram": mem, "queue": []},
             "final": {"regs": final, "ram": [list(x) for x in ram_after], "queue": []}}
        if exc:
            t["exception"] = {"number": exc, "flag_address": 0x201fe} if exc != -1 else \
                {"number": 0, "flag_address": 0x201fe}
        return t

    a, b, d = e + "ax", e + "bx", e + "dx"
    good = [
        test("add ax,bx", [0x01, 0xd8], {a: 5, b: 7}, {a: 12, e + "flags": 6}),
        test("mov [bx],ax", [0x89, 0x07], {a: 0x1234, b: 0x80}, {}, ram_after=[(0x80, 0x34), (0x81, 0x12)]),
        test("mul bx", [0xf7, 0xe3], {a: 3, b: 5}, {a: 15, d: 0, e + "flags": 2 | 0xd4}),
    ]
    if wide:
        good.append(test("div bx", [0xf7, 0xf3], {b: 0}, {e + "ip": 0x401, "cs": 0x50, e + "sp": 0x1fa},
                         ram=[(0, 0), (1, 4), (2, 0x50), (3, 0)],
                         ram_after=[(0x201fa, 0), (0x201fb, 1), (0x201fc, 0), (0x201fd, 0x10), (0x201fe, 0x95)],
                         exc=-1))
    bad = [test("add ax,bx", [0x01, 0xd8], {a: 5, b: 7}, {a: 13, e + "flags": 6})]
    return good, bad


def published(tool):
    for model in ("8088", "286", "386"):
        good, bad = sst_tests(model)
        names, tag, unit = (REGS32, "RG32", "I") if model == "386" else (REGS16, "REGS", "H")
        with tempfile.TemporaryDirectory() as tmp:
            for kind, tests, status in (("agrees", good, 0), ("disagrees", bad, 1)):
                paths = [os.path.join(tmp, "t.json"), os.path.join(tmp, "t.json.gz"), os.path.join(tmp, "t.moo")]
                text = json.dumps(tests).encode()
                with open(paths[0], "wb") as f:
                    f.write(text)
                with gzip.open(paths[1], "wb") as f:
                    f.write(text)
                with open(paths[2], "wb") as f:
                    f.write(moo(tests, names, tag, unit))
                p = subprocess.run([tool, "--format", "sst", "--model", model] + paths, capture_output=True,
                                   text=True, timeout=60, check=False)
                n = 3 * len(tests)
                want = f"total: {n if not status else 0} passed, {n if status else 0} failed, 0 known differences"
                ok = p.returncode == status and want in p.stdout
                yield f"published format, {model}: {kind}", None if ok else \
                    f"status {p.returncode}: {p.stdout}{p.stderr}"
            with open(os.path.join(tmp, "cut.moo"), "wb") as f:
                f.write(moo(good, names, tag, unit)[:-3])
            p = subprocess.run([tool, "--format", "sst", "--model", model, os.path.join(tmp, "cut.moo")],
                               capture_output=True, text=True, timeout=60, check=False)
            ok = p.returncode == 1 and "truncated" in p.stderr
            yield f"published format, {model}: truncated", None if ok else f"{p.returncode}: {p.stderr}"


def main():
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    tool = sys.argv[1]
    n = failed = 0
    for title, problem in list(json_cases(tool)) + list(published(tool)):
        n += 1
        failed += problem is not None
        print(f"{'ok' if problem is None else 'not ok'} {n} - {title}")
        for line in (problem or "").splitlines():
            print("# " + line)
    print(f"1..{n}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
