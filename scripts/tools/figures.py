"""The statistics behind docs/quality.md: everything is resampled by problem, since what is of one problem is alike."""

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
        for _ in range(count):
            weights[draw.randrange(count)] += 1
        yield weights


def sign_test(wins: int, losses: int) -> float:
    """McNemar's exact test: the probability of a split at least so uneven, were both sides equally likely."""
    total = wins + losses
    tail = sum(math.comb(total, k) for k in range(min(wins, losses) + 1))
    return min(1.0, 2 * tail / 2**total)


class Ranking:
    """Scores along the cloud LLM's answers, each with its label and the problem it is of."""

    def __init__(self, scores: list, agrees: list, prompts: list):
        order = sorted(range(len(scores)), key=lambda row: (scores[row], row * 2654435761 % 2**32))
        self.rows = [(scores[row], agrees[row] == 0, prompts[row]) for row in order]

    def auc(self, weights: list) -> float:
        """The probability that a disagreement scores lower than an agreement; equal scores count half."""
        below = wins = agreeing = tied_below = tied_agreeing = 0.0
        last = None
        for score, disagrees, prompt in self.rows:
            if score != last:
                wins += tied_agreeing * (below + tied_below / 2)
                below += tied_below
                agreeing += tied_agreeing
                tied_below, tied_agreeing, last = 0.0, 0.0, score
            if disagrees:
                tied_below += weights[prompt]
            else:
                tied_agreeing += weights[prompt]
        wins += tied_agreeing * (below + tied_below / 2)
        below, agreeing = below + tied_below, agreeing + tied_agreeing
        return wins / (below * agreeing) if below and agreeing else math.nan

    def recall(self, weights: list, share: float) -> float:
        """Share of the disagreements among the `share` of positions that score lowest."""
        limit = share * sum(weights[prompt] for _, _, prompt in self.rows)
        seen = caught = total = 0.0
        for _, disagrees, prompt in self.rows:
            seen += weights[prompt]
            total += weights[prompt] * disagrees
            if seen <= limit + 1e-9:
                caught += weights[prompt] * disagrees
        return caught / total if total else math.nan


class Way:
    """One way to generate: for every problem, tokens, cloud tokens and whether its program passes."""

    def __init__(self, sessions: list, passed: list):
        self.tokens = [session["tokens"] for session in sessions]
        self.cloud = [session["cloud"] for session in sessions]
        self.identical = [session["identical"] for session in sessions]
        self.passed = passed

    def share(self, weights: list) -> float:
        tokens = sum(w * t for w, t in zip(weights, self.tokens))
        return sum(w * c for w, c in zip(weights, self.cloud)) / max(tokens, 1)

    def rate(self, weights: list) -> float:
        return sum(w * p for w, p in zip(weights, self.passed)) / sum(weights)


def at_share(points: list, share: float) -> float:
    """The height at `share` of the line through (share, height) points; the best height of equal shares."""
    points = sorted(points)
    before = [point for point in points if point[0] <= share]
    after = [point for point in points if point[0] >= share]
    if not before or not after:
        return math.nan
    (x0, y0), (x1, y1) = before[-1], after[0]
    return y0 if x0 == x1 else y0 + (y1 - y0) * (share - x0) / (x1 - x0)


def gap(slm: Way, llm: Way, gated: list, share: float, weights: list) -> float:
    """The share of the way from the SLM's pass rate to the cloud LLM's that is made at `share` of cloud tokens."""
    low, high = slm.rate(weights), llm.rate(weights)
    points = [(0.0, low), *((way.share(weights), way.rate(weights)) for way in gated), (1.0, high)]
    return (at_share(points, share) - low) / (high - low) if high > low else math.nan
