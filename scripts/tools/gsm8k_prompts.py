#!/usr/bin/env python3
"""Prompts for `hybrid-lab eval` from the last problems of GSM8K's train file, which no head was trained on.

    gsm8k_prompts.py gsm8k-train.jsonl N      N to measure, and N to set thresholds on
"""

import json
import sys
from pathlib import Path

INSTRUCTION = "Solve the problem step by step. End with a line 'Answer: ' and the number."


def main(path: str, count: int) -> None:
    problems = list(enumerate(Path(path).read_text().splitlines()))[-2 * count :]
    for number, line in problems:
        content = f"{INSTRUCTION}\n\n{json.loads(line)['question']}"
        split = "validation" if number % 2 else "test"
        prompt = {"id": f"gsm8k/{number}", "split": split, "messages": [{"role": "user", "content": content}]}
        print(json.dumps(prompt))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
