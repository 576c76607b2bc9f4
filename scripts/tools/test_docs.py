#!/usr/bin/env python3
"""The checks of documents, on documents with known faults; and pages that are made of figures."""

import re
import tempfile
import unittest
from pathlib import Path

import bench_report
import docs
import docs_c
import docs_links
import docs_site
import picture
import quality_page

DOCS = docs.ROOT / "docs"

GUIDE = """# A guide

## Bursts, and `hand-back`

[there](#bursts-and-hand-back) [twice](#again-1) [out](https://example.com/x) `[no](link.md)`

    [code](nowhere.md)

```c
[code](nowhere.md)
```

## Again
## Again
"""


class Links(unittest.TestCase):
    def test_links_that_lead_nowhere(self):
        rows = {
            "[a](guide.md)": 0,
            "[a](guide.md#again)": 0,
            "[a](../README.md)": 0,
            "[a](guide.md#gone)": 1,
            "[a](gone.md) and [b](../gone.rs)": 2,
            "![a](gone.svg)": 1,
            "[a](.)": 1,
        }
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            (root / "docs").mkdir()
            (root / "README.md").write_text("# Read me\n")
            (root / "docs/guide.md").write_text(GUIDE)
            self.assertEqual(docs_links.faults(root, ["docs/guide.md"]), [])
            for text, faults in rows.items():
                (root / "docs/page.md").write_text(text)
                self.assertEqual(len(docs_links.faults(root, ["docs/page.md"])), faults, text)

    def test_links_of_the_site_hold_at_their_new_place(self):
        rewritten = docs_site.rewritten
        rows = [
            ("docs/SUMMARY.md", "[a](../README.md)", "SUMMARY.md", "[a](index.md)"),
            ("docs/SUMMARY.md", "[a](guide.md)", "SUMMARY.md", "[a](docs/guide.md)"),
            ("docs/a.md", "[a](../heads/README.md#x)", "docs/a.md", "[a](../heads/index.md#x)"),
            ("docs/a.md", "[a](site:c/index.html)", "docs/a.md", "[a](../c/index.html)"),
            ("a.md", "[a](#x) [b](https://x.y)", "a.md", "[a](#x) [b](https://x.y)"),
        ]
        for document, text, place, want in rows:
            self.assertEqual(rewritten(document, text, place), want)

    def test_pages_that_lead_nowhere(self):
        with tempfile.TemporaryDirectory() as folder:
            site = Path(folder)
            (site / "b.html").write_text('<h1 id="here"></h1>')
            (site / "a.html").write_text(
                '<a href="b.html#here"><a href="b.html#gone"><img src="gone.svg"><a href="#x">'
                '<a href="https://example.com/gone">'
            )
            self.assertEqual(len(docs_site.faults(site)), 3)

    def test_long_lines(self):
        text = f"{'ä' * 100}\n{'a' * 101}\n| {'a' * 96} |\n| {'a' * 97} |\n"
        self.assertEqual(len(docs.long_lines("a.md", text)), 2)


class Blocks(unittest.TestCase):
    def test_blocks_that_do_not_compile(self):
        rows = {
            '#include "hybrid.h"\nint main(void) { return HYBRID_OK; }\n': True,
            "hybrid_session_free(session);\n": True,
            "hybrid_session_fre(session);\n": False,
            "status = hybrid_session_free;\n": False,
            "int x = \n": False,
        }
        for code, compiles in rows.items():
            fault = docs_c.compile_block((docs.ROOT, "a.md:1", code))
            self.assertEqual(not fault, compiles, f"{code}{fault}")

    def test_names_that_the_header_does_not_have(self):
        text = "`hybrid_step` `hybrid_step(session)` `HYBRID_DATA`\n`HYBRID_GONE` `hybrid_gone()`\n"
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            (root / "include").mkdir()
            (root / "include/hybrid.h").write_text("int hybrid_step(void);\n")
            (root / "a.md").write_text(text)
            found = [fault.split()[1] for fault in docs_c.unknown_names(root, "a.md")]
            self.assertEqual(found, ["HYBRID_GONE", "hybrid_gone"])

    def test_a_program_that_is_shown_is_the_file(self):
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            (root / "include").mkdir()
            (root / "include/hybrid.h").write_text("int hybrid_step(void);\n")
            (root / "a.c").write_text("int x;\n")
            (root / "a.md").write_text("text\n\n```c a.c\nint y;\n```\nmore\n")
            self.assertIn("a.c differs", docs_c.faults(root, ["a.md"])[0])
            docs_c.write(root, ["a.md"])
            self.assertEqual((root / "a.md").read_text(), "text\n\n```c a.c\nint x;\n```\nmore\n")


class Figures(unittest.TestCase):
    def test_the_picture_is_made_of_the_recording(self):
        recorded = (DOCS / "demo.ansi").read_text(encoding="utf-8")
        self.assertEqual(picture.recording(recorded), recorded)
        again = "docs/demo.svg is stale: python3 scripts/tools/picture.py docs/demo.ansi docs"
        self.assertEqual(
            (DOCS / "demo.svg").read_text(encoding="utf-8"), picture.svg(recorded), again
        )
        text, _ = picture.body(recorded)
        written = {style for line in picture.spans(text) for style, _ in line}
        self.assertEqual(written, {"slm", "cloud"})

    def test_the_page_is_made_of_the_committed_figures(self):
        page, charts = quality_page.made(DOCS / "quality")
        again = "docs/quality.md is stale: python3 scripts/tools/quality_page.py docs"
        self.assertEqual((DOCS / "quality.md").read_text(encoding="utf-8"), page, again)
        for name, text in charts.items():
            self.assertEqual(
                (DOCS / f"quality/{name}.svg").read_text(encoding="utf-8"), text, again
            )

    def test_the_page_of_measurements_has_the_prose_of_its_template(self):
        page = (DOCS / "performance.md").read_text(encoding="utf-8")
        template = (docs.ROOT / "scripts/tools/performance.md").read_text(encoding="utf-8")
        place = 0
        for prose in re.split(r"\$\w+", template):
            place = page.find(prose, place)
            self.assertGreaterEqual(place, 0, f"docs/performance.md lacks:\n{prose}")
            place += len(prose)

    def test_the_page_of_measurements_has_the_tables_that_are_made(self):
        page = (DOCS / "performance.md").read_text(encoding="utf-8")
        measured = dict.fromkeys(
            ["ours", "llama.cpp", "ONNX Runtime", "with", "without", "as packed", "4 bits"],
            [1234.5, 1234.5],
        )
        measured |= {"model": "qwen-0.5b", "threads": 1, "weights": 491e6, "cache": 11e6}
        rows = {}
        for part in ["decode", "prefill", "onnx decode", "memory", "open", "drafts", "bits"]:
            rows[part] = {**measured, "part": part, "size": "2000"}
        rows["bits"]["weights"] = [491e6, 309e6]
        rows["open"] |= dict.fromkeys(["ours", "unhashed", "llama.cpp"], [1.5, 1.5])
        made = bench_report.Rows(rows)
        tables = [
            bench_report.compared(made, "decode", "context"),
            bench_report.compared(made, "prefill", "tokens"),
            bench_report.compared(made, "onnx decode", "context", "ONNX Runtime"),
            bench_report.memory_table(made),
            bench_report.start_table(made),
            bench_report.drafts_table(made),
            bench_report.bits_table(made),
        ]
        for table in tables:
            head, rule, row = table.splitlines()
            self.assertEqual(len({line.count("|") for line in (head, rule, row)}), 1)
            self.assertIn(f"{head}\n{rule}\n", page)
            self.assertEqual(docs.long_lines("performance.md", table), [])

    def test_the_readme_has_rows_of_the_page(self):
        page = (DOCS / "quality.md").read_text(encoding="utf-8")
        readme = (docs.ROOT / "README.md").read_text(encoding="utf-8")
        rows = [line for line in readme.splitlines() if line.startswith("|") and " of 150 " in line]
        self.assertEqual(len(rows), 4)
        for row in rows:
            self.assertIn(row + "\n", page)


if __name__ == "__main__":
    unittest.main()
