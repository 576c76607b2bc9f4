#!/usr/bin/env python3
"""docs/latency.md from the answers that scripts/latency has timed.

    latency.py FOLDER DOCUMENT

FOLDER has delay-MS.jsonl of examples/latency.rs, and machine.txt. The prose is in latency.md
beside this.
"""

import json
import sys
import textwrap
from pathlib import Path
from string import Template

from tables import percent, table

HEAD = [
    "delay", "share", "SLM alone", "cloud LLM alone", "without overlap", "with overlap",
    "without, in SLM times", "with, in SLM times",
]  # fmt: skip
COUNTS = [
    "delay", "share", "tokens", "consults", "answered with the candidate", "server's own seconds",
    "SLM behind consults, s", "equal texts",
]  # fmt: skip


class Way:
    """All answers of one way, summed up."""

    def __init__(self, answers: list):
        self.answers = {answer["prompt"]: answer for answer in answers}

    def sum(self, key: str) -> float:
        return sum(answer[key] for answer in self.answers.values())

    def server(self, delay: float) -> float:
        """What the server itself has needed: the consults' time without the network's delay."""
        return self.sum("cloud_seconds") - delay * self.sum("consults")

    def ratio(self, delay: float, local: "Way") -> float:
        """The time, without what the server itself has needed, in times of the SLM alone."""
        return (self.sum("seconds") - self.server(delay)) / local.sum("seconds")

    def equal(self, other: "Way") -> int:
        """Answers with the same text."""
        texts = ((answer["text"], other.answers[name]["text"]) for name, answer in
                 self.answers.items())  # fmt: skip
        return sum(ours == theirs for ours, theirs in texts)


def main(folder: Path, document: Path) -> None:
    delays = read(folder)
    if not delays:
        raise SystemExit(f"{folder} has no measurements: run scripts/latency")
    times, counts, wanted = [], [], None
    for delay, answers in sorted(delays.items()):
        local, cloud = (pick(answers, way) for way in ("local", "cloud"))
        for share in sorted({answer["share"] for answer in answers if answer["way"] == "plain"}):
            plain, overlap = (pick(answers, way, share) for way in ("plain", "overlap"))
            name = [f"{delay} ms", percent(share, 0)]
            ratios = [way.ratio(delay / 1000, local) for way in (plain, overlap)]
            seconds = [f"{way.sum('seconds'):.1f} s" for way in (local, cloud, plain, overlap)]
            times.append([*name, *seconds, *(f"{ratio:.2f}" for ratio in ratios)])
            consults = overlap.sum("consults")
            counts.append([
                *name, str(overlap.sum("tokens")), str(consults),
                percent(overlap.sum("agreed") / max(consults, 1), 0),
                f"{overlap.server(delay / 1000):.1f}", f"{overlap.sum('overlap_seconds'):.1f}",
                f"{overlap.equal(plain)} of {len(overlap.answers)}",
            ])  # fmt: skip
            if (delay, round(share, 3)) == (80, 0.1):
                wanted = ratios[1]
    template = Template(Path(__file__).with_name("latency.md").read_text(encoding="utf-8"))
    text = template.substitute(
        machine=textwrap.fill((folder / "machine.txt").read_text(encoding="utf-8"), 100),
        problems=len(local.answers),
        times=table(HEAD, times),
        counts=table(COUNTS, counts),
    )
    document.write_text(text, encoding="utf-8")
    print(text)
    print(f"ratio_80_10={wanted:.3f}" if wanted else "ratio_80_10=not measured")


def read(folder: Path) -> dict:
    """The answers by the delay in milliseconds."""
    found = {}
    for file in folder.glob("delay-*.jsonl"):
        lines = file.read_text(encoding="utf-8").splitlines()
        found[int(file.stem.removeprefix("delay-"))] = [json.loads(line) for line in lines]
    return found


def pick(answers: list, way: str, share: float = 0) -> Way:
    return Way([a for a in answers if (a["way"], a["share"]) == (way, share)])


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
