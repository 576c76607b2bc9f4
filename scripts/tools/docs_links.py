"""Links between the documents of the tree: where they are, and whether they lead somewhere."""

import posixpath
import re
import subprocess
from pathlib import Path

FENCE = re.compile(r"^ *(```|~~~)")
LINK = re.compile(r"(!?\[[^\]]*\])\(([^)\s]+)\)")
# Of the site only: what Doxygen and rustdoc make.
SITE = "site:"


def listed(root: Path, *patterns: str) -> list:
    """Every file of the tree, committed or new."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *patterns]
    paths = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    return sorted(path for path in paths.splitlines() if (root / path).is_file())


def documents(root: Path) -> list:
    """Every Markdown file but templates."""
    templates = ("scripts/tools/", ".github/", "packaging/README.package.md")
    return [path for path in listed(root, "*.md") if not path.startswith(templates)]


def prose(text: str) -> list:
    """(number, line) of the lines outside code, with code spans blanked out."""
    lines, fenced = [], False
    for number, line in enumerate(text.splitlines(), 1):
        if FENCE.match(line):
            fenced = not fenced
        elif not fenced and not line.startswith("    "):
            lines.append((number, re.sub(r"`[^`]*`", lambda code: " " * len(code[0]), line)))
    return lines


def links(text: str) -> list:
    """(number of the line, target) of every link to a file or heading of the tree."""
    found = [(number, link[2]) for number, line in prose(text) for link in LINK.finditer(line)]
    return [(number, target) for number, target in found if not re.match(r"[a-z]+:", target)]


def slug(heading: str) -> str:
    """The anchor that GitHub and mdBook give to a heading."""
    words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading.strip()).lower()
    return re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", words))


def anchors(text: str) -> set:
    seen, found, fenced = {}, set(), False
    for line in text.splitlines():
        if FENCE.match(line):
            fenced = not fenced
        heading = re.match(r"#{1,6} (.*)", line)
        if heading and not fenced:
            name = slug(heading[1])
            found.add(name if name not in seen else f"{name}-{seen[name]}")
            seen[name] = seen.get(name, 0) + 1
    return found


def resolve(document: str, target: str) -> tuple:
    """(path in the tree, anchor) that a link of a document leads to."""
    path, _, anchor = target.partition("#")
    if not path:
        return document, anchor
    return posixpath.normpath(posixpath.join(posixpath.dirname(document), path)), anchor


def faults(root: Path, names: list) -> list:
    found = []
    for document in names:
        text = (root / document).read_text(encoding="utf-8")
        for number, target in links(text):
            path, anchor = resolve(document, target)
            if not (root / path).is_file():
                found.append(f"{document}:{number}: there is no file {path}")
            elif anchor and anchor not in anchors((root / path).read_text(encoding="utf-8")):
                found.append(f"{document}:{number}: {path} has no heading #{anchor}")
    return found
