"""Which files count as a circle."""

import tempfile
import unittest
from pathlib import Path

from circles import Crate, circles

A = "pub struct A;\n"


class Circles(unittest.TestCase):
    # The files of a crate, and those that are in a circle.
    CASES = [
        ("one way", {"a.rs": A, "b.rs": "use crate::a::A;\npub struct B(A);\n"}, []),
        ("both ways",
         {"a.rs": "use super::b::B;\npub struct A(B);\n", "b.rs": "pub struct B(crate::a::A);\n"},
         ["a", "b"]),
        ("a child and its parent",
         {"m/mod.rs": "mod c;\nuse c::f;\npub struct M;\nfn g() { f() }\n",
          "m/c.rs": "use super::M;\npub fn f() { M }\n"},
         ["m", "m/c"]),
        ("through a re-export",
         {"m/mod.rs": "mod c;\nmod d;\npub use d::{D, E as F};\n",
          "m/c.rs": "pub fn f(d: super::F) {}\n", "m/d.rs": "use super::c;\npub struct D;\n"
          "pub struct E;\nfn g() { c::f(E) }\n"},
         ["m/c", "m/d"]),
        ("a re-export alone",
         {"m/mod.rs": "mod c;\npub use c::C;\npub struct M;\n",
          "m/c.rs": "pub struct C(super::M);\n"},
         []),
        ("in tests only",
         {"a.rs": A + "#[cfg(test)]\nmod tests {\n    use crate::b::B;\n}\n",
          "b.rs": "use crate::a::A;\npub struct B(A);\n"},
         []),
        ("in a comment only", {"a.rs": A + "// crate::b::B\n", "b.rs": "use crate::a::A;\n"}, []),
    ]

    def test_cases(self):
        for name, files, expected in self.CASES:
            with self.subTest(name), tempfile.TemporaryDirectory() as folder:
                for path, text in files.items():
                    file = Path(folder) / path
                    file.parent.mkdir(exist_ok=True)
                    file.write_text(text)
                found = circles(Crate(folder).edges())
                self.assertEqual(sorted("/".join(m) for group in found for m in group), expected)


if __name__ == "__main__":
    unittest.main()
