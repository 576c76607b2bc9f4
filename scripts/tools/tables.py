"""Figures as Markdown."""

import math


def table(head: list, rows: list) -> str:
    line = lambda cells: "| " + " | ".join(cells) + " |"  # noqa: E731
    return "\n".join([line(head), "|---" * len(head) + "|", *map(line, rows)])


def percent(value: float, digits: int = 1) -> str:
    return "–" if math.isnan(value) else f"{100 * value:.{digits}f} %"


def between(ends: tuple, digits: int = 0) -> str:
    """An interval of shares, in percent."""
    return " to ".join(percent(end, digits).removesuffix(" %") for end in ends)


def difference(value: float, ends: tuple, scale: int = 1, digits: int = 3) -> str:
    """A difference with its interval, in bold where 0 is outside."""
    if math.isnan(value):
        return "–"
    text = f"{scale * value:+.{digits}f} ({scale * ends[0]:+.{digits}f} to {scale * ends[1]:+.{digits}f})"
    return f"**{text}**" if is_real(ends) else text


def is_real(ends: tuple) -> bool:
    """The interval of a difference does not have 0 in it."""
    return ends[0] > 0 or ends[1] < 0
