"""The section of docs/quality.md about how much of the way from the SLM to the cloud LLM is made."""

import math

from evaluation import LLM, SLM, Evaluation
from figures import at_share, interval, recovered
from quality_gates import HEIGHTS, SESSION, session_rows
from tables import between, difference, percent, table

COLUMNS = [(name, what, share) for share in (0.1, 0.2) for name, what in HEIGHTS]
GATES = ["head", "max-probability"]


def gap(wide: Evaluation, handed: Evaluation) -> list:
    """`wide`: sessions of the head and of max-probability; `handed`: the same with bursts and hand-back, on the same problems."""
    weights = [wide.ones, *wide.resamples()]
    bursts = max(burst for _, _, burst in handed.ways)
    besides = f", bursts of {bursts}, hand-back"
    of_bursts = [key for key in handed.sums if key[2] == bursts]
    rows = session_rows(wide, list(wide.sums), weights[1:]) + session_rows(handed, of_bursts, weights[1:], besides)
    ends = {what: [[getattr(wide.ways[key], what)(w) for w in weights] for key in (SLM, LLM)] for _, what in HEIGHTS}
    curves = {gate: heights(wide, gate, 1, weights) for gate in GATES}
    curves |= {gate + besides: heights(handed, gate, bursts, weights) for gate in GATES}
    made = [[name, *(way_made(ends[what], heights[what, share]) for _, what, share in COLUMNS)] for name, heights in curves.items()]
    pairs = [GATES, [gate + besides for gate in GATES], [gate + besides for gate in GATES[:1]] + GATES[1:]]
    leads = [[*pair, *leads_of(*(curves[name] for name in pair))] for pair in pairs]
    names = [f"{name} at {percent(share, 0)}" for name, _, share in COLUMNS]
    return [
        f"## The gap between the two models\n\n{len(wide.ones)} problems: pass@1 of the two models differs by little, so that it takes many. With hand-back, "
        "tokens of a burst of which the SLM is as sure count as its own; they are billed all the same.",
        table(SESSION, rows),
        "Share of the way from the SLM's height to the cloud LLM's that is made at so many *obtained* cloud tokens, between the points of the table:",
        table(["", *names], made),
        "By how many points one curve is above another:",
        table(["", "above", *names], leads),
    ]


def heights(source: Evaluation, gate: str, tokens: int, weights: list) -> dict:
    """Of a gate's curve, for every column: as measured, and of every resample."""
    return {(what, share): [at_share(source.points(gate, what, w, tokens), share) for w in weights] for _, what, share in COLUMNS}


def way_made(ends: list, heights: list) -> str:
    value, *draws = [recovered(*values) for values in zip(*ends, heights)]
    return "–" if math.isnan(value) else f"{percent(value, 0)} ({between(interval(draws))})"


def leads_of(above: dict, below: dict) -> list:
    differences = [[a - b for a, b in zip(above[column], below[column])] for column in above]
    return [difference(value, interval(draws), 100, 1) for value, *draws in differences]
