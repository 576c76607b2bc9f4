"""The sections of docs/quality.md about gates: every one at every share, and the head against the others."""

import math
from pathlib import Path

from chart import chart
from evaluation import GATES, LLM, ORACLE, SLM, Evaluation
from figures import at_share, interval, recovered, sign_test
from tables import between, difference, is_real, percent, table

SHARES = [0.05, 0.1, 0.15, 0.2, 0.3, 0.4]
UNTRAINED = ["max-probability", "margin", "entropy"]
# Name, attribute of a way, name of what is counted.
HEIGHTS = [("identical programs", "same"), ("pass@1", "rate")]


def along(evaluation: Evaluation, name: str) -> list:
    rows = []
    for row in sorted(evaluation.rows, key=lambda row: GATES.index(row["score"])):
        ranking = evaluation.rankings[row["score"]]
        recalls = ranking.recalls(evaluation.ones, SHARES)
        auc = f"{ranking.auc(evaluation.ones):.3f}"
        rows.append([row["score"], auc, *(f"{value:.3f}" for value in recalls), f"{row['whole_prompts']:.2f}"])
    head = ["gate", "AUC", *(percent(share, 0) for share in SHARES), "whole problems"]
    return [
        f"## Along the cloud LLM's answers: {name}\n\n{len(evaluation.ones)} problems, {evaluation.tokens} tokens; the SLM would have written another one "
        f"at {percent(evaluation.disagreements / evaluation.tokens)} of them. Share of these that a gate finds when it asks for so many tokens, and share of "
        "the problems whose every one it finds at 20 %:",
        table(head, rows),
        *([gains(evaluation)] if "head" in evaluation.rankings else []),
    ]


def gains(evaluation: Evaluation) -> str:
    """The head against every other gate, on the same draws."""
    weights = [evaluation.ones, *evaluation.resamples()]
    figures = lambda ranking, w: [ranking.auc(w), *ranking.recalls(w, SHARES)]  # noqa: E731
    values = {gate: [figures(ranking, w) for w in weights] for gate, ranking in evaluation.rankings.items()}
    rows = []
    for gate in GATES[1:]:
        if gate in values:
            pairs = zip(values["head"], values[gate])
            differences = [[a - b for a, b in zip(ours, theirs)] for ours, theirs in pairs]
            columns = list(zip(*differences))
            rows.append([gate, *(difference(column[0], interval(column[1:])) for column in columns)])
    head = ["over", "AUC", *(percent(share, 0) for share in SHARES)]
    return "What the head gains over the others, with intervals:\n\n" + table(head, rows)


SESSION = ["gate", "asked", "obtained", "pass@1", "95 %", "identical", "agreement", "consults", "prompt tokens billed"]


def session_rows(evaluation: Evaluation, keys: list, weights: list, besides: str = "") -> list:
    rows = []
    for key in keys:
        way, sum_ = evaluation.ways[key], evaluation.sums[key]
        rows.append([
            sum_["gate"] + besides, asked(key[1]), percent(sum_["obtained"]), percent(way.rate(evaluation.ones)),
            between(interval([way.rate(w) for w in weights])), f"{sum_['identical']}/{sum_['prompts']}", f"{sum_['agreement']:.2f}",
            str(sum_["consults"]), str(sum_["prompt_tokens"]),
        ])  # fmt: skip
    return rows


def sessions(alone: Evaluation, mbpp: Evaluation) -> list:
    weights = list(mbpp.resamples())
    curves = Curves(mbpp, [mbpp.ones, *weights])
    return [
        f"## Sessions\n\n{len(mbpp.ones)} problems. The gate decides, one token a consult; the SLM alone is every gate at 0 %. *Asked* and *obtained* are shares of "
        "cloud tokens. *Identical*: the program is the cloud LLM's, byte by byte; *agreement*: the part of it up to the first difference. The risk-averse and "
        "the risk-prone point of u-hlm are what arXiv:2412.12687 makes of the validation problems ([reward-head.md](reward-head.md)).",
        table(SESSION, session_rows(mbpp, list(mbpp.sums), weights)),
        "![pass@1](quality-pass.svg) ![identical](quality-identical.svg) ![found](quality-found.svg)",
        way_made(curves),
        against(curves),
        paired(mbpp),
        losses(alone, curves),
    ]


def asked(point) -> str:
    return percent(point, 0) if isinstance(point, float) else point or "–"


class Curves:
    """Heights of every gate's curves at SHARES of obtained cloud tokens: over all problems, then over every draw."""

    def __init__(self, mbpp: Evaluation, weights: list):
        self.gates, self.heights, self.ends = mbpp.gates(), {}, {}
        for _, what in HEIGHTS:
            ends = [mbpp.ways[key] for key in (SLM, LLM)]
            self.ends[what] = [[getattr(way, what)(w) for w in weights] for way in ends]
            for gate in self.gates:
                points = [mbpp.points(gate, what, w) for w in weights]
                self.heights[gate, what] = [[at_share(of_draw, share) for of_draw in points] for share in SHARES]

    def gap(self, gate: str, what: str, share: float) -> list:
        """The share of the way from the SLM's height to the cloud LLM's, over all problems and every draw."""
        heights = self.heights[gate, what][SHARES.index(share)]
        return [recovered(*values) for values in zip(*self.ends[what], heights)]

    def lead(self, gate: str, what: str, share: float) -> list:
        """By how much the head is above another gate."""
        ours, theirs = (self.heights[name, what][SHARES.index(share)] for name in ("head", gate))
        return [a - b for a, b in zip(ours, theirs)]


def way_made(curves: Curves) -> str:
    columns = [(name, what, share) for name, what in HEIGHTS for share in (0.1, 0.2)]
    rows = []
    for gate in curves.gates:
        cells = []
        for _, what, share in columns:
            made, *draws = curves.gap(gate, what, share)
            cells.append("–" if math.isnan(made) else f"{percent(made, 0)} ({between(interval(draws))})")
        rows.append([gate, *cells])
    slm, llm = curves.ends["rate"]
    without = sum(a >= b for a, b in zip(slm[1:], llm[1:])) / len(slm[1:])
    text = (
        "Share of the way from the SLM's height to the cloud LLM's that is made at 10 and 20 % of *obtained* cloud tokens, between the points of the "
        f"table. The SLM passes {percent(slm[0])} here and the cloud LLM {percent(llm[0])}, which is the way for pass@1"
    )
    if without:
        text += f"; in {percent(without)} of the draws there is none, and these are left out of its intervals"
    return text + ":\n\n" + table(["gate", *(f"{name} at {percent(share, 0)}" for name, _, share in columns)], rows)


def against(curves: Curves) -> str:
    parts = []
    for name, what in HEIGHTS:
        rows = []
        for gate in curves.gates:
            if gate != "head":
                leads = [curves.lead(gate, what, share) for share in SHARES]
                rows.append([gate, *(difference(lead[0], interval(lead[1:]), 100, 1) for lead in leads)])
        head = ["head over", *(percent(share, 0) for share in SHARES)]
        parts.append(f"By how many points the head's curve of {name} is above the others', at equal *obtained* shares:\n\n" + table(head, rows))
    return "\n\n".join(parts)


def paired(mbpp: Evaluation) -> str:
    rows = []
    for gate in mbpp.gates()[1:]:
        for share in SHARES:
            if ("head", share, 1) not in mbpp.ways or (gate, share, 1) not in mbpp.ways:
                continue
            head, other = mbpp.ways["head", share, 1], mbpp.ways[gate, share, 1]
            cells = []
            for ours, theirs in [(head.passed, other.passed), (head.identical, other.identical)]:
                wins = sum(a and not b for a, b in zip(ours, theirs))
                lost = sum(b and not a for a, b in zip(ours, theirs))
                cells += [f"{wins} : {lost}", f"{sign_test(wins, lost):.2g}"]
            rows.append([gate, percent(share, 0), *cells])
    return (
        "Problem by problem at equal *asked* shares: how many only the head passes and only the other gate, the same for identical programs, and "
        "McNemar's exact p:\n\n" + table(["head against", "asked", "pass", "p", "identical", "p"], rows)
    )


def losses(alone: Evaluation, curves: Curves) -> str:
    """Where another gate is ahead, at equal shares."""
    weights = [alone.ones, *alone.resamples()]
    lines = []
    for gate in UNTRAINED:
        if gate not in curves.gates:
            continue
        ours, theirs = ([alone.rankings[name].recalls(w, SHARES) for w in weights] for name in ("head", gate))
        found = list(zip(*([a - b for a, b in zip(*pair)] for pair in zip(ours, theirs))))
        kinds = [(name, [curves.lead(gate, what, share) for share in SHARES]) for name, what in HEIGHTS]
        told = []
        for name, leads in [*kinds, ("disagreements found", found)]:
            behind = [(share, interval(lead[1:])) for share, lead in zip(SHARES, leads) if lead[0] < 0]
            if behind:
                told.append(f"{name} at {', '.join(percent(share, 0) + ('' if is_real(ends) else '?') for share, ends in behind)}")
        lines.append(f"- {gate}: " + ("; ".join(told) if told else "nowhere") + ".")
    return (
        "**Where the head is behind** an untrained gate, on the curves at these shares. A question mark: the interval of the difference has 0 in it.\n\n"
        + "\n".join(lines)
    )


def aims(alone: Evaluation, mbpp: Evaluation) -> str:
    """The goals of the head, with what came out."""
    head = alone.rankings["head"]
    figures = [
        ("AUC along the cloud LLM's answers", 0.95, alone, head.auc),
        ("disagreements found at 10 %", 0.65, alone, lambda w: head.recall(w, 0.1)),
        ("disagreements found at 20 %", 0.92, alone, lambda w: head.recall(w, 0.2)),
        ("of the way in pass@1 at 10 %", 0.6, mbpp, lambda w: mbpp.gap("head", 0.1, w)),
        ("of the way in pass@1 at 20 %", 0.9, mbpp, lambda w: mbpp.gap("head", 0.2, w)),
    ]
    rows = []
    for name, aim, source, figure in figures:
        value, ends = figure(source.ones), interval([figure(w) for w in source.resamples()])
        if math.isnan(value):
            rows.append([name, str(len(source.ones)), f"{aim}", "–", "–", "cannot be said"])
        else:
            rows.append([name, str(len(source.ones)), f"{aim}", f"{value:.3f}", f"{ends[0]:.3f} to {ends[1]:.3f}", "reached" if value >= aim else "missed"])
    return "## What the head aims at\n\n" + table(["", "problems", "aim", "measured", "95 %", ""], rows)


def draw(alone: Evaluation, mbpp: Evaluation, docs: Path) -> None:
    gates, ones = mbpp.gates(), mbpp.ones
    oracle = mbpp.ways[ORACLE]
    write = lambda name, *what: (docs / f"quality-{name}.svg").write_text(chart(*what))  # noqa: E731
    curves = {gate: mbpp.points(gate, "rate", ones) for gate in gates}
    heights = [y for points in curves.values() for _, y in points]
    span = (max(0.0, math.floor(20 * min(heights) - 0.5) / 20), min(1.0, math.ceil(20 * max(heights) + 0.5) / 20))
    curves["oracle"] = [(oracle.share(ones), oracle.rate(ones))]
    write("pass", "Programs that pass", "cloud tokens", "pass@1", curves, 0.5, span)
    curves = {gate: mbpp.points(gate, "same", ones) for gate in gates}
    curves["oracle"] = [(oracle.share(ones), oracle.same(ones))]
    write("identical", "Programs equal to the cloud LLM's", "cloud tokens", "identical", curves, 0.5, (0.0, 1.0))
    steps = [step / 50 for step in range(26)]
    curves = {gate: list(zip(steps, alone.rankings[gate].recalls(alone.ones, steps))) for gate in gates}
    write("found", "Disagreements found", "tokens asked", "found", curves, 0.5, (0.0, 1.0))
