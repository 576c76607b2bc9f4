#!/usr/bin/env python3
"""Makes docs/quality.md of what `hybrid eval` wrote: runs the programs, counts, and draws the curves.

    quality.py --mbpp EVAL.jsonl --data mbpp.jsonl --passed CACHE.json --docs DIR
               [--bursts EVAL.jsonl] [--live EVAL.jsonl] [--gsm8k EVAL.jsonl]

The last line on stdout: auc=F recall10=F recall20=F gap10=F gap20=F
"""

import argparse
import hashlib
import json
import math
from pathlib import Path

import sandbox
from chart import chart
from figures import Ranking, Way, at_share, gap, interval, resamples, sign_test

FENCE = "```python\n"
GATES = ["head", "max-probability", "margin", "entropy", "random"]
SHARES = [0.05, 0.1, 0.2, 0.3]
DELAYS = [0, 20, 80, 200]
SERVER_NOTE = "measured without the memory, so that both sides compute everything"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("mbpp", "data", "passed", "docs"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    for name in ("bursts", "live", "gsm8k"):
        parser.add_argument(f"--{name}", type=Path)
    options = parser.parse_args()
    judge = Judge(options.data, options.passed)
    mbpp = Evaluation(options.mbpp, judge)
    live = Evaluation(options.live) if options.live else None
    sections = [introduction(mbpp), *ranking(mbpp, "MBPP"), *sessions(mbpp)]
    if options.bursts:
        sections += bursts(Evaluation(options.bursts, judge), live)
    if options.gsm8k:
        sections += second_domain(mbpp, Evaluation(options.gsm8k))
    draw(mbpp, options.docs)
    (options.docs / "quality.md").write_text("\n\n".join(sections) + "\n")
    head = mbpp.rankings["head"]
    line = [("auc", head.auc(mbpp.ones)), ("recall10", head.recall(mbpp.ones, 0.1)), ("recall20", head.recall(mbpp.ones, 0.2))]
    line += [(f"gap{share}", mbpp.gap("head", share / 100, mbpp.ones)) for share in (10, 20)]
    print(" ".join(f"{name}={value:.3f}" for name, value in line))


class Judge:
    """Runs an answer's program against the problem's asserts, once."""

    def __init__(self, data: Path, cache: Path):
        problems = map(json.loads, data.read_text().splitlines())
        self.problems = {f"mbpp/{problem['task_id']}": problem for problem in problems}
        self.cache = cache
        self.passed = json.loads(cache.read_text()) if cache.exists() else {}

    def passes(self, prompt: str, id: str, text: str) -> bool:
        problem = self.problems[id]
        begun = prompt.rsplit(FENCE, 1)[1]
        asserts = [problem.get("test_setup_code", ""), *problem["test_list"]]
        program = "\n".join([begun + text, *asserts])
        key = hashlib.sha256(program.encode()).hexdigest()
        if key not in self.passed:
            self.passed[key] = sandbox.passes(program)
            self.cache.write_text(json.dumps(self.passed))
        return self.passed[key]


class Evaluation:
    """One output of `hybrid eval`; with a judge also what passes."""

    def __init__(self, path: Path, judge: Judge = None):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        of = lambda kind: [line for line in lines if line["kind"] == kind]  # noqa: E731
        self.setup, self.rows, self.sums = of("setup")[0], of("along-answers"), of("sum")
        labels = of("labels")[0]
        self.agrees, self.tokens = labels["agrees"], len(labels["agrees"])
        self.disagreements = self.agrees.count(0)
        prompts = {line["id"]: line["text"] for line in of("prompt")}
        self.ones = [1] * len(prompts)
        self.rankings = {
            line["gate"]: Ranking(line["scores"], labels["agrees"], labels["prompts"]) for line in of("scores")
        }
        self.scores = {line["gate"]: line["scores"] for line in of("scores")}
        self.thresholds = {way_of(line): line["threshold"] for line in of("way") if "share" in line}
        sessions = {}
        for line in of("session"):
            sessions.setdefault(way_of(line), []).append(line)
        self.ways = {}
        for way, of_way in sessions.items():
            passed = [judge.passes(prompts[s["prompt"]], s["prompt"], s["text"]) if judge else False for s in of_way]
            self.ways[way] = Way(of_way, passed)

    def gated(self, gate: str, burst: int = 1) -> list:
        return [way for (name, share, of_burst), way in self.ways.items() if name == gate and share is not None and of_burst == burst]

    def gap(self, gate: str, share: float, weights: list) -> float:
        return gap(self.ways[SLM], self.ways[LLM], self.gated(gate), share, weights)

    def gates(self) -> list:
        return [gate for gate in GATES if any(name == gate for name, _, _ in self.ways)]


def way_of(line: dict) -> tuple:
    return line["gate"], line.get("share"), line["burst"]


SLM, LLM, ORACLE = ("slm", None, 1), ("llm", None, 1), ("oracle", None, 1)


def introduction(mbpp: Evaluation) -> str:
    setup, slm, llm = mbpp.setup, mbpp.ways[SLM], mbpp.ways[LLM]
    count = len(mbpp.ones)
    return f"""# Quality

Made by `scripts/tools/quality.py`, the report of `scripts/eval`; do not edit. How near the SLM with a part of the cloud LLM's tokens comes to the cloud LLM.

- **Models.** SLM {setup["slm"]}, cloud LLM {setup["llm"]}, both greedy.
- **Problems.** {count} of MBPP's 497 test problems ([data.md](data.md)), the first in the order of a hash of their names, so that a larger sample
  contains this one. The head never saw them. Thresholds were set on {setup["validation_prompts"]} validation problems, along the cloud LLM's answers, and
  nothing was set on the test problems.
- **Head.** {setup["head"]}.
- **pass@1.** A program passes when MBPP's asserts hold, in a process with limits (`scripts/tools/sandbox.py`). The SLM alone passes
  {percent(slm.rate(mbpp.ones))}, the cloud LLM {percent(llm.rate(mbpp.ones))}. With {count} problems one of them is {100 / count:.1f} points: read the intervals, which are the
  middle 95 % over resampled problems.
- **The sessions** are the library's own; answers come out of a memory of the cloud LLM's tokens by context. A bundle on this machine and
  llama.cpp's server give other tokens where two are almost equally likely, and so other texts for some problems (the server itself does, asked for
  one token or for several at a time); gates are compared on the same one."""


def ranking(evaluation: Evaluation, name: str) -> list:
    rows = [
        [row["score"], *(f"{value:.3f}" for value in [row["auc"], *row["recall"]]), f"{row['whole_prompts']:.2f}"]
        for row in sorted(evaluation.rows, key=lambda row: GATES.index(row["score"]))
    ]
    parts = [
        f"## Along the cloud LLM's answers: {name}\n\n{evaluation.tokens} tokens; the SLM would have written another one at "
        f"{percent(evaluation.disagreements / evaluation.tokens)} of them. Share of these that a gate finds when it asks for so many "
        "tokens, and share of the problems whose every one it finds at 20 %:",
        table(["gate", "AUC", "5 %", "10 %", "20 %", "30 %", "whole problems"], rows),
    ]
    if "head" in evaluation.rankings:
        parts.append(gains(evaluation))
    return parts


def gains(evaluation: Evaluation) -> str:
    """The head against every other gate, on the same resamples."""
    weights = list(resamples(len(evaluation.ones)))
    figures = [("AUC", lambda r, w: r.auc(w)), ("at 10 %", lambda r, w: r.recall(w, 0.1)), ("at 20 %", lambda r, w: r.recall(w, 0.2))]
    values = {
        gate: [[figure(evaluation.rankings[gate], w) for w in weights] for _, figure in figures]
        for gate in GATES[:-1] if gate in evaluation.rankings
    }  # fmt: skip
    rows = []
    for gate in values:
        if gate != "head":
            differences = [[a - b for a, b in zip(*pair)] for pair in zip(values["head"], values[gate])]
            rows.append([gate, *(signed(interval(values_of)) for values_of in differences)])
    return "What the head gains over the others (95 %):\n\n" + table(["over", *(name for name, _ in figures)], rows)


def sessions(mbpp: Evaluation) -> list:
    rows = []
    for sum_ in mbpp.sums:
        way = mbpp.ways[way_of(sum_)]
        rates = interval([way.rate(weights) for weights in resamples(len(mbpp.ones))])
        asked = percent(sum_["share"], 0) if "share" in sum_ else "–"
        rows.append([
            sum_["gate"], asked, percent(sum_["obtained"]), percent(way.rate(mbpp.ones)),
            f"{100 * rates[0]:.0f}–{100 * rates[1]:.0f}", f"{sum_['identical']}/{sum_['prompts']}", f"{sum_['agreement']:.2f}",
            str(sum_["consults"]), str(sum_["prompt_tokens"]),
        ])  # fmt: skip
    head = ["gate", "asked", "obtained", "pass@1", "95 %", "identical", "agreement", "consults", "prompt tokens billed"]
    return [
        "## Sessions\n\nThe gate decides, one token a consult. *Asked* and *obtained* are shares of cloud tokens. *Identical*: the program is the cloud "
        "LLM's, byte by byte; *agreement*: the part of it up to the first difference.",
        table(head, rows),
        "![pass@1](quality-pass.svg) ![identical](quality-identical.svg) ![found](quality-found.svg)",
        recovered(mbpp),
        paired(mbpp),
        losses(mbpp),
    ]


def recovered(mbpp: Evaluation) -> str:
    rows, weights = [], list(resamples(len(mbpp.ones)))
    for gate in mbpp.gates():
        cells = []
        for share in (0.1, 0.2):
            low, high = interval([mbpp.gap(gate, share, w) for w in weights])
            made = mbpp.gap(gate, share, mbpp.ones)
            cells.append("–" if math.isnan(made) else f"{percent(made, 0)} ({100 * low:.0f} to {100 * high:.0f})")
        rows.append([gate, *cells])
    if mbpp.ways[LLM].rate(mbpp.ones) <= mbpp.ways[SLM].rate(mbpp.ones):
        return (
            "On these problems the cloud LLM passes no more than the SLM does, so there is no gap of which a share could be recovered: the "
            "sample is too small for pass@1. Identical programs say more here."
        )
    return (
        "Share of the way from the SLM's pass@1 to the cloud LLM's that is made at 10 and 20 % of *obtained* cloud tokens, between the points "
        "of the table (95 %):\n\n" + table(["gate", "at 10 %", "at 20 %"], rows)
    )


def paired(mbpp: Evaluation) -> str:
    rows = []
    for gate in mbpp.gates():
        for share in (0.1, 0.2, 0.3):
            if gate == "head" or ("head", share, 1) not in mbpp.ways:
                continue
            head, other = mbpp.ways["head", share, 1], mbpp.ways[gate, share, 1]
            cells = []
            for ours, theirs in [(head.passed, other.passed), (head.identical, other.identical)]:
                wins = sum(a and not b for a, b in zip(ours, theirs))
                lost = sum(b and not a for a, b in zip(ours, theirs))
                cells += [f"{wins} : {lost}", f"{sign_test(wins, lost):.2f}"]
            rows.append([gate, percent(share, 0), *cells])
    return (
        "Problem by problem at equal asked shares: how many only the head passes and only the other gate, the same for identical programs, and "
        "McNemar's exact p:\n\n" + table(["head against", "asked", "pass", "p", "identical", "p"], rows)
    )


def losses(mbpp: Evaluation) -> str:
    """Where another gate is ahead, by the curves at equal obtained shares."""
    lines = []
    for gate in ("max-probability", "margin", "entropy"):
        if gate not in mbpp.gates():
            continue
        behind = [share for share in SHARES if curve(mbpp, "head", share, "rate") < curve(mbpp, gate, share, "rate")]
        unlike = [share for share in SHARES if curve(mbpp, "head", share, "same") < curve(mbpp, gate, share, "same")]
        found = [
            share for share in SHARES
            if mbpp.rankings["head"].recall(mbpp.ones, share) < mbpp.rankings[gate].recall(mbpp.ones, share)
        ]  # fmt: skip
        told = [
            f"{what} at {', '.join(percent(share, 0) for share in shares)}"
            for what, shares in [("pass@1", behind), ("identical programs", unlike), ("disagreements found", found)] if shares
        ]  # fmt: skip
        lines.append(f"- {gate}: " + ("; ".join(told) if told else "nowhere") + ".")
    return "**Where the head is behind**, on the curves at 5, 10, 20 and 30 %:\n\n" + "\n".join(lines)


def points(evaluation: Evaluation, gate: str, what: str) -> list:
    ones = evaluation.ones
    height = {"rate": lambda way: way.rate(ones), "same": lambda way: sum(way.identical) / len(ones)}[what]
    ends = [evaluation.ways[SLM], evaluation.ways[LLM]]
    return sorted((way.share(ones), height(way)) for way in [*evaluation.gated(gate), *ends])


def curve(evaluation: Evaluation, gate: str, share: float, what: str) -> float:
    return at_share(points(evaluation, gate, what), share)


def draw(mbpp: Evaluation, docs: Path) -> None:
    gates = mbpp.gates()
    top = max(mbpp.ways[LLM].rate(mbpp.ones), *(y for gate in gates for _, y in points(mbpp, gate, "rate")))
    bottom = min(mbpp.ways[SLM].rate(mbpp.ones), *(y for gate in gates for _, y in points(mbpp, gate, "rate")))
    span = (max(0.0, round(bottom - 0.05, 1)), min(1.0, round(top + 0.05, 1)))
    curves = {gate: points(mbpp, gate, "rate") for gate in gates}
    write = lambda name, *what: (docs / f"quality-{name}.svg").write_text(chart(*what))  # noqa: E731
    write("pass", "Programs that pass", "cloud tokens", "pass@1", curves, 0.5, span)
    curves = {gate: points(mbpp, gate, "same") for gate in gates}
    write("identical", "Programs equal to the cloud LLM's", "cloud tokens", "identical", curves, 0.5, (0.0, 1.0))
    steps = [step / 50 for step in range(26)]
    curves = {gate: [(x, mbpp.rankings[gate].recall(mbpp.ones, x)) for x in steps] for gate in gates}
    write("found", "Disagreements found", "tokens asked", "found", curves, 0.5, (0.0, 1.0))


def bursts(evaluation: Evaluation, live: Evaluation) -> list:
    times = step_times(live) if live else None
    rows = []
    for sum_ in evaluation.sums:
        if sum_["gate"] in ("slm", "llm", "oracle"):
            continue
        way = evaluation.ways[way_of(sum_)]
        row = [
            sum_["gate"], percent(sum_["share"], 0), str(sum_["burst"]), percent(sum_["obtained"]), percent(way.rate(evaluation.ones)),
            f"{sum_['identical']}/{sum_['prompts']}", str(sum_["consults"]), str(sum_["prompt_tokens"]),
        ]  # fmt: skip
        if times:
            local = sum_["tokens"] * times[0] + sum_["consults"] * times[1]
            row += [f"{local + sum_['consults'] * delay / 1000:.0f}" for delay in DELAYS]
        rows.append(row)
    head = ["gate", "asked", "burst", "obtained", "pass@1", "identical", "consults", "prompt tokens billed"]
    head += [f"s at {delay} ms" for delay in DELAYS] if times else []
    note = "## Bursts and network delay\n\nA consult brings up to so many tokens; thresholds are those of single tokens."
    if times:
        note += (
            f" Seconds are computed: tokens × {1000 * times[0]:.1f} ms a step, consults × ({1000 * times[1]:.0f} ms + delay). The two are from "
            f"{len(live.ones)} problems through the real server behind TLS on the same two cores, {SERVER_NOTE}."
        )
    return [note, table(head, rows)]


def step_times(live: Evaluation) -> tuple:
    """Seconds a step of the SLM, and seconds more that a consult costs."""
    sums = {sum_["gate"]: sum_ for sum_ in live.sums}
    step = sums["slm"]["seconds"] / sums["slm"]["tokens"]
    gated = next(sum_ for gate, sum_ in sums.items() if gate in GATES)
    return step, max(0.0, (gated["seconds"] - gated["tokens"] * step) / max(1, gated["consults"]))


def second_domain(mbpp: Evaluation, other: Evaluation) -> list:
    rows = []
    thresholds, own = mbpp.thresholds, other.thresholds
    for gate in GATES:
        for share in (0.1, 0.2):
            if (gate, share, 1) not in thresholds or (gate, share, 1) not in own or gate == "random":
                continue
            cells = []
            for threshold in (thresholds[gate, share, 1], own[gate, share, 1]):
                asked = [score < threshold for score in other.scores[gate]]
                found = sum(a and not agree for a, agree in zip(asked, other.agrees)) / max(1, other.disagreements)
                cells += [percent(sum(asked) / len(asked)), percent(found)]
            rows.append([gate, percent(share, 0), *cells])
    return [
        *ranking(other, "GSM8K"),
        f"{len(other.ones)} problems of GSM8K that the head was not trained on, another {other.setup['validation_prompts']} set thresholds of their own. "
        "Share that is asked for, and what is found, with the thresholds of MBPP and with their own:\n\n"
        + table(["gate", "wanted", "MBPP's: asked", "found", "own: asked", "found"], rows),
    ]


def table(head: list, rows: list) -> str:
    line = lambda cells: "| " + " | ".join(cells) + " |"  # noqa: E731
    return "\n".join([line(head), "|---" * len(head) + "|", *map(line, rows)])


def percent(value: float, digits: int = 1) -> str:
    return f"{100 * value:.{digits}f} %"


def signed(ends: tuple) -> str:
    return f"{ends[0]:+.3f} to {ends[1]:+.3f}"


if __name__ == "__main__":
    main()
