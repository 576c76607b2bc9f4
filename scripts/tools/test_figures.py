#!/usr/bin/env python3
"""The statistics on data with a known answer."""

import math
import unittest

import figures
from figures import Ranking, Way


def way(rows: list) -> Way:
    sessions = [{"tokens": tokens, "cloud": cloud, "identical": False} for tokens, cloud, _ in rows]
    return Way(sessions, [passed for _, _, passed in rows])


class Figures(unittest.TestCase):
    def test_sign_test(self):
        for wins, losses, want in [(0, 0, 1.0), (5, 5, 1.0), (1, 0, 1.0), (6, 0, 2 / 64), (0, 6, 2 / 64), (8, 2, 112 / 1024)]:
            self.assertAlmostEqual(figures.sign_test(wins, losses), want)

    def test_rankings(self):
        ranking = Ranking([0.1, 0.2, 0.3, 0.4, 0.5], [0, 1, 0, 1, 1], [0, 0, 0, 1, 1])
        self.assertAlmostEqual(ranking.auc([1, 1]), 5 / 6)
        self.assertAlmostEqual(ranking.recall([1, 1], 0.2), 0.5)
        self.assertAlmostEqual(ranking.recall([1, 1], 0.6), 1.0)
        self.assertAlmostEqual(Ranking([0.5] * 4, [0, 1, 0, 1], [0] * 4).auc([1]), 0.5)
        self.assertTrue(math.isnan(ranking.auc([0, 1])))

    def test_weights_are_repetitions(self):
        scores, agrees = [0.1, 0.3, 0.2, 0.6, 0.3], [0, 1, 1, 0, 0]
        once = Ranking(scores, agrees, [0, 0, 1, 1, 1])
        twice = Ranking(scores[:2] * 2 + scores[2:], agrees[:2] * 2 + agrees[2:], [0] * 4 + [1] * 3)
        self.assertAlmostEqual(once.auc([2, 1]), twice.auc([1, 1]))

    def test_gap(self):
        slm, llm = way([(10, 0, 0), (10, 0, 0)]), way([(10, 10, 1), (10, 10, 1)])
        half = way([(10, 2, 1), (10, 2, 0)])
        for share, want in [(0.0, 0.0), (0.1, 0.25), (0.2, 0.5), (0.6, 0.75), (1.0, 1.0)]:
            self.assertAlmostEqual(figures.gap(slm, llm, [half], share, [1, 1]), want)
        self.assertTrue(math.isnan(figures.gap(slm, slm, [half], 0.1, [1, 1])))

    def test_intervals(self):
        low, high = figures.interval([float(i) for i in range(1000)])
        self.assertEqual((low, high), (25.0, 975.0))
        self.assertEqual(sum(next(figures.resamples(7))), 7)


if __name__ == "__main__":
    unittest.main()
