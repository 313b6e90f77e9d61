#!/usr/bin/env python3
"""A mixed load in the default guest for many minutes; one TAP test a run.

run_load.py RING3 GUEST_DIR MKINITRD CHURN [RING3 OPTIONS...]

Rounds of fork and exec, gzip and md5, pipes, signals, and CHURN (page tables, see churn.c) repeat in
the guest for RING3_LOAD_MINUTES (default 30); with `tools/guest programs`, xz and sqlite3 too. Each prints a line; none may take longer than
ROUND_LIMIT_S, no result may be wrong, and what ring3 holds of memory besides the guest's must not
grow after the first quarter.
"""
import os
import select
import subprocess
import sys
import tempfile
import time

ROUND_LIMIT_S = 300
GROWTH_KIB = 8192  # of private memory, from the first quarter's peak to the last's
MINUTES = float(os.environ.get("RING3_LOAD_MINUTES", "30"))

LOAD = r"""
want=$(md5sum < /bin/busybox)
LD=/programs/lib/ld-linux-x86-64.so.2
SQL="create table t(a integer primary key, b text);
with recursive n(i) as (select 1 union all select i + 1 from n where i < 5000)
insert into t select i, hex(i * 7) from n; create index b on t(b);
select sum(a), count(distinct b) from t;"
n=0
while :; do
    n=$((n + 1))
    i=0
    while [ $i -lt 20 ]; do
        i=$((i + 1))
        [ "$(echo $i | cat)" = $i ] || { echo "wrong: a pipe"; exit 1; }
        /bin/true || { echo "wrong: exec"; exit 1; }
    done
    got=$(gzip < /bin/busybox | gunzip | md5sum)
    [ "$got" = "$want" ] || { echo "wrong: gzip gives $got, not $want"; exit 1; }
    dd if=/dev/urandom of=/tmp/data bs=64k count=16 2> /dev/null
    a=$(md5sum < /tmp/data); cp /tmp/data /tmp/copy; b=$(md5sum < /tmp/copy)
    [ "$a" = "$b" ] || { echo "wrong: a copy"; exit 1; }
    hit=0; trap 'hit=1' USR1; kill -USR1 $$; [ $hit = 1 ] || { echo "wrong: a signal"; exit 1; }
    sleep 1000 & kill $!; wait $! 2> /dev/null
    if [ -x /programs/bin/xz ]; then
        export LD_LIBRARY_PATH=/programs/lib
        got=$($LD /programs/bin/xz -1 < /bin/busybox | $LD /programs/bin/xz -d | md5sum)
        [ "$got" = "$want" ] || { echo "wrong: xz gives $got, not $want"; exit 1; }
        sum=$($LD /programs/bin/sqlite3 :memory: "$SQL")
        [ "$sum" = "12502500|5000" ] || { echo "wrong: sqlite3 says $sum"; exit 1; }
    fi
    /churn 5 || { echo "wrong: churn"; exit 1; }
    echo "round $n"
done
"""


def private_kib(pid):
    """Anonymous memory: the guest's RAM and the code cache are shared mappings."""
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        fields = dict(line.split(":", 1) for line in f)
    return int(fields["RssAnon"].split()[0]), int(fields["VmRSS"].split()[0])


def watch(process, seconds):
    """Reads rounds until the time is up. (rounds, samples, problem)."""
    began = last = time.monotonic()
    samples, rounds, text = [], 0, b""
    while time.monotonic() - began < seconds:
        if select.select([process.stdout], [], [], 1)[0]:
            more = os.read(process.stdout.fileno(), 4096)
            if not more:
                return rounds, samples, "it ended"
            text += more
            if b"wrong" in text:
                return rounds, samples, text.decode(errors="replace")
            rounds += text.count(b"\n")
            text = text[text.rfind(b"\n") + 1:]
            last = time.monotonic()
        if time.monotonic() - last > ROUND_LIMIT_S:
            return rounds, samples, f"no round within {ROUND_LIMIT_S} s"
        samples.append((time.monotonic() - began, *private_kib(process.pid)))
    return rounds, samples, None


def growth(samples, seconds):
    """Private memory: peak of the last quarter less that of the second."""
    early = [s[1] for s in samples if seconds / 4 <= s[0] < seconds / 2]
    late = [s[1] for s in samples if s[0] >= seconds * 3 / 4]
    return max(late) - max(early) if early and late else 0


def main():
    if len(sys.argv) < 5:
        raise SystemExit(__doc__)
    ring3, guest, mkinitrd, churn, *options = sys.argv[1:]
    print("1..1", flush=True)
    name = " ".join(["load", *options])
    base, programs = os.path.join(guest, "initrd.img"), os.path.join(guest, "programs")
    if not os.path.exists(base):
        print(f"ok 1 - {name} # SKIP no {base}: run tools/guest")
        return 0
    with tempfile.TemporaryDirectory() as tmp:
        image = os.path.join(tmp, "initrd.img")
        add = ["--add", "churn=" + churn]
        if os.path.isdir(programs):
            add += ["--add", "programs=" + programs]
        subprocess.run([mkinitrd, "--base", base, *add, "--out", image], check=True)
        with open(os.path.join(tmp, "err"), "w+", encoding="utf-8", errors="replace") as err:
            p = subprocess.Popen([ring3, "run", "-q", *options, "-k", os.path.join(guest, "vmlinuz"),
                                  "-i", image, "--", "sh", "-c", LOAD],
                                 stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=err)
            rounds, samples, problem = watch(p, MINUTES * 60)
            ended = p.poll()
            p.kill()
            p.wait()
            p.stdout.close()
            err.seek(0)
            said = err.read()
    grown = growth(samples, MINUTES * 60)
    if not problem and not rounds:
        problem = "no round was finished"
    if not problem and grown > GROWTH_KIB:
        problem = f"private memory grew by {grown} KiB"
    print(f"{'not ok' if problem else 'ok'} 1 - {name}: {rounds} rounds")
    if samples:
        print(f"# private {samples[-1][1]} KiB (grown by {grown}), resident {samples[-1][2]} KiB")
    if problem:
        for line in (f"{problem}; status {ended}\n" + said).splitlines():
            print("# " + line)
    return 1 if problem else 0


if __name__ == "__main__":
    sys.exit(main())
