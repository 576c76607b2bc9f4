"""Whether the SLM's token changes the outcome where the two models disagree: runs the programs of `hybrid-lab collect --branches`.

    outcomes.py BRANCHES --data mbpp.jsonl --passed CACHE

Prints how many pass with the cloud LLM's own answer and with the one that goes on behind the SLM's token, as Markdown.
"""

import argparse
import json
from pathlib import Path

from evaluation import Judge
from figures import interval, resamples, sign_test
from tables import between, percent, table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("branches", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="mbpp.jsonl")
    parser.add_argument("--passed", type=Path, required=True, help="verdicts are kept here")
    options = parser.parse_args()
    judge = Judge(options.data, options.passed)
    lines = map(json.loads, options.branches.read_text().splitlines())
    branches = [branch for branch in lines if branch["prompt"] in judge.problems]
    passes = lambda branch, what: judge.passes(branch["text"], branch["prompt"], branch[what])  # noqa: E731
    if not branches:
        parser.error(f"{options.branches}: no disagreement in a problem of {options.data}; take more problems")
    print(report([(branch["answer"] == branch["branch"], passes(branch, "answer"), passes(branch, "branch")) for branch in branches]))


def report(outcomes: list) -> str:
    """Of each branch: whether its text is the answer's, whether the answer passes, whether the branch does."""
    rows = []
    for name, own in (("passes", True), ("fails", False)):
        of = [branch for _, answer, branch in outcomes if answer == own]
        rows.append([name, str(sum(of)), str(len(of) - sum(of))])
    changed = [answer != branch for _, answer, branch in outcomes]
    share = lambda weights: sum(w * c for w, c in zip(weights, changed)) / len(changed)  # noqa: E731
    worse, better = (sum((answer, branch) == way for _, answer, branch in outcomes) for way in ((True, False), (False, True)))
    return "\n".join([
        table(["the cloud LLM's own program", "passes behind the SLM's token", "fails"], rows),
        "",
        f"{len(outcomes)} disagreements, one of each problem that has any. {percent(share([1] * len(changed)), 0)} change the outcome "
        f"({between(interval([share(w) for w in resamples(len(changed))]))}): {worse} for the worse, {better} for the better (McNemar's exact p "
        f"{sign_test(worse, better):.3f}). {sum(same for same, _, _ in outcomes)} lead to the same program.",
    ])  # fmt: skip


if __name__ == "__main__":
    main()
