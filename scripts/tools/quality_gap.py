"""The section of docs/quality.md about how much of the way from the SLM to the cloud LLM is made."""

import math

from evaluation import LLM, SLM, Evaluation
from figures import at_share, interval, recovered
from quality_gates import HEIGHTS, SESSION, session_rows
from tables import between, difference, percent, table


def gap(wide: Evaluation, handed: Evaluation) -> list:
    """`wide`: sessions of the head and of max-probability; `handed`: of the head with bursts and hand-back, on the same problems."""
    weights = [wide.ones, *wide.resamples()]
    bursts = max(burst for _, _, burst in handed.ways)
    besides = f", bursts of {bursts}, hand-back"
    of_bursts = [key for key in handed.sums if key[2] == bursts]
    rows = session_rows(wide, list(wide.sums), weights[1:]) + session_rows(handed, of_bursts, weights[1:], besides)
    columns = [(name, what, share) for share in (0.1, 0.2) for name, what in HEIGHTS]
    curves = [("head", wide, "head", 1), ("max-probability", wide, "max-probability", 1), ("head" + besides, handed, "head", bursts)]
    made, heights = [], {}
    for name, source, gate, tokens in curves:
        cells = []
        for _, what, share in columns:
            ends = [[getattr(wide.ways[key], what)(w) for w in weights] for key in (SLM, LLM)]
            heights[name, what, share] = [at_share(source.points(gate, what, w, tokens), share) for w in weights]
            value, *draws = [recovered(*values) for values in zip(*ends, heights[name, what, share])]
            cells.append("–" if math.isnan(value) else f"{percent(value, 0)} ({between(interval(draws))})")
        made.append([name, *cells])
    leads = []
    for name, *_ in curves:
        if name != "max-probability":
            both = [zip(heights[name, what, share], heights["max-probability", what, share]) for _, what, share in columns]
            leads.append([name, *(difference(lead[0], interval(lead[1:]), 100, 1) for lead in ([a - b for a, b in pairs] for pairs in both))])
    names = [f"{name} at {percent(share, 0)}" for name, _, share in columns]
    return [
        f"## The gap between the two models\n\n{len(wide.ones)} problems: pass@1 of the two models differs by little, so that it takes many. With hand-back, "
        "tokens of a burst of which the SLM is as sure count as its own; they are billed all the same.",
        table(SESSION, rows),
        "Share of the way from the SLM's height to the cloud LLM's that is made at so many *obtained* cloud tokens, between the points of the table:",
        table(["", *names], made),
        "By how many points these curves are above that of max-probability:",
        table(["", *names], leads),
    ]
