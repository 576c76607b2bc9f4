#!/usr/bin/env python3
"""The statistics on data with a known answer."""

import json
import math
import tempfile
import unittest
from pathlib import Path

import figures
import outcomes
import quality
import quality_page
import quality_tables
from evaluation import LLM, ORACLE, SLM, Evaluation
from figures import Ranking, Way
from quality_tables import Run
from tables import between, is_real, percent, write_csv


def way(rows: list) -> Way:
    sessions = [{"tokens": tokens, "cloud": cloud, "identical": False} for tokens, cloud, _ in rows]
    return Way(sessions, [passed for _, _, passed in rows])


class Figures(unittest.TestCase):
    def test_sign_test(self):
        for wins, losses, want in [
            (0, 0, 1.0),
            (5, 5, 1.0),
            (1, 0, 1.0),
            (6, 0, 2 / 64),
            (0, 6, 2 / 64),
            (8, 2, 112 / 1024),
        ]:
            self.assertAlmostEqual(figures.sign_test(wins, losses), want)

    def test_rankings(self):
        ranking = Ranking([0.1, 0.2, 0.3, 0.4, 0.5], [0, 1, 0, 1, 1], [0, 0, 0, 1, 1])
        self.assertAlmostEqual(ranking.auc([1, 1]), 5 / 6)
        self.assertAlmostEqual(ranking.recall([1, 1], 0.2), 0.5)
        self.assertAlmostEqual(ranking.recall([1, 1], 0.6), 1.0)
        self.assertAlmostEqual(Ranking([0.5] * 4, [0, 1, 0, 1], [0] * 4).auc([1]), 0.5)
        self.assertTrue(math.isnan(ranking.auc([0, 1])))
        self.assertTrue(math.isnan(ranking.recall([0, 1], 0.2)))
        tied = Ranking([0.5, 0.5, 0.5, 0.1, 0.9], [0, 1, 1, 1, 0], [0] * 5)
        self.assertAlmostEqual(tied.auc([3]), 1 / 6)
        self.assertEqual(ranking.recalls([1, 1], [0.0, 0.2, 0.4, 0.6]), [0.0, 0.5, 0.5, 1.0])

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


class Words(unittest.TestCase):
    def test_what_is_no_number_is_a_dash(self):
        self.assertEqual(
            [percent(0.123), percent(1, 0), percent(math.nan)], ["12.3 %", "100 %", "–"]
        )
        self.assertEqual(between((0.1, 0.25)), "10 to 25")

    def test_a_difference_is_real_beyond_0(self):
        for ends, real in [
            ((0.1, 0.3), True),
            ((-0.3, -0.1), True),
            ((0.0, 0.3), False),
            ((-0.1, 0.3), False),
        ]:
            self.assertEqual(is_real(ends), real, ends)


def evaluation(
    folder: str, sessions: dict, scores: dict, agrees: list, prompts: list, seconds={}, **setup
) -> Evaluation:
    """As if `hybrid-lab eval` had written it. `sessions`: by way a list of (tokens, cloud tokens,
    consults, identical); `seconds`: by gate and burst."""
    lines = [
        {
            "kind": "setup",
            "slm": "S",
            "llm": "L",
            "head": "H",
            "validation_prompts": 3,
            "available_prompts": 9,
            **setup,
        }
    ]
    lines += [
        {"kind": "prompt", "id": f"p{i}", "text": f"```python\np{i}", "answer": ""}
        for i in range(max(prompts) + 1)
    ]
    lines.append({"kind": "labels", "agrees": agrees, "prompts": prompts})
    for gate, values in scores.items():
        lines.append({"kind": "scores", "gate": gate, "scores": values})
        lines.append({"kind": "along-answers", "score": gate, "whole_prompts": 0.5})
    for (gate, point, burst), of_way in sessions.items():
        way = {"gate": gate, "burst": burst} | (
            {} if point is None else {"rule" if isinstance(point, str) else "share": point}
        )
        way |= {"threshold": 0.5} if point else {}
        lines.append({"kind": "way", **way})
        names = ("tokens", "cloud", "consults", "identical")
        total = {name: sum(values) for name, values in zip(names, zip(*of_way))}
        known = {
            "obtained": total["cloud"] / total["tokens"],
            "prompts": len(of_way),
            "agreement": 0.5,
        }
        bill = {
            "prompt_tokens": 0,
            "answer_tokens": total["cloud"],
            "bytes": 0,
            "seconds": seconds.get((gate, burst), 0),
        }
        lines.append({"kind": "sum", **way, **total, **known, **bill})
        for i, session in enumerate(of_way):
            lines.append(
                {
                    "kind": "session",
                    "prompt": f"p{i}",
                    "text": str(session[3]),
                    **way,
                    **dict(zip(names, session)),
                }
            )
    path = Path(folder) / "eval.jsonl"
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return Evaluation(path, Same())


class Same:
    """A judge that lets pass what is the cloud LLM's."""

    def passes(self, prompt: str, id: str, text: str) -> bool:
        return text == "True"


ENDS = {
    SLM: [(10, 0, 0, False), (10, 0, 0, False)],
    LLM: [(10, 10, 10, True)] * 2,
    ORACLE: [(10, 1, 1, True)] * 2,
}
ALONG = {"agrees": [0, 1, 1, 0, 1, 1], "prompts": [0, 0, 0, 1, 1, 1]}
GOOD, BAD = [0.1, 0.8, 0.9, 0.2, 0.7, 0.9], [0.9, 0.1, 0.8, 0.3, 0.9, 0.2]


class Reports(unittest.TestCase):
    def test_points_are_of_one_gate_and_one_token_a_consult(self):
        ways = {
            ("u-hlm", 0.2, 1): [(10, 2, 2, True), (10, 2, 2, False)],
            ("u-hlm", "risk-prone", 1): [(10, 4, 4, True)] * 2,
            ("u-hlm", 0.2, 4): [(10, 9, 3, True)] * 2,
            ("margin", 0.2, 1): [(10, 3, 3, False)] * 2,
        }
        with tempfile.TemporaryDirectory() as folder:
            made = evaluation(folder, ENDS | ways, {"u-hlm": GOOD}, **ALONG)
        self.assertEqual(made.gates(), ["margin", "u-hlm"])
        self.assertEqual(
            made.points("u-hlm", "same", [1, 1]), [(0.0, 0.0), (0.2, 0.5), (0.4, 1.0), (1.0, 1.0)]
        )
        self.assertEqual(made.points("u-hlm", "rate", [0, 2])[1], (0.2, 0.0))
        self.assertEqual(
            made.points("u-hlm", "same", [1, 1], 4), [(0.0, 0.0), (0.9, 1.0), (1.0, 1.0)]
        )
        self.assertAlmostEqual(made.gap("u-hlm", 0.1, [1, 1]), 0.25)

    def test_curves_are_compared_with_bursts_too(self):
        none, half, all = (
            [(10, 1, 1, one), (10, 1, 1, other)]
            for one, other in ((False, False), (True, False), (True, True))
        )
        ways = {
            ("head", 0.1, 1): half,
            ("head", 0.1, 4): all,
            ("max-probability", 0.1, 1): none,
            ("max-probability", 0.1, 4): half,
        }
        scores = {"head": GOOD, "max-probability": BAD}
        with tempfile.TemporaryDirectory() as folder:
            made = evaluation(folder, ENDS | ways, scores, **ALONG)
        run, handed = Run(made), Run(made, hand_back=True)
        way = quality_tables.ways(
            [(run, ["head", "max-probability"], 1), (handed, ["head", "max-probability"], 4)]
        )
        of = {tuple(row[1:6]): row[6] for row in way.rows}
        for gate, burst, back, want in [
            ("head", "1", "0", "0.500"),
            ("max-probability", "1", "0", "0.000"),
            ("head", "4", "1", "1.000"),
            ("max-probability", "4", "1", "0.500"),
        ]:
            for what in ("identical", "pass"):
                self.assertEqual(of[gate, burst, back, what, "0.10"], want)
        pairs = [
            ((run, "head", 1), (run, "max-probability", 1), [0.1]),
            ((handed, "head", 4), (run, "max-probability", 1), [0.1]),
        ]
        leads = quality_tables.leads(pairs)
        self.assertEqual([row[9] for row in leads.rows], ["0.500", "0.500", "1.000", "1.000"])

    def test_pass_is_left_out_where_the_cloud_llm_shows_no_lead(self):
        for slm, shown in ((False, True), (True, False)):
            ends = ENDS | {SLM: [(10, 0, 0, slm)] * 2}
            with tempfile.TemporaryDirectory() as folder:
                made = evaluation(folder, ends, {"head": GOOD}, **ALONG)
            rows = quality_tables.sessions([Run(made)]).rows
            self.assertEqual([row[8] != "" for row in rows], [shown] * 3)

    def test_outcomes_of_disagreements(self):
        told = outcomes.report(
            [(True, True, True)] * 3
            + [(False, True, False)] * 2
            + [(False, False, True), (False, False, False)]
        )
        self.assertIn("| passes | 3 | 2 |\n| fails | 1 | 1 |", told)
        self.assertIn(
            "7 disagreements, one of each problem that has any. 43 % change the outcome", told
        )
        self.assertIn(
            "2 for the worse, 1 for the better (McNemar's exact p 1.000). "
            "3 lead to the same program.",
            told,
        )

    def test_seconds_are_steps_and_consults(self):
        ways = {("head", 0.2, burst): [(10, 4, 8 // burst, True)] * 2 for burst in (1, 4)}
        seconds = {("slm", 1): 2.0, ("head", 1): 3.6, ("head", 4): 2.8}
        with tempfile.TemporaryDirectory() as folder:
            live = evaluation(folder, ENDS | ways, {"head": GOOD}, **ALONG, seconds=seconds)
        pace = quality_tables.Pace(live)
        self.assertAlmostEqual(pace.step, 0.1)
        for key, sum_ in quality_tables.gated(live):
            self.assertAlmostEqual(pace.consults[key[2]], {1: 0.1, 4: 0.2}[key[2]])
            self.assertAlmostEqual(pace.seconds(sum_, 0), sum_["seconds"])
            self.assertAlmostEqual(
                pace.seconds(sum_, 100), sum_["seconds"] + 0.1 * sum_["consults"]
            )

    def test_a_report_of_any_outcome(self):
        shares = {
            share: [(10, int(10 * share), 1, True), (10, int(10 * share), 1, False)]
            for share in quality_tables.SHARES
        }
        gates = [
            ("head", 1),
            ("head", 4),
            ("margin", 1),
            ("max-probability", 1),
            ("max-probability", 4),
        ]
        ways = {
            (gate, share, burst): rows for gate, burst in gates for share, rows in shares.items()
        }
        for slm in (False, True):
            ends = ENDS | {SLM: [(10, 0, 0, slm)] * 2}
            with tempfile.TemporaryDirectory() as folder:
                scores = {"head": GOOD, "margin": BAD, "max-probability": BAD}
                made = evaluation(folder, ends | ways, scores, **ALONG, rescue=3, corrections=8)
                wide = evaluation(folder, ends | ways, scores, **ALONG)
                handed = Run(evaluation(folder, ends | ways, scores, **ALONG), hand_back=True)
                report = quality.report(
                    made,
                    made,
                    Run(wide),
                    handed,
                    [Run(wide), handed],
                    {0: made, 20: made},
                    made,
                    "S",
                )
                for table in report:
                    self.assertTrue(table.rows, table.name)
                    self.assertTrue(
                        all(len(row) == len(table.head) for row in table.rows), table.name
                    )
                    self.assertNotIn("nan", str(table.rows))
                    write_csv(table, Path(folder))
                page, charts = quality_page.made(Path(folder))
            self.assertNotIn("nan", page + "".join(charts.values()))
            self.assertEqual("pass" in charts, not slm)
            self.assertIn("<svg", quality.found_chart(made))
            last = quality.last_line(made, made)
            self.assertRegex(
                last, r"^auc=1\.000 recall10=0\.000 recall20=0\.500 gap10=\S+ gap20=\S+$"
            )
            self.assertEqual(last.endswith("gap10=nan gap20=nan"), slm)
            self.assertEqual({table.name: table.head for table in report}, HEADS)


DOCS = Path(__file__).parents[2] / "docs"
HEADS = {
    path.stem: path.read_text().splitlines()[0].split(",")
    for path in (DOCS / "quality").glob("*.csv")
}


if __name__ == "__main__":
    unittest.main()
