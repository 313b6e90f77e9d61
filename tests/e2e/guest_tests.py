"""What the tests of a real guest share: their list, their checks, and running them. Output is TAP."""
import os
import subprocess

tests = []


def test(few=False, boots=True):
    """`few`: one that even slow engines run; `boots`: it needs the guest."""
    def add(fn):
        tests.append((fn.__name__.replace("_", " "), fn, few, boots))
        return fn
    return add


class Failure(Exception):
    """What is not as it should be."""


class Skip(Exception):
    """Why a test cannot run here."""


def check(condition, *what):
    """Fails with these words unless the condition holds."""
    if not condition:
        raise Failure(" ".join(str(w) for w in what))


def expect(got, out, status=0):
    """Checks a (status, stdout, stderr)."""
    check(got[0] == status and got[1] == out,
          "status %d, expected %d; stdout %r, expected %r; stderr %s" %
          (got[0], status, got[1], out, got[2]))


def main(args, folder, *names):
    """Runs what args.only and args.few leave; the guest is there when `folder` holds `names`."""
    bad, count = 0, 0
    chosen = [t for t in tests if args.only in t[0] and (t[2] or not args.few)]
    print("1..%d" % len(chosen), flush=True)
    ready = all(os.path.exists(os.path.join(folder, n)) for n in names)
    for name, fn, _, boots in chosen:
        count += 1
        result = "ok %d - %s" % (count, name)
        try:
            if boots and not ready:
                raise Skip("no guest in %s; run tools/guest" % folder)
            fn()
        except Skip as why:
            result += " # SKIP " + str(why).replace("\n", " ")
        except (Failure, OSError, subprocess.SubprocessError) as why:
            bad += 1
            result = "not " + result
            print("\n".join("# " + line for line in str(why).split("\n")))
        print(result, flush=True)
    return 1 if bad else 0
