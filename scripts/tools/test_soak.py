"""The verdict of scripts/soak sees what it is there for."""

import unittest

from soak import verdict

CLIENT = {"consults": 1000, "answers": 700, "failed": 300, "failures": 300, "timeouts": 10,
          "requests": 1005}  # fmt: skip
SERVER = {"requests": 1002, "answers": 701, "closed": 40}


def samples(**grows) -> list:
    flat = {"resident": 50e6, "descriptors": 9, "threads": 2}
    return [{what: flat[what] + grows.get(what, 0) * i for what in flat} for i in range(40)]


class Verdict(unittest.TestCase):
    def wrong(self, client=None, server=None, **grows) -> list:
        return verdict(samples(**grows), CLIENT | (client or {}), SERVER | (server or {}), 60, 0.3)

    def test_a_good_run(self):
        self.assertEqual(self.wrong(), [])

    def test_what_grows(self):
        # 1 kB in each of 1200 consults.
        for grows in ({"resident": 30e3}, {"descriptors": 1}, {"threads": 1}):
            with self.subTest(grows):
                self.assertEqual(len(self.wrong(**grows)), 1)

    def test_counters(self):
        rows = [
            ({"answers": 699}, {}, "neither answered nor failed"),
            ({"failures": 299}, {}, "the session counts 299"),
            ({"requests": 1001}, {}, "1002 requests arrived, but 1001 are counted"),
            ({"requests": 2010}, {}, "2010 requests are counted"),
            ({}, {"answers": 699}, "700 answers are counted, but 699 were given"),
            ({}, {"answers": 800}, "800 answers were given"),
        ]
        for client, server, part in rows:
            with self.subTest(part):
                self.assertIn(part, "\n".join(self.wrong(client, server)))

    def test_faults_that_are_none(self):
        few = {"answers": 990, "failed": 10, "failures": 10}
        self.assertIn("1% of the consults failed", self.wrong(few, {"answers": 991})[0])


if __name__ == "__main__":
    unittest.main()
