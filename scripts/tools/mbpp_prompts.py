#!/usr/bin/env python3
"""Prompts for hybrid-lab and `hybrid calibrate` from MBPP, or from problems of our own that are worded like it.

    mbpp_prompts.py FILE [--system TEXT]      FILE: mbpp.jsonl or heads/problems.jsonl

The LLM completes a Python function whose head and task it is given. MBPP is split as its authors do; those of
our own are all to train on. Without --system the chat template may bring a system message of its own.
"""

import argparse
import json
import re
from pathlib import Path

INSTRUCTION = "Write a Python function that solves the problem. Answer with code only."
# Task ids. The first ten are the authors' examples; two problems repeat others.
SPLITS = {"test": range(11, 511), "validation": range(511, 601), "train": range(601, 975)}
REPEATED = (12, 914)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--system", help="a system message before every prompt")
    options = parser.parse_args()
    for line in options.file.read_text(encoding="utf-8").split("\n"):
        problem = parse(json.loads(line)) if line.strip() else None
        if problem:
            print(json.dumps(prompt(*problem, options.system)))


def parse(line: dict) -> tuple[str, str, str, str] | None:
    """Name, split, task and head of the function; None for a problem of no split."""
    if "task_id" not in line:
        return f"own/{line['name']}", "train", line["task"], line["head"]
    split = split_of(line["task_id"])
    if split is None:
        return None
    head = function_head(line["code"], line["test_list"])
    if head is None:
        raise SystemExit(f"problem {line['task_id']}: its tests call no function of its code")
    return f"mbpp/{line['task_id']}", split, line["text"], head


def split_of(task_id: int) -> str | None:
    if task_id in REPEATED:
        return None
    return next((name for name, ids in SPLITS.items() if task_id in ids), None)


def function_head(code: str, tests: list[str]) -> str | None:
    """`def name(parameters):` of the function that the tests call."""
    for line in code.split("\n"):
        if match := re.match(r"def\s+(\w+)", line):
            called = re.compile(rf"(?<!\w){re.escape(match[1])}\s*\(")
            head = head_of(line)
            if head and any(called.search(test) for test in tests):
                return head
    return None


def head_of(line: str) -> str | None:
    """The line up to the colon that is in no bracket."""
    depth = 0
    for at, char in enumerate(line):
        depth += (char in "([{") - (char in ")]}")
        if char == ":" and depth == 0:
            return line[: at + 1]
    return None


def prompt(name: str, split: str, task: str, head: str, system: str | None) -> dict:
    task = task.strip()
    messages = [{"role": "user", "content": f"{INSTRUCTION}\n\n{task}"}]
    if system is not None:
        messages.insert(0, {"role": "system", "content": system})
    prefill = f'```python\n{head}\n    """{task}"""\n'
    return {"id": name, "split": split, "messages": messages, "prefill": prefill, "stop": "python-function"}


if __name__ == "__main__":
    main()
