#!/usr/bin/env python3
"""Writes the licences and notices of all crates in an archive, as one text. Fails on a crate
without any.

notices.py TARGET OUT.txt [CARGO_FEATURE_FLAG...]
"""

import re
import sys
from pathlib import Path

from archive_crates import Crate, load

LICENCE_FILE = re.compile(
    r"(licen[cs]e|copying|copyright|notice|unlicense|authors|patents)", re.IGNORECASE
)
SOURCE_FILE = {".rs", ".py", ".c", ".h"}
RULE = "=" * 100


def main() -> None:
    target, out, *features = sys.argv[1:]
    crates = [crate for crate in load(target, features) if not crate.ours]
    texts = {}  # text -> where it is from; equal texts are given once
    for crate in crates:
        for path in licence_files(crate, crates):
            texts.setdefault(normalised(path), []).append(label(crate, path))
    Path(out).write_text("\n".join([introduction(crates, target), *map(section, texts.items())]))


def licence_files(crate: Crate, crates: list[Crate]) -> list[Path]:
    """Its own, or those of a crate from the same repository: some publish only the main crate's."""
    if own := files_in(crate.folder):
        return own
    for other in crates:
        same = (other.repository, other.license) == (crate.repository, crate.license)
        if same and crate.repository and (files := files_in(other.folder)):
            return files
    raise SystemExit(f"{crate.name} {crate.version} ({crate.license}) has no licence file")


def files_in(folder: Path) -> list[Path]:
    """Also deeper ones: those of code that a crate has taken in."""
    return sorted(
        path
        for path in folder.rglob("*")
        if LICENCE_FILE.match(path.name) and path.suffix not in SOURCE_FILE and path.is_file()
    )


def label(crate: Crate, path: Path) -> str:
    file = path.relative_to(crate.folder.parent)
    own = path.is_relative_to(crate.folder)
    return str(file) if own else f"{crate.folder.name}, from {file}"


def normalised(path: Path) -> str:
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(line.rstrip() for line in lines).strip("\n")


def introduction(crates: list[Crate], target: str) -> str:
    rows = [f"  {crate.name + ' ' + crate.version:<40} {crate.license}" for crate in crates]
    return "\n".join(
        [
            f"Third-party software in libhybrid.a for {target}.",
            "",
            "The archive contains code of the Rust crates below. Where a crate's licence is a",
            "choice, choose one. Their licence texts and notices follow; equal texts are given",
            "once. Rust's standard library is in the archive too; its notices are in the file",
            "beside this one.",
            "",
            *rows,
            "",
        ]
    )


def section(entry: tuple[str, list[str]]) -> str:
    text, sources = entry
    return "\n".join([RULE, *sources, RULE, "", text, ""])


if __name__ == "__main__":
    main()
