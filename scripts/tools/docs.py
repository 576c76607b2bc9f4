#!/usr/bin/env python3
"""What scripts/docs checks and stages.

docs.py check          every link and C block of the documents, and every line of the tree
docs.py write          programs of examples-c into the documents that show them
docs.py stage BOOK     the sources of the site: the tree of the documents and what they link to
docs.py site SITE      every link of the built site
"""

import sys
from pathlib import Path

import docs_c
import docs_links
import docs_site

ROOT = Path(__file__).resolve().parents[2]
# Not read line by line: data, pictures, recordings, what tools write, and texts that are not ours.
UNREAD = (".ansi", ".csv", ".json", ".jsonl", ".lock", ".log", ".onnx", ".onnx.data")
UNREAD += (".svg", "LICENSE-APACHE", "LICENSE-MIT", "tests/c/abi.txt", "bench_texts/question.txt")


def check() -> list:
    documents = docs_links.documents(ROOT)
    faults = docs_links.faults(ROOT, documents)
    for path in docs_links.listed(ROOT):
        if not path.endswith(UNREAD):
            faults += long_lines(path, (ROOT / path).read_text(encoding="utf-8", errors="replace"))
    return faults + docs_c.faults(ROOT, documents)


def long_lines(path: str, text: str) -> list:
    """Tables too: a wide one is a list, or two tables."""
    return [
        f"{path}:{number}: {len(line)} columns; 100 are allowed"
        for number, line in enumerate(text.splitlines(), 1)
        if len(line) > 100
    ]


def main() -> None:
    action, *rest = sys.argv[1:]
    if action == "check":
        faults = check()
    elif action == "write":
        faults = docs_c.write(ROOT, docs_links.documents(ROOT))
    elif action == "stage":
        faults = docs_site.stage(ROOT, Path(rest[0]))
    else:
        faults = docs_site.faults(Path(rest[0]))
    if faults:
        sys.exit("\n".join(faults))


if __name__ == "__main__":
    main()
