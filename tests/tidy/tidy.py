#!/usr/bin/env python3
"""Checks what docs/architecture.md promises about the shape of the source: which rooms may look into
which, who may talk to the host, sizes and layout.

tidy.py ROOT [--rooms A,B]  prints one line a finding and fails when there is one.
tidy.py --self-test         proves on small bad trees that every check can fail.
Output is TAP.
"""
import os
import re
import sys
import tempfile

# Who may include whom. A room is src/<room>; the engines are rooms of their own.
ARROWS = {
    "base": set(),
    "snap": {"base"},
    "mem": {"base", "snap"},
    "x86": {"base", "snap"},
    "engine": {"base", "snap", "mem", "x86"},
    "engine/interp": {"base", "snap", "mem", "x86", "engine"},
    "engine/bt": {"base", "snap", "mem", "x86", "engine"},
    "engine/kvm": {"base", "snap", "mem", "x86", "engine"},
    "engine/script": {"base", "snap", "mem", "x86", "engine"},
    "host": {"base"},
    "dev": {"base", "snap", "mem", "host"},
    "machine": {"base", "snap", "mem", "x86", "host", "dev", "engine", "engine/interp", "engine/bt",
                "engine/kvm", "engine/script"},
    "ctl": {"base", "machine"},
    "cli": {"base", "ctl", "machine", "host", "engine", "x86"},
    "agent": set(),
}

# Single files that may be included against the arrows: (room, header).
DOORS = {
    ("engine/bt", "engine/interp/step.h"),
    ("engine/kvm", "engine/interp/step.h"),
    ("engine/script", "host/clock.h"),  # the engine that steps the clock
    ("ctl", "agent/proto.h"),
    ("ctl", "agent/frame.h"),
    ("machine", "agent/proto.h"),
    ("machine", "agent/frame.h"),
}

# Files with a reason to be longer than LINES_MAX.
LONG_FILES = {
}
LINES_MAX = 600
COLUMNS_MAX = 100
# A line of text for people is one string on one line, escapes and all.
WHOLE_STRING = re.compile(r'^\s*".*\\n"[;,)]*$')

SOCKET_HEADERS = re.compile(
    r"<(sys/socket|sys/un|netinet/.*|arpa/inet|netdb|poll|sys/poll|sys/epoll|sys/select|"
    r"sys/eventfd|sys/signalfd|sys/timerfd|termios|pty|linux/if_tun)\.h>")
CLOCK_CALLS = re.compile(r"(?<![\w.>])(clock_gettime|gettimeofday|time|clock_nanosleep)\s*\(")
# Single files outside host/ that wait for descriptors, with the reason.
POLLERS = {
}

INCLUDE = re.compile(r'^\s*#\s*include\s+("([^"]+)"|<([^>]+)>)')


def room_of(path):
    """The room of a path below src/, or None."""
    parts = path.split("/")
    if parts[0] == "engine" and len(parts) > 2:
        return "/".join(parts[:2])
    return parts[0] if len(parts) > 1 else None


def without_comments(text):
    """Comments and strings blanked, so that prose about time() is no call; lines stay."""
    def blank(m):
        return re.sub(r"[^\n]", " ", m.group(0))
    return re.sub(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"', blank, text, flags=re.S)


def check_includes(path, text, found):
    room = room_of(path)
    if room not in ARROWS:
        found(1, "room %s is unknown: add it to ARROWS" % room)
        return
    for number, line in enumerate(text.split("\n"), 1):
        m = INCLUDE.match(line)
        if not m:
            continue
        if m.group(3) is not None:
            check_system_include(path, room, m.group(3), number, found)
            continue
        name = m.group(2)
        target = room_of(name)
        if target is None and room == "agent":
            continue
        if target not in ARROWS:
            found(number, 'include "%s": paths start at src/' % name)
        elif target != room and target not in ARROWS[room] and (room, name) not in DOORS:
            found(number, "%s must not look into %s: \"%s\"" % (room, target, name))


def check_system_include(path, room, name, number, found):
    if name == "linux/kvm.h" and room != "engine/kvm":
        found(number, "only engine/kvm includes <linux/kvm.h>")
    if SOCKET_HEADERS.match("<%s>" % name) and room not in ("host", "agent") and path not in POLLERS:
        found(number, "only host/ waits for, opens or sets up descriptors: <%s>" % name)


def check_clock(path, text, found):
    if path.startswith("host/clock") or path.startswith("agent/"):
        return
    for number, line in enumerate(without_comments(text).split("\n"), 1):
        m = CLOCK_CALLS.search(line)
        if m:
            found(number, "only host/clock reads host time: %s()" % m.group(1))


def check_layout(path, text, found):
    """Rules for every .c, .h and .S file of ours, tests included."""
    name = os.path.basename(path)
    lines = text.split("\n")
    if not text.endswith("\n"):
        found(len(lines), "no newline at the end")
    if path.endswith((".c", ".h")) and not re.match(r"/\* %s - \S" % re.escape(name), lines[0]):
        found(1, "the first line is /* %s - what it is */" % name)
    if path.endswith(".h") and "#pragma once" not in lines[:40]:
        found(1, "no #pragma once")
    if len(lines) - 1 > LINES_MAX and path not in LONG_FILES:
        found(LINES_MAX, "%d lines: over %d needs a reason in LONG_FILES" % (len(lines) - 1, LINES_MAX))
    for number, line in enumerate(lines, 1):
        if "\t" in line and not path.endswith(".S"):
            found(number, "tab")
        if line != line.rstrip():
            found(number, "space at the end of the line")
        if len(line) > COLUMNS_MAX and not WHOLE_STRING.match(line):
            found(number, "%d columns, over %d" % (len(line), COLUMNS_MAX))


def sources(top):
    for dirpath, dirs, files in os.walk(top):
        dirs[:] = sorted(d for d in dirs if not d.startswith((".", "build")))
        for name in sorted(files):
            if name.endswith((".c", ".h", ".S")):
                full = os.path.join(dirpath, name)
                yield full, os.path.relpath(full, top).replace(os.sep, "/")


def check_tree(root, rooms=None):
    """All findings of a checkout, as text lines."""
    out = []
    for top in ("src", "tests", "bench", "tools"):
        for full, path in sources(os.path.join(root, top)):
            if rooms and (top != "src" or room_of(path) not in rooms):
                continue
            with open(full, encoding="utf-8", errors="replace") as f:
                text = f.read()

            def found(number, what, where="%s/%s" % (top, path)):
                out.append("%s:%d: %s" % (where, number, what))

            check_layout(path, text, found)
            if top == "src":
                check_includes(path, text, found)
                check_clock(path, text, found)
    return out


# ---- self-test ----

GOOD = "/* %s - a file */\n"
HEAD = GOOD + "#pragma once\n"

# path, text, and what must be found in it (None: nothing).
CASES = [
    ("src/mem/ok.c", GOOD + '#include "base/err.h"\n#include <errno.h>\n', None),
    ("src/engine/bt/ok.c", GOOD + '#include "engine/interp/step.h"\n', None),
    ("src/machine/ok.c", GOOD + '#include "agent/proto.h"\n#include "dev/uart.h"\n', None),
    ("src/host/ok.c", GOOD + "#include <poll.h>\n#include <termios.h>\n", None),
    ("src/host/clock.c", GOOD + "u64 x = clock_gettime(1, 2);\n", None),
    ("src/agent/ok.c", GOOD + '#include "frame.h"\nint t = time(0);\n', None),
    ("src/dev/prose.c", GOOD + "/* unlike time(2) */\nchar *s = \"time(\"; s.time(1); uptime(2);\n",
     None),
    ("src/base/up.c", GOOD + '#include "mem/mem.h"\n', "base must not look into mem"),
    ("src/dev/up.c", GOOD + '#include "engine/engine.h"\n', "dev must not look into engine"),
    ("src/dev/pci/up.c", GOOD + '#include "machine/pc.h"\n', "dev must not look into machine"),
    ("src/x86/up.c", GOOD + '#include "mem/mem.h"\n', "x86 must not look into mem"),
    ("src/engine/bt/side.c", GOOD + '#include "engine/interp/run.h"\n', "engine/bt must not look"),
    ("src/engine/interp/side.c", GOOD + '#include "engine/bt/tb.h"\n', "engine/interp must not"),
    ("src/engine/interp/dev.c", GOOD + '#include "dev/irq.h"\n', "engine/interp must not"),
    ("src/cli/deep.c", GOOD + '#include "dev/uart.h"\n', "cli must not look into dev"),
    ("src/cli/agent.c", GOOD + '#include "agent/proto.h"\n', "cli must not look into agent"),
    ("src/agent/out.c", GOOD + '#include "base/err.h"\n', "agent must not look into base"),
    ("src/machine/agent.c", GOOD + '#include "agent/boot.h"\n', "machine must not look into agent"),
    ("src/dev/rel.c", GOOD + '#include "uart.h"\n', "paths start at src/"),
    ("src/novel/new.c", GOOD, "room novel is unknown"),
    ("src/engine/bt/kvm.c", GOOD + "#include <linux/kvm.h>\n", "only engine/kvm"),
    ("src/dev/net.c", GOOD + "#include <sys/socket.h>\n", "only host/"),
    ("src/machine/poll.c", GOOD + "#  include <poll.h>\n", "only host/"),
    ("src/cli/term.c", GOOD + "#include <termios.h>\n", "only host/"),
    ("src/dev/rtc.c", GOOD + "int t = time(NULL);\n", "only host/clock"),
    ("src/host/loop.c", GOOD + "int t = clock_gettime(1, 2);\n", "only host/clock"),
    ("src/base/first.c", "#include <errno.h>\n", "the first line"),
    ("src/base/other.c", "/* wrong.c - a file */\n", "the first line"),
    ("src/base/twice.h", GOOD, "no #pragma once"),
    ("src/base/tab.c", GOOD + "int\tx;\n", "tab"),
    ("src/base/trail.c", GOOD + "int x; \n", "space at the end"),
    ("src/base/wide.c", GOOD + "/* " + "x" * 100 + " */\n", "columns, over 100"),
    ("src/base/open.c", GOOD + "int x;", "no newline at the end"),
    ("src/base/long.c", GOOD + "int x;\n" * 600, "over 600 needs a reason"),
    ("tests/unit/tab.c", GOOD + "int\tx;\n", "tab"),
    ("tests/unit/any.c", GOOD + "#include <poll.h>\nint t = time(0);\n", None),
    ("src/base/ok.h", HEAD, None),
]


def self_test():
    bad = 0
    print("1..%d" % len(CASES))
    for number, (path, text, expected) in enumerate(CASES, 1):
        with tempfile.TemporaryDirectory() as root:
            full = os.path.join(root, path)
            os.makedirs(os.path.dirname(full))
            with open(full, "w", encoding="utf-8") as f:
                f.write(text.replace("%s", os.path.basename(path), 1))
            out = check_tree(root)
        good = (len(out) == 1 and expected in out[0]) if expected else not out
        bad += not good
        print("%sok %d - %s" % ("" if good else "not ", number, path))
        if not good:
            print("# expected %r, found %r" % (expected, out))
    return bad


def main():
    args = sys.argv[1:]
    if args == ["--self-test"]:
        return 1 if self_test() else 0
    rooms = None
    if "--rooms" in args:
        at = args.index("--rooms")
        rooms = set(args[at + 1].split(","))
        del args[at:at + 2]
    if len(args) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    out = check_tree(args[0], rooms)
    print("1..1")
    print("%sok 1 - source tree" % ("not " if out else ""))
    for line in out:
        print("# " + line)
    return 1 if out else 0


if __name__ == "__main__":
    sys.exit(main())
