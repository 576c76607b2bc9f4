#!/usr/bin/env python3
"""Draws docs/demo.svg: what scripts/demo printed, with tokens coloured by who wrote them.

script -qec scripts/demo demo.typescript
picture.py demo.typescript docs      writes DOCS/demo.ansi (the program's output) and demo.svg
picture.py DOCS/demo.ansi docs       the picture again
"""

import re
import sys
from html import escape
from pathlib import Path

SIZE, LINE, LEFT, TOP = 13, 18, 24, 60
COLUMN = 7.83  # of a monospace font at SIZE
STYLES = {"0": "slm", "1;36": "cloud", "1;33": "fallback"}
TITLE = "scripts/demo: Qwen2.5-Coder-0.5B on the device, Qwen2.5-Coder-1.5B as the cloud LLM"
FONT = "DejaVu Sans Mono, Menlo, Consolas, monospace"
CSS = """text { fill: #24292f }
.cloud { fill: #0550ae; font-weight: bold } .fallback { fill: #9a6700; font-weight: bold }
.note { fill: #57606a } .mark { fill: #ddf4ff } .panel { fill: #fff; stroke: #d0d7de }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .panel { fill: #0d1117; stroke: #30363d } .note { fill: #8b949e }
  .cloud { fill: #79c0ff } .fallback { fill: #e3b341 } .mark { fill: #12325a }
}"""


def recording(typescript: str) -> str:
    """The program's own output: from its first line, the model, to its last, the sums."""
    lines = typescript.replace("\r", "").split("\n")
    first = next(at for at, line in enumerate(lines) if " M parameters, context " in line)
    last = next(at for at, line in enumerate(lines) if line.startswith("tokens="))
    return "\n".join(lines[first : last + 1]) + "\n"


def spans(text: str) -> list:
    """Lines of (style, text)."""
    lines, style = [[]], "slm"
    for part in re.split(r"(\x1b\[[\d;]*m|\n)", text):
        code = re.fullmatch(r"\x1b\[([\d;]*)m", part)
        if code:
            style = STYLES[code[1]]
        elif part == "\n":
            lines.append([])
        elif part:
            lines[-1].append((style, part))
    return lines


def figures(table: str) -> dict:
    """The rows of the program's table: what stands behind each name."""
    plain = re.sub(r"\x1b\[[\d;]*m", "", table)
    rows = {}
    for line in plain.splitlines():
        found = re.fullmatch(r"\s*(\D*?)\s+(\d.*)", line)
        if found:
            rows[found[1]] = " ".join(found[2].split())
    return rows


def svg(recorded: str) -> str:
    text, table = body(recorded)
    rows, lines = figures(table), spans(text)
    count, share = rows["cloud LLM"].split()[:2]
    cost = (
        f"{count} of {rows['tokens']} tokens ({share} %), {rows['consults'].split()[0]} consults: "
        f"{rows['bytes sent']} bytes sent, {rows['bytes received']} received, "
        f"{rows['prompt tokens billed']} prompt tokens billed"
    )
    legend = [("slm", "the SLM wrote this, "), ("cloud", "the cloud LLM this")]
    width, height = 860, TOP + LINE * (len(lines) + 3)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'font-family="{FONT}" font-size="{SIZE}">',
            f"<style>{CSS}</style>",
            f'<rect class="panel" x="1" y="1" width="{width - 2}" height="{height - 2}" rx="8"/>',
            label(-1.5, [("note", TITLE)]),
            label(-0.4, legend),
            *(label(row + 1, line) for row, line in enumerate(lines)),
            label(len(lines) + 2, [("note", cost)]),
            "</svg>",
            "",
        ]
    )


def body(recorded: str) -> tuple:
    """The generated text, and the table behind it."""
    start = recorded.index("\n\n") + 2
    end = recorded.index("\nprompt  ")
    return recorded[start:end].rstrip("\n"), recorded[end:]


def label(row: float, line: list) -> str:
    y, x = TOP + LINE * row, LEFT
    marks, words = [], []
    for style, text in line:
        wide = COLUMN * len(text)
        if style in ("cloud", "fallback"):
            place = f'x="{x:.1f}" y="{y - 13:.1f}" width="{wide:.1f}" height="{LINE}"'
            marks.append(f'<rect class="mark" {place}/>')
        words.append(
            f'<text xml:space="preserve" x="{x:.1f}" y="{y:.1f}" class="{style}" '
            f'textLength="{wide:.1f}" lengthAdjust="spacingAndGlyphs">{escape(text)}</text>'
        )
        x += wide
    return "".join(marks + words)


def main() -> None:
    source, docs = map(Path, sys.argv[1:])
    recorded = recording(source.read_text(encoding="utf-8"))
    (docs / "demo.ansi").write_text(recorded, encoding="utf-8")
    (docs / "demo.svg").write_text(svg(recorded), encoding="utf-8")


if __name__ == "__main__":
    main()
