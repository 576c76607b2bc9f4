#!/usr/bin/env python3
"""Makes docs/quality.md of what `hybrid-lab eval` wrote: runs the programs, counts, and draws the curves.

    quality.py --alone EVAL.jsonl --mbpp EVAL.jsonl --data mbpp.jsonl --passed CACHE.json --docs DIR
               [--wide EVAL.jsonl --wide-hand-back EVAL.jsonl]
               [--bursts EVAL.jsonl] [--hand-back EVAL.jsonl] [--rescue EVAL.jsonl] [--corrections EVAL.jsonl]
               [--live MS=EVAL.jsonl]... [--gsm8k EVAL.jsonl]

--alone has each model alone and the gates along the cloud LLM's answers, --mbpp the gates' sessions, which may be of fewer problems,
--wide those of the head and max-probability on more.
The last line on stdout: auc=F recall10=F recall20=F gap10=F gap20=F
"""

import argparse
from pathlib import Path

import quality_gap
import quality_gates as gates
import quality_more as more
from evaluation import LLM, ORACLE, SLM, Evaluation, Judge
from figures import interval, sign_test
from tables import between, is_real, percent, table

EXTRAS = ["bursts", "hand-back", "rescue", "corrections"]


def main() -> None:
    options = parse_arguments()
    judge = Judge(options.data, options.passed)
    mbpp, alone = Evaluation(options.mbpp, judge), Evaluation(options.alone, judge)
    extras = {name: Evaluation(path, judge) for name in EXTRAS if (path := getattr(options, name.replace("-", "_")))}
    live = {delay: Evaluation(path) for delay, path in sorted(options.live)}
    wide = Evaluation(options.wide, judge) if options.wide else mbpp
    sections = [introduction(mbpp), models_alone(alone), gates.aims(alone, wide), *gates.along(alone, "MBPP")]
    if options.wide:
        sections += quality_gap.gap(wide, Evaluation(options.wide_hand_back, judge))
    sections += gates.sessions(alone, mbpp)
    if "bursts" in extras and "hand-back" in extras:
        sections += more.bursts(extras["bursts"], extras["hand-back"], live)
    sections += more.extras(extras)
    if options.gsm8k:
        sections += more.second_domain(mbpp, Evaluation(options.gsm8k))
    gates.draw(alone, mbpp, options.docs)
    (options.docs / "quality.md").write_text("\n\n".join(sections) + "\n")
    print(last_line(alone, wide))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("alone", "mbpp", "data", "passed", "docs"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    for name in (*EXTRAS, "gsm8k", "wide", "wide-hand-back"):
        parser.add_argument(f"--{name}", type=Path)
    parser.add_argument("--live", type=delayed, action="append", default=[])
    return parser.parse_args()


def delayed(text: str) -> tuple:
    delay, path = text.split("=", 1)
    return int(delay), Path(path)


def last_line(alone: Evaluation, wide: Evaluation) -> str:
    head, ones = alone.rankings["head"], alone.ones
    line = [("auc", head.auc(ones)), ("recall10", head.recall(ones, 0.1)), ("recall20", head.recall(ones, 0.2))]
    line += [(f"gap{share}", wide.gap("head", share / 100, wide.ones)) for share in (10, 20)]
    return " ".join(f"{name}={value:.3f}" for name, value in line)


def introduction(mbpp: Evaluation) -> str:
    setup = mbpp.setup
    return f"""# Quality

Made by `scripts/tools/quality.py`, the report of `scripts/eval`; do not edit. How near the SLM with a part of the cloud LLM's tokens comes to the cloud LLM.

- **Models.** SLM {setup["slm"]}, cloud LLM {setup["llm"]}, both greedy.
- **Problems.** Of MBPP's {setup["available_prompts"]} test problems ([data.md](data.md)) the first in the order of a hash of their names, so that a larger sample
  contains a smaller one; every section says how many. The head never saw any of them. Thresholds were set
  on {setup["validation_prompts"]} validation problems, along the cloud LLM's answers; nothing was set on the test problems.
- **Head.** {setup["head"]}.
- **pass@1.** A program passes when MBPP's asserts hold, in a process with limits (`scripts/tools/sandbox.py`).
- **Intervals** are the middle 95 % over 1000 draws of as many problems, with replacement. Of a difference both sides are drawn together; where 0 is
  outside it is printed in bold. There are many of them, so that some are bold by chance.
- **The sessions** are the library's own; answers come out of a memory of the cloud LLM's tokens by context. A bundle on this machine and
  llama.cpp's server give other tokens where two are almost equally likely, and so other texts for some problems (the server itself does, asked for
  one token or for several at a time); gates are compared on the same one."""


def models_alone(alone: Evaluation) -> str:
    slm, llm, count = alone.ways[SLM], alone.ways[LLM], len(alone.ones)
    weights = list(alone.resamples())
    rows = []
    for name, key in [("SLM alone", SLM), ("cloud LLM alone", LLM), ("oracle", ORACLE)]:
        way = alone.ways[key]
        rates = interval([way.rate(w) for w in weights])
        rows.append([
            name, percent(way.share(alone.ones)), percent(way.rate(alone.ones)), between(rates), f"{sum(way.identical)}/{count}",
        ])  # fmt: skip
    gained = interval([llm.rate(w) - slm.rate(w) for w in weights])
    only_llm = sum(b and not a for a, b in zip(slm.passed, llm.passed))
    only_slm = sum(a and not b for a, b in zip(slm.passed, llm.passed))
    verdict = "" if is_real(gained) else " The interval has 0 in it: on these problems no gap between the two models is shown."
    return (
        f"## Each model alone\n\n{count} problems. The oracle asks exactly where the cloud LLM's answer goes another way than the SLM would: no gate "
        "writes that answer with fewer cloud tokens.\n\n"
        + table(["", "cloud tokens", "pass@1", "95 %", "the cloud LLM's program"], rows)
        + f"\n\nThe cloud LLM passes {100 * (llm.rate(alone.ones) - slm.rate(alone.ones)):+.1f} points more than the SLM ({between(gained, 1)}): {only_llm} "
        f"problems only it solves, {only_slm} only the SLM does (McNemar's exact p {sign_test(only_llm, only_slm):.2g}).{verdict}"
    )


if __name__ == "__main__":
    main()
