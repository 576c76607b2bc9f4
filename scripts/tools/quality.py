#!/usr/bin/env python3
"""The report of scripts/eval: runs the programs, counts, writes docs/quality.md and docs/quality/.

    quality.py --alone EVAL.jsonl --mbpp EVAL.jsonl --data mbpp.jsonl --passed CACHE.json --docs DIR
               --slm NAME [--wide EVAL.jsonl --wide-hand-back EVAL.jsonl]
               [--bursts EVAL.jsonl] [--hand-back EVAL.jsonl] [--rescue EVAL.jsonl]
               [--corrections EVAL.jsonl] [--live MS=EVAL.jsonl]... [--gsm8k EVAL.jsonl]

--alone has each model alone and the gates along the cloud LLM's answers, --mbpp the sessions of
every gate, which may be of fewer problems, --wide those of the head and max-probability on more.
--slm is the name of the SLM's file. All figures go to CSV files; the page is made from these by
quality_page.py. The last line on stdout: auc=F recall10=F recall20=F gap10=F gap20=F
"""

import argparse
from pathlib import Path

import quality_page
import quality_tables as tables
from chart import chart
from evaluation import Evaluation, Judge
from quality_tables import Run
from tables import write_csv

GATES = ["head", "max-probability"]


def main() -> None:
    options = parse_arguments()
    judge = Judge(options.data, options.passed)
    open_ = lambda path: Evaluation(path, judge) if path else None  # noqa: E731
    alone, mbpp = open_(options.alone), open_(options.mbpp)
    wide = Run(open_(options.wide)) if options.wide else Run(mbpp)
    handed = Run(open_(options.wide_hand_back), hand_back=True) if options.wide_hand_back else None
    runs = [
        Run(made)
        for path in (options.bursts, options.rescue, options.corrections)
        if (made := open_(path))
    ]
    if options.hand_back:
        runs.insert(1, Run(open_(options.hand_back), hand_back=True))
    live = {delay: Evaluation(path) for delay, path in sorted(options.live)}
    other = Evaluation(options.gsm8k) if options.gsm8k else None
    folder = options.docs / "quality"
    folder.mkdir(parents=True, exist_ok=True)
    for made in report(alone, mbpp, wide, handed, runs, live, other, options.slm):
        write_csv(made, folder)
    (folder / "found.svg").write_text(found_chart(alone))
    quality_page.write(options.docs)
    print(last_line(alone, wide.evaluation))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("alone", "mbpp", "data", "passed", "docs"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--slm", required=True)
    for name in ("bursts", "hand-back", "rescue", "corrections", "gsm8k", "wide", "wide-hand-back"):
        parser.add_argument(f"--{name}", type=Path)
    parser.add_argument("--live", type=delayed, action="append", default=[])
    return parser.parse_args()


def delayed(text: str) -> tuple:
    delay, path = text.split("=", 1)
    return int(delay), Path(path)


def report(
    alone: Evaluation,
    mbpp: Evaluation,
    wide: Run,
    handed: Run,
    runs: list,
    live: dict,
    other: Evaluation,
    slm: str,
) -> list:
    """All tables. `handed`: as `wide`, with bursts and hand-back. `runs`: one option each."""
    every = Run(mbpp)
    domains = {"MBPP": alone} | ({"GSM8K": other} if other else {})
    curves, pairs = [(every, mbpp.gates(), 1)], []
    if wide.evaluation is not mbpp:
        curves.insert(0, (wide, GATES, 1))
        pairs.append(((wide, GATES[0], 1), (wide, GATES[1], 1), (0.1, 0.2)))
    if handed:
        burst = max(burst for _, _, burst in handed.evaluation.ways)
        curves.insert(1, (handed, GATES, burst))
        pairs.append(((handed, GATES[0], burst), (handed, GATES[1], burst), (0.1, 0.2)))
        pairs.append(((handed, GATES[0], burst), (wide, GATES[1], 1), (0.1, 0.2)))
    pairs += [
        ((every, "head", 1), (every, gate, 1), tables.SHARES)
        for gate in mbpp.gates()
        if gate != "head"
    ]
    all_runs = [
        wide,
        *([handed] if handed else []),
        *([every] if wide.evaluation is not mbpp else []),
        *runs,
    ]
    made = [
        tables.setup(mbpp, alone, wide, slm, live),
        tables.sessions(all_runs),
        tables.found(domains),
        tables.found_gains(domains),
        tables.ways(curves),
        tables.leads(pairs),
        tables.pairs(mbpp),
        tables.aims(alone, wide),
    ]
    if 0 in live:
        pace = tables.Pace(live[0])
        extras = ("rescue", "corrections")
        plain = [run for run in runs if not any(run.evaluation.setup.get(name) for name in extras)]
        made += [tables.delays(live, pace), tables.computed_delays(plain, pace)]
    return [*made, tables.thresholds(mbpp, other)] if other else made


def found_chart(alone: Evaluation) -> str:
    steps = [step / 50 for step in range(26)]
    gates = [row["score"] for row in alone.rows]
    curves = {
        gate: list(zip(steps, alone.rankings[gate].recalls(alone.ones, steps))) for gate in gates
    }
    return chart("Disagreements found", "tokens asked for", "found", curves, 0.5, (0.0, 1.0))


def last_line(alone: Evaluation, wide: Evaluation) -> str:
    head, ones = alone.rankings["head"], alone.ones
    line = [
        ("auc", head.auc(ones)),
        ("recall10", head.recall(ones, 0.1)),
        ("recall20", head.recall(ones, 0.2)),
    ]
    line += [(f"gap{share}", wide.gap("head", share / 100, wide.ones)) for share in (10, 20)]
    return " ".join(f"{name}={value:.3f}" for name, value in line)


if __name__ == "__main__":
    main()
