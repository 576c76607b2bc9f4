#!/usr/bin/env python3
"""Checks problems of our own, which are worded like MBPP's, before a head is trained on them.

    check_problems.py heads/problems.jsonl mbpp.jsonl

Ends with an error where one is a problem of MBPP that is held out (validation or test) in the
same or nearly the same words: a head must not have seen these.
"""

import json
import re
import sys
from pathlib import Path

HELD_OUT = range(11, 601)
OPENING = 6  # words that many tasks begin with: "Write a function to find the"
SEQUENCE = 8  # words in a row that two different tasks hardly share
SIMILAR = 0.6  # of the words


class Task:
    def __init__(self, text: str, names: set):
        words = re.findall(r"[a-z0-9_']+", text.lower())
        self.names, self.words = names, set(words)
        self.sequences = {
            tuple(words[at : at + SEQUENCE]) for at in range(OPENING, len(words) - SEQUENCE + 1)
        }

    def is_like(self, other: "Task") -> bool:
        shared, either = self.words & other.words, self.words | other.words
        return bool(
            self.names & other.names
            or self.sequences & other.sequences
            or len(shared) > SIMILAR * len(either)
        )


def held_out(mbpp: Path) -> list:
    problems = [json.loads(line) for line in mbpp.read_text().splitlines()]
    return [
        Task(problem["text"], set(re.findall(r"^def (\w+)", problem["code"], re.M)))
        for problem in problems if problem["task_id"] in HELD_OUT
    ]  # fmt: skip


def main(problems: str, mbpp: str) -> None:
    kept_apart = held_out(Path(mbpp))
    for line in Path(problems).read_text().splitlines():
        problem = json.loads(line)
        task = Task(problem["task"], {problem["name"]})
        if any(task.is_like(other) for other in kept_apart):
            raise SystemExit(
                f"{problem['name']} is too much like a problem that is held out: "
                f"leave it out of {problems}"
            )


if __name__ == "__main__":
    main(*sys.argv[1:])
