#!/usr/bin/env python3
"""The report of scripts/latency, on answers with known sums."""

import contextlib
import io
import json
import tempfile
import unittest
from pathlib import Path

import latency


def answer(way: str, share: float, seconds: float, **more) -> dict:
    consults = more.pop("consults", 0)
    return {
        "prompt": "p", "way": way, "share": share, "text": "t", "seconds": seconds, "tokens": 50,
        "consults": consults, "failures": 0, "agreed": consults // 2, "cloud_seconds": 0.0,
        "overlap_seconds": 0.0, **more,
    }  # fmt: skip


class Latency(unittest.TestCase):
    def test_report(self):
        answers = [
            answer("local", 0, 1.0),
            answer("cloud", 0, 2.0, consults=1, cloud_seconds=2.0),
            answer("plain", 0.1, 2.3, consults=10, cloud_seconds=1.3),
            answer("overlap", 0.1, 1.7, consults=10, cloud_seconds=1.3, overlap_seconds=0.6),
        ]
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            lines = "".join(json.dumps(line) + "\n" for line in answers)
            (folder / "delay-80.jsonl").write_text(lines)
            (folder / "machine.txt").write_text("a board")
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                latency.main(folder, folder / "page.md")
            page = (folder / "page.md").read_text()
        self.assertIn("| 80 ms | 10 % | 1.0 s | 2.0 s | 2.3 s | 1.7 s | 1.80 | 1.20 |", page)
        self.assertIn("| 80 ms | 10 % | 50 | 10 | 50 % | 0.5 | 0.6 | 1 of 1 |", page)
        self.assertEqual(printed.getvalue().splitlines()[-1], "ratio_80_10=1.200")

    def test_nothing_measured(self):
        with tempfile.TemporaryDirectory() as folder, self.assertRaises(SystemExit):
            latency.main(Path(folder), Path(folder) / "page.md")


if __name__ == "__main__":
    unittest.main()
