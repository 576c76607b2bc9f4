"""Figures as CSV files and as Markdown."""

import csv
import math
from pathlib import Path
from typing import NamedTuple


class Table(NamedTuple):
    """What becomes one CSV file, `name`.csv."""

    name: str
    head: list
    rows: list


def write_csv(made: Table, folder: Path) -> None:
    with open(folder / f"{made.name}.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(made.head)
        writer.writerows(made.rows)


def read_csv(folder: Path, name: str) -> list:
    """The rows, each by the names of its columns."""
    with open(folder / f"{name}.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def table(head: list, rows: list) -> str:
    line = lambda cells: "| " + " | ".join(cells) + " |"  # noqa: E731
    return "\n".join([line(head), "|---" * len(head) + "|", *map(line, rows)])


def number(value: float, digits: int = 3) -> str:
    """For a CSV file; empty where there is no number."""
    return "" if math.isnan(value) else f"{value:.{digits}f}"


def percent(value: float, digits: int = 1) -> str:
    return "–" if math.isnan(value) else f"{100 * value:.{digits}f} %"


def between(ends: tuple, digits: int = 0) -> str:
    """An interval of shares, in percent."""
    return " to ".join(percent(end, digits).removesuffix(" %") for end in ends)


def is_real(ends: tuple) -> bool:
    """The interval of a difference does not have 0 in it."""
    return ends[0] > 0 or ends[1] < 0
