#!/usr/bin/env python3
"""Problems of GSM8K with their solutions as one text, for `hybrid prune` and for perplexities.

gsm8k_text.py gsm8k-train.jsonl FIRST COUNT      problems FIRST to FIRST + COUNT - 1
"""

import json
import re
import sys
from pathlib import Path


def main(path: str, first: int, count: int) -> None:
    for line in Path(path).read_text().splitlines()[first : first + count]:
        problem = json.loads(line)
        # What a calculator was asked stands between << and >>.
        answer = re.sub(r"<<.*?>>", "", problem["answer"])
        print(f"{problem['question']}\n{answer}\n")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
