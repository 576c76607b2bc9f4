"""The statistics behind docs/quality.md. All is resampled by problem: tokens of one are alike."""

import bisect
import itertools
import math
import random

RESAMPLES = 1000


def interval(values: list) -> tuple:
    """The middle 95 %."""
    values = sorted(value for value in values if not math.isnan(value))
    if not values:
        return math.nan, math.nan
    at = lambda share: values[min(len(values) - 1, int(share * len(values)))]  # noqa: E731
    return at(0.025), at(0.975)


def resamples(count: int, seed: int = 1):
    """How often each of `count` problems is drawn, for each resample."""
    draw = random.Random(seed)
    for _ in range(RESAMPLES):
        weights = [0] * count
        for problem in draw.choices(range(count), k=count):
            weights[problem] += 1
        yield weights


def sign_test(wins: int, losses: int) -> float:
    """McNemar's exact test: the probability of a split at least as uneven, if both sides are
    equally likely."""
    total = wins + losses
    tail = sum(math.comb(total, k) for k in range(min(wins, losses) + 1))
    return min(1.0, 2 * tail / 2**total)


class Ranking:
    """Scores along the cloud LLM's answers, each with its label and the problem it is of."""

    def __init__(self, scores: list, agrees: list, prompts: list):
        order = sorted(range(len(scores)), key=lambda row: (scores[row], row * 2654435761 % 2**32))
        self.prompts = [prompts[row] for row in order]
        self.agrees = [int(agrees[row] != 0) for row in order]
        # Of every disagreement: its row, its problem, and between which rows scores equal its own.
        self.rows = [at for at, agrees in enumerate(self.agrees) if not agrees]
        self.missed = [self.prompts[at] for at in self.rows]
        ordered = [scores[row] for row in order]
        self.tied = [
            (bisect.bisect_left(ordered, ordered[at]), bisect.bisect_right(ordered, ordered[at]))
            for at in self.rows
        ]

    def auc(self, weights: list) -> float:
        """How likely a disagreement scores lower than an agreement; equal scores count half."""
        agreeing = map(lambda prompt, agrees: weights[prompt] * agrees, self.prompts, self.agrees)
        before = [0, *itertools.accumulate(agreeing)]
        missed = list(map(weights.__getitem__, self.missed))
        wins = (
            sum(
                w * (2 * before[-1] - before[low] - before[high])
                for w, (low, high) in zip(missed, self.tied)
            )
            / 2
        )
        pairs = before[-1] * sum(missed)
        return wins / pairs if pairs else math.nan

    def recalls(self, weights: list, shares: list) -> list:
        """Share of the disagreements among each of the `shares` of positions that score lowest."""
        seen = list(itertools.accumulate(map(weights.__getitem__, self.prompts)))
        caught = [0, *itertools.accumulate(map(weights.__getitem__, self.missed))]
        if not caught[-1]:
            return [math.nan] * len(shares)
        asked = [bisect.bisect_right(seen, share * seen[-1] + 1e-9) for share in shares]
        return [caught[bisect.bisect_left(self.rows, rows)] / caught[-1] for rows in asked]

    def recall(self, weights: list, share: float) -> float:
        return self.recalls(weights, [share])[0]


class Way:
    """One way to generate: tokens, cloud tokens and whether its program passes, by problem."""

    def __init__(self, sessions: list, passed: list):
        self.tokens = [session["tokens"] for session in sessions]
        self.cloud = [session["cloud"] for session in sessions]
        self.identical = [session["identical"] for session in sessions]
        self.passed = passed

    def share(self, weights: list) -> float:
        return weighted(weights, self.cloud) / max(weighted(weights, self.tokens), 1)

    def rate(self, weights: list) -> float:
        return weighted(weights, self.passed) / sum(weights)

    def same(self, weights: list) -> float:
        return weighted(weights, self.identical) / sum(weights)


def weighted(weights: list, values: list) -> float:
    return sum(map(lambda weight, value: weight * value, weights, values))


def at_share(points: list, share: float) -> float:
    """The height at `share` of the line through (share, height) points; the best of equals."""
    points = sorted(points)
    before = [point for point in points if point[0] <= share]
    after = [point for point in points if point[0] >= share]
    if not before or not after:
        return math.nan
    (x0, y0), (x1, y1) = before[-1], after[0]
    return y0 if x0 == x1 else y0 + (y1 - y0) * (share - x0) / (x1 - x0)


def recovered(low: float, high: float, made: float) -> float:
    """The share of the way from `low` to `high` that is made; not a number where there is none."""
    return (made - low) / (high - low) if high > low else math.nan


def gap(slm: Way, llm: Way, gated: list, share: float, weights: list) -> float:
    """The share of the way from the SLM's pass rate to the cloud LLM's, at a cloud share."""
    low, high = slm.rate(weights), llm.rate(weights)
    points = [(0.0, low), *((way.share(weights), way.rate(weights)) for way in gated), (1.0, high)]
    return recovered(low, high, at_share(points, share))
