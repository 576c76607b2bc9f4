"""Tests of mbpp_prompts.py."""

import unittest

from mbpp_prompts import INSTRUCTION, function_head, parse, prompt, split_of

MBPP = {"task_id": 601, "text": " Sort.", "code": "def f(a):\n  pass", "test_list": ["f(1)"]}


class Prompts(unittest.TestCase):
    def test_the_head_is_of_the_tested_function(self):
        for code, test, want in [
            ("def f(a, b):\r\n  return a", "assert f(1, 2) == 1", "def f(a, b):"),
            ("def g(a):\n  pass\ndef f(a): # x: y\n  pass", "assert f(1)", "def f(a):"),
            ("def f(a: int, b={1: 2}) -> int:\n  pass", "set(f (1))", "def f(a: int, b={1: 2}) -> int:"),
            ("def f(a):\n  pass", "assert my_f(1)", None),
            ("def f(a", "assert f(1)", None),
            ("x = 1", "assert x", None),
        ]:
            self.assertEqual(function_head(code, [test]), want, code)

    def test_the_splits_are_the_authors(self):
        wanted = {1: None, 10: None, 11: "test", 12: None, 510: "test", 511: "validation", 600: "validation"}
        wanted |= {601: "train", 914: None, 974: "train", 975: None}
        self.assertEqual({task: split_of(task) for task in wanted}, wanted)

    def test_lines_of_both_kinds_are_read(self):
        own = {"name": "f", "head": "def f(a):", "task": "Sort."}
        self.assertEqual(parse(MBPP), ("mbpp/601", "train", " Sort.", "def f(a):"))
        self.assertEqual(parse(own), ("own/f", "train", "Sort.", "def f(a):"))
        self.assertIsNone(parse(MBPP | {"task_id": 1}))
        with self.assertRaises(SystemExit):
            parse(MBPP | {"test_list": ["g(1)"]})

    def test_a_system_message_comes_first(self):
        plain, told = (prompt(*parse(MBPP), system) for system in (None, "Be brief."))
        user = {"role": "user", "content": f"{INSTRUCTION}\n\nSort."}
        self.assertEqual(plain["messages"], [user])
        self.assertEqual(told["messages"], [{"role": "system", "content": "Be brief."}, user])
        self.assertEqual(plain["prefill"], '```python\ndef f(a):\n    """Sort."""\n')
        self.assertEqual((plain["id"], plain["split"], plain["stop"]), ("mbpp/601", "train", "python-function"))


if __name__ == "__main__":
    unittest.main()
