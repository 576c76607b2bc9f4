"""The C blocks of the documents: every one compiles against include/hybrid.h.

A block that includes a header is a whole file. Any other is a fragment: it is put into a function
in which the usual variables are there. "```c examples-c/NAME.c" shows that file, line by line.
Names of the C API in the text must be in the header, too.
"""

import re
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

BLOCK = re.compile(r"(?ms)^```c(?: (\S+))?\n(.*?)^```$")
FLAGS = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-Wno-unused", "-fsyntax-only"]
FLAGS += ["-fno-diagnostics-show-caret", "-x", "c"]
NAME = re.compile(r"`(hybrid_\w+|HYBRID_\w+)")
# Variables of the environment, which scripts and tools read.
VARIABLES = ("HYBRID_DATA", "HYBRID_CLOUD_", "HYBRID_MODELS_URL")
FRAGMENT = """#include <stdio.h>
#include <string.h>
#include "hybrid.h"
void fragment(hybrid_model *model, hybrid_cloud *cloud, hybrid_session *session, int cloud_tokens,
              hybrid_status status);
void fragment(hybrid_model *model, hybrid_cloud *cloud, hybrid_session *session, int cloud_tokens,
              hybrid_status status) {
#line %d "%s"
%s}
"""


def blocks(text: str) -> list:
    """(number of its first line, file that it shows or None, code) of every C block."""
    return [(text.count("\n", 0, b.start()) + 2, b[1], b[2]) for b in BLOCK.finditer(text)]


def faults(root: Path, documents: list) -> list:
    found, jobs = [], []
    for document in documents:
        found += unknown_names(root, document)
        for number, shown, code in blocks((root / document).read_text(encoding="utf-8")):
            if shown and (root / shown).read_text(encoding="utf-8") != code:
                found.append(f"{document}:{number}: {shown} differs: scripts/docs --write")
            jobs.append((root, f"{document}:{number}", code))
    with ThreadPoolExecutor() as pool:
        return found + [fault for fault in pool.map(compile_block, jobs) if fault]


def unknown_names(root: Path, document: str) -> list:
    header = (root / "include/hybrid.h").read_text(encoding="utf-8")
    known = set(re.findall(r"\w+", header))
    text = (root / document).read_text(encoding="utf-8")
    return [
        f"{document}:{number}: {name} is not in include/hybrid.h"
        for number, line in enumerate(text.splitlines(), 1)
        for name in NAME.findall(line)
        if name not in known and not name.startswith(VARIABLES)
    ]


def compile_block(job: tuple) -> str:
    root, place, code = job
    document, line = place.rsplit(":", 1)
    if "#include" in code:
        source = f'#line {line} "{document}"\n{code}'
    else:
        source = FRAGMENT % (int(line), document, code)
    with tempfile.NamedTemporaryFile("w", suffix=".c", encoding="utf-8") as file:
        file.write(source)
        file.flush()
        command = ["gcc", *FLAGS, f"-I{root / 'include'}", file.name]
        made = subprocess.run(command, capture_output=True, text=True)
    return f"{place}: this C block does not compile\n{made.stderr}" if made.returncode else ""


def write(root: Path, documents: list) -> list:
    for document in documents:
        path = root / document
        old = path.read_text(encoding="utf-8")
        new = BLOCK.sub(lambda block: shown(root, block), old)
        if new != old:
            path.write_text(new, encoding="utf-8")
    return []


def shown(root: Path, block: re.Match) -> str:
    if not block[1]:
        return block[0]
    code = (root / block[1]).read_text(encoding="utf-8")
    return f"```c {block[1]}\n{code}```"
