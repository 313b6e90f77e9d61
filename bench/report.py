"""What the bench compares: the rows, their targets, the table and its JSON."""
import json
import os

# rows, subject/native at most, TCG/subject at least
TARGETS = [
    ("sha256 sort lz hash", 2.5, 2.5),
    ("chase", 2.0, 1),
    ("dgemm-sse2 dgemm-avx2 memcpy strlen", 2.0, 6),
    ("fib", 3.0, 4),
    ("indirect bytecode", 3.0, 1.5),
    ("getppid signal", 3.0, 2),
    ("pagefault fork-exit fork-exec", 3.0, 3),
    ("pipe ring", 1.5, 2),
    ("file4k", 5.0, 4),
    ("xz gzip sqlite", 3.0, 3),
    ("read128k write128k", 1.43, 3),  # 70 % of the host's throughput
    ("read4k write4k", None, 3),
    ("boot debian", None, 3),
]
AT_MOST = {row: most for rows, most, _ in TARGETS for row in rows.split()}
AT_LEAST = {row: least for rows, _, least in TARGETS for row in rows.split()}
ROWS = list(AT_MOST)
JOBS = ["xz", "gzip", "sqlite"]
SHORT = ["sha256", "fib", "getppid", "fork-exit", "boot"]  # what an interpreter ends in a minute


class Table:
    """Samples by row and side; `subject` is the engine that is judged."""

    def __init__(self, rows, sides, subject, pick):
        self.rows, self.sides, self.subject, self.pick = rows, sides, subject, pick
        self.samples = {row: {side: [] for side in sides} for row in rows}
        self.checksums = {row: {} for row in rows}

    def add(self, row, side, ns, checksum=None):
        self.samples[row][side].append(ns)
        if checksum is not None:
            self.checksums[row].setdefault(side, checksum)

    def time(self, row, side):
        """The median or best of the rounds in ns, or None."""
        samples = self.samples[row].get(side)
        return self.pick(samples) if samples else None

    def ratio(self, row, side, other):
        a, b = self.time(row, side), self.time(row, other)
        return a / b if a and b else None

    def wrong(self):
        """Lines about checksums that are not alike."""
        return ["%s: %s" % (row, ", ".join("%s %s" % item for item in sums.items()))
                for row, sums in self.checksums.items() if len(set(sums.values())) > 1]

    def verdicts(self, row):
        """((ratio, target, missed), ...) of the two comparisons."""
        slower = self.ratio(row, self.subject, "native")
        faster = self.ratio(row, "tcg", self.subject)
        most, least = AT_MOST[row], AT_LEAST[row]
        return ((slower, most, bool(slower and most and slower > most)),
                (faster, least, bool(faster and least and faster < least)))

    def text(self):
        """The table for people."""
        head = "%-11s" % "row"
        for side in self.sides:
            head += "%11s" % (side + " ms")
        head += "%*s%9s%12s%10s" % (len(self.subject) + 10, self.subject + "/native", "at most",
                                    "tcg/" + self.subject, "at least")
        return "\n".join([head, *map(self.line, self.rows)])

    def line(self, row):
        cells = "%-11s" % row
        for side in self.sides:
            ns = self.time(row, side)
            cells += "%11s" % ("" if ns is None else "%.2f" % (ns / 1e6))
        widths = (len(self.subject) + 8, 9), (10, 10)
        for (ratio, target, missed), width in zip(self.verdicts(row), widths):
            cells += "%*s %s" % (width[0], "" if ratio is None else "%.2f" % ratio,
                                 "!" if missed else " ")
            cells += "%*s" % (width[1], "" if target is None else target)
        return cells.rstrip()

    def summary(self):
        """How many targets could be judged, and which were missed."""
        judged = missed = 0
        names = []
        for row in self.rows:
            for (ratio, target, miss), what in zip(self.verdicts(row), ("native", "tcg")):
                judged += ratio is not None and target is not None
                missed += miss
                if miss:
                    names.append("%s (%s)" % (row, what))
        if not judged:
            return "no target could be judged"
        return "%d of %d targets met%s" % (judged - missed, judged,
                                           "; missed: " + ", ".join(names) if names else "")

    def write_json(self, path, notes):
        rows = {}
        for row in self.rows:
            slower, faster = self.verdicts(row)
            rows[row] = {
                "ns": {side: self.time(row, side) for side in self.sides},
                "samples_ns": self.samples[row],
                "checksums": self.checksums[row],
                "to_native": slower[0], "to_native_at_most": slower[1],
                "tcg_to_subject": faster[0], "tcg_to_subject_at_least": faster[1],
                "missed": slower[2] or faster[2],
            }
        with open(path + ".new", "w", encoding="utf-8") as file:
            json.dump({"subject": self.subject, "sides": self.sides, "load": os.getloadavg(),
                       "rows": rows, "notes": notes, "wrong": self.wrong()}, file, indent=1)
            file.write("\n")
        os.replace(path + ".new", path)
