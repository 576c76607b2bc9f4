#!/usr/bin/env python3
"""Makes docs/quality.md and its curves of the figures in docs/quality/.

quality_page.py DOCS      after a change of the prose, which is in quality.md beside this file
"""

import math
import sys
from pathlib import Path
from string import Template

from chart import chart
from tables import between, is_real, percent, read_csv, table

GATES = ["head", "max-probability"]
NAMES = {"slm": "SLM alone", "llm": "cloud LLM alone"}


def write(docs: Path) -> None:
    page, charts = made(docs / "quality")
    (docs / "quality.md").write_text(page, encoding="utf-8")
    for name, text in charts.items():
        (docs / "quality" / f"{name}.svg").write_text(text, encoding="utf-8")


def made(folder: Path) -> tuple:
    """The page, and its charts by name."""
    setup = {row["what"]: row["value"] for row in read_csv(folder, "setup")}
    problems = setup["problems"]
    wide = [
        row
        for row in read_csv(folder, "sessions")
        if row["problems"] == problems and row["gate"] != "oracle"
    ]
    leads = [row for row in read_csv(folder, "leads") if row["problems"] == problems]
    found = read_csv(folder, "found")
    template = Template(Path(__file__).with_name("quality.md").read_text(encoding="utf-8"))
    page = template.substitute(
        problems=problems,
        test_problems=setup["test_problems"],
        validation_problems=setup["validation_problems"],
        slm=setup["slm"],
        llm=setup["llm"],
        settings=settings(wide, int(problems)),
        gates=gates_table(found, "MBPP"),
        second=gates_table(found, "GSM8K"),
        leads=leads_table(leads),
        moved=moved(read_csv(folder, "thresholds")),
        seconds=seconds(read_csv(folder, "delay")),
        mean_prompt=f"{mean_prompt(wide, int(problems)):.0f}",
        **gain(setup),
    )
    return page, curves(wide)


def settings(wide: list, problems: int) -> str:
    """The head's sessions between the two ends."""
    order = [row for row in wide if row["gate"] == "slm"]
    order += sorted(
        (row for row in wide if row["gate"] == "head"), key=lambda row: (row["burst"], row["asked"])
    )
    order += [row for row in wide if row["gate"] == "llm"]
    rows = []
    for row in order:
        alone = row["gate"] in NAMES
        name = (
            NAMES[row["gate"]]
            if alone
            else f"share {percent(float(row['asked']), 0)}{besides(row)}"
        )
        ends = (float(row["pass_low"]), float(row["pass_high"])) if row["pass"] else None
        bill = [
            f"{int(row[what]) / problems:.{digits}f}"
            for what, digits in (("consults", 1), ("prompt_tokens", 0))
        ]
        rows.append(
            [
                name,
                percent(float(row["obtained"])),
                f"{percent(float(row['pass']))} ({between(ends)})" if ends else "–",
                f"{row['identical']} of {problems}",
                *(["–", "–"] if row["gate"] == "llm" else bill),
            ]
        )
    head = ["set", "cloud tokens", "pass (95 %)", "identical", "consults", "prompt tokens"]
    return table(head, rows)


def besides(row: dict, burst="burst", hand_back="hand_back", short=False) -> str:
    if row[burst] == "1":
        return ""
    if short:
        return ", bursts"
    return f", bursts of {row[burst]}" + (" with hand-back" if row[hand_back] == "1" else "")


def mean_prompt(wide: list, problems: int) -> float:
    """The cloud LLM asked for every token: its mean context less half of a mean answer."""
    llm = next(row for row in wide if row["gate"] == "llm")
    tokens = int(llm["consults"])
    return int(llm["prompt_tokens"]) / tokens - (tokens / problems - 1) / 2


def gates_table(found: list, domain: str) -> str:
    shares = ["at_10", "at_20", "at_30"]
    rows = [
        [row["gate"], row["auc"], *(percent(float(row[share]), 0) for share in shares)]
        for row in found
        if row["domain"] == domain
    ]
    return table(["gate", "AUC", *(f"found at {share[3:]} %" for share in shares)], rows)


def leads_table(leads: list) -> str:
    """One row for each pair of settings and what is counted, one column for each share."""
    shares = list(dict.fromkeys(row["at"] for row in leads))
    rows = {}
    for row in leads:
        over = row["over"] + besides(row, "over_burst", "over_hand_back", short=True)
        pair = (row["gate"] + besides(row, short=True), over, row["what"])
        ends = (float(row["low"]), float(row["high"]))
        low, high = (f"{100 * end:+.1f}" for end in ends)
        text = f"{100 * float(row['lead']):+.1f} ({low} to {high})"
        rows.setdefault(pair, {})[row["at"]] = f"**{text}**" if is_real(ends) else text
    names = [f"at {percent(float(share), 0)}" for share in shares]
    body = [[*pair, *(cells.get(share, "–") for share in shares)] for pair, cells in rows.items()]
    return table(["setting", "over", "points of", *names], body)


def moved(thresholds: list) -> str:
    rows = []
    for gate in GATES:
        for wanted in ("0.10", "0.20"):
            of = {
                row["thresholds_of"]: row
                for row in thresholds
                if (row["gate"], row["wanted"]) == (gate, wanted)
            }
            if of:
                shares = [
                    percent(float(of[name][what]))
                    for name in ("MBPP", "GSM8K")
                    for what in ("asked", "found")
                ]
                rows.append([gate, percent(float(wanted), 0), *shares])
    return table(["gate", "wanted", "MBPP's: asked", "found", "its own: asked", "found"], rows)


def seconds(measured: list) -> str:
    delays = list(dict.fromkeys(row["delay_ms"] for row in measured))
    rows = {}
    for row in measured:
        name = "cloud LLM alone, token by token"
        if row["gate"] == "head":
            name = "single tokens" if row["burst"] == "1" else f"bursts of {row['burst']}"
        rows.setdefault(name, []).append(row["seconds"])
    return table(["way", *(f"{delay} ms" for delay in delays)],
                 [[name, *cells] for name, cells in rows.items()])


def gain(setup: dict) -> dict:
    points = {
        name: f"{100 * float(setup[name]):.1f}"
        for name in ("llm_gain", "llm_gain_low", "llm_gain_high")
    }
    return {**points, **{name: setup[name] for name in ("only_llm", "only_slm", "p")}}


def curves(wide: list) -> dict:
    ends = {row["gate"]: row for row in wide if row["gate"] in NAMES}
    heights = {
        "pass": lambda row: float(row["pass"]),
        "identical": lambda row: int(row["identical"]) / int(row["problems"]),
    }
    titles = {"pass": "Programs that pass", "identical": "Programs equal to the cloud LLM's"}
    charts = {}
    for name, height in heights.items():
        if not ends["llm"][name]:
            continue
        of = {}
        for row in wide:
            if row["gate"] in GATES:
                of.setdefault(row["gate"] + besides(row, short=True), []).append(row)
        points = {
            gate: [
                (float(row["obtained"]), height(row)) for row in [ends["slm"], *rows, ends["llm"]]
            ]
            for gate, rows in of.items()
        }
        ys = [y for line in points.values() for _, y in line]
        # To twentieths, so that the six labels of the axis are whole percents.
        span = (math.floor(20 * min(ys)) / 20, math.ceil(20 * max(ys)) / 20)
        span = (0.0, 1.0) if name == "identical" else span
        charts[name] = chart(titles[name], "cloud tokens", name, points, 0.25, span)
    return charts


if __name__ == "__main__":
    write(Path(sys.argv[1]))
