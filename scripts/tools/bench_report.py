"""docs/performance.md from the results of bench.py. The prose is in performance.md beside this."""

import statistics
import textwrap
from pathlib import Path
from string import Template

NAMES = {
    "smollm2-q4_0": "SmolLM2-135M Q4_0",
    "smollm2": "SmolLM2-135M Q4_1",
    "smollm2-q8_0": "SmolLM2-135M Q8_0",
    "qwen-0.5b": "Qwen2.5-Coder-0.5B Q4_K_M",
    "smollm2-f32": "SmolLM2-135M F32",
}
# The format that llama.cpp has its fastest kernels for: the bars are about it.
FAIR = "smollm2-q4_0"


def write_report(results: dict, document: Path) -> None:
    rows = Rows(results["rows"])
    template = Template(Path(__file__).with_name("performance.md").read_text())
    document.write_text(
        template.substitute(
            machine=describe(results),
            llama_version=pinned("reference", "llama-cpp-python"),
            onnxruntime_version=pinned("onnxruntime", "onnxruntime"),
            bars=bars_table(rows),
            decode=compared(rows, "decode", "context"),
            prefill=compared(rows, "prefill", "tokens"),
            bandwidth=bandwidth_table(rows),
            memory=memory_table(rows),
            start=start_table(rows),
            drafts=drafts_table(rows),
            bits=bits_table(rows),
            onnx_decode=compared(rows, "onnx decode", "context", "ONNX Runtime"),
            onnx_prefill=compared(rows, "onnx prefill", "tokens", "ONNX Runtime"),
        )
    )
    print(document.read_text())
    print(last_line(rows))


def pinned(environment: str, package: str) -> str:
    """The version that scripts/setup installs."""
    for line in Path(__file__).with_name(f"{environment}.txt").read_text().splitlines():
        name, _, version = line.partition("==")
        if name == package:
            return version
    raise SystemExit(f"{environment}.txt does not pin {package}")


class Rows:
    def __init__(self, rows: dict):
        self.rows = rows

    def of(self, part: str) -> list:
        order = ["", *NAMES]
        found = [row for row in self.rows.values() if row["part"] == part]
        return sorted(
            found, key=lambda row: (row["threads"], order.index(row["model"]), row["size"])
        )

    def one(self, part: str, threads=1, size="", model=FAIR) -> dict:
        try:
            return self.rows[f"{part}/{model}/{threads}/{size}"]
        except KeyError:
            raise SystemExit(
                f"{part} was not measured yet: scripts/bench {part.split()[-1]}"
            ) from None

    def ratio(self, part: str, threads: int, size) -> float:
        return statistics.median(ratios(self.one(part, threads, size)))

    def short_decode(self, threads: int) -> float:
        return min(self.ratio("decode", threads, size) for size in (32, 256))

    def limit(self, threads: int) -> float:
        return statistics.median(self.one("bandwidth", threads, model="")["machine"])

    def share(self, row: dict) -> float:
        """Of the read bandwidth, by reading the weights once per token."""
        return statistics.median(row["ours"]) * row["read"] / 1e9 / self.limit(row["threads"])

    def rss_over_bar(self, row: dict) -> float:
        """Peak memory over what the bar is a factor of: weights, cache and 30 MB."""
        return statistics.median(row["ours"]) * 1e6 / (row["weights"] + row["cache"] + 30e6)


def ratios(row: dict, other="llama.cpp", ours="ours") -> list:
    return [ours / theirs for ours, theirs in zip(row[ours], row[other])]


def spread(values: list, digits=2) -> str:
    middle, low, high = (f"{of(values):.{digits}f}" for of in (statistics.median, min, max))
    return f"{middle} ({low} to {high})"


def describe(results: dict) -> str:
    machine, rows = results["machine"], results["rows"].values()
    others = [row["others"] for row in rows if "others" in row]
    days = sorted(row["at"][:10] for row in rows)
    when = days[0] if days[0] == days[-1] else f"{days[0]} to {days[-1]}"
    kind = "virtual machine" if machine["virtual"] else "machine"
    return textwrap.fill(
        f"The machine: {machine['cpu']}, a {kind} with {machine['cores']} cores "
        f"({', '.join(machine['features'])}), {machine['system']}; {when}. Meanwhile other "
        f"programs used {100 * min(others):.1f} to {100 * max(others):.1f} % "
        f"of the cores' time; what the host's other guests did is not known.",
        width=100,
    )


def table(head: list, rows: list) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def compared(rows: Rows, part: str, size: str, other="llama.cpp") -> str:
    """`size`: what the rows' sizes are, the head of their column."""
    lines = [
        [
            NAMES[row["model"]],
            str(row["threads"]),
            str(row["size"]),
            f"{statistics.median(row['ours']):.1f}",
            f"{statistics.median(row[other]):.1f}",
            spread(ratios(row, other)),
        ]
        for row in rows.of(part)
    ]
    head = ["model", "threads", size, "ours, tok/s", f"{other}, tok/s", "ratio: median (range)"]
    return table(head, lines)


def bandwidth_table(rows: Rows) -> str:
    limits = [
        f"{row['threads']} thread{'s' * (row['threads'] > 1)}: {spread(row['machine'], 1)} GB/s"
        for row in rows.of("bandwidth")
    ]
    lines = [
        [
            NAMES[row["model"]],
            str(row["threads"]),
            f"{row['read'] / 1e6:.1f}",
            f"{statistics.median(row['ours']) * row['read'] / 1e9:.1f}",
            f"{100 * rows.share(row):.0f} %",
        ]
        for row in rows.of("decode")
        if row["size"] == 32
    ]
    head = ["model", "threads", "weights read, MB", "read, GB/s", "of the bandwidth"]
    return f"Read bandwidth with {'; '.join(limits)}.\n\n{table(head, lines)}"


def memory_table(rows: Rows) -> str:
    lines = [
        [
            NAMES[row["model"]],
            f"{row['weights'] / 1e6:.1f} + {row['cache'] / 1e6:.1f}",
            spread(row["ours"], 0),
            spread(row["llama.cpp"], 0),
            f"{rows.rss_over_bar(row):.2f}",
        ]
        for row in rows.of("memory")
    ]
    head = ["model", "weights + cache, MB", "peak, MB: ours", "llama.cpp", "ours / bound"]
    return table(head, lines)


def start_table(rows: Rows) -> str:
    lines = [
        [NAMES[row["model"]], *(spread(row[who]) for who in ("ours", "unhashed", "llama.cpp"))]
        for row in rows.of("open")
    ]
    return table(["model", "open, s: ours", "not hashed", "llama.cpp"], lines)


def drafts_table(rows: Rows) -> str:
    lines = [
        [
            NAMES[row["model"]],
            row["size"],
            f"{statistics.median(row['without']):.1f}",
            f"{statistics.median(row['with']):.1f}",
            spread(ratios(row, "without", "with")),
        ]
        for row in rows.of("drafts")
    ]
    return table(
        ["model", "text", "without, tok/s", "with drafts, tok/s", "ratio: median (range)"], lines
    )


def bits_table(rows: Rows) -> str:
    lines = [
        [
            NAMES[row["model"]],
            *(f"{size / 1e6:.1f}" for size in row["weights"]),
            f"{statistics.median(row['as packed']):.1f}",
            f"{statistics.median(row['4 bits']):.1f}",
            spread(ratios(row, "as packed", "4 bits")),
        ]
        for row in rows.of("bits")
    ]
    head = [
        "model",
        "weights, MB",
        "with `--bits 4`",
        "tok/s",
        "with `--bits 4`",
        "ratio: median (range)",
    ]
    return table(head, lines)


def figures(rows: Rows) -> dict:
    """The last line's, by name: what was measured, and the bar with its direction."""
    fair = {
        name: rows.ratio("prefill", 1, size)
        for name, size in (("prefill_128", 128), ("prefill_512", 512))
    }
    memory = rows.one("memory", size=512)
    return {
        "decode_1t": (rows.short_decode(1), "at least", 1.2),
        "decode_2t": (rows.short_decode(2), "at least", 1.25),
        "decode_2000": (rows.ratio("decode", 1, 2000), "at least", 1.6),
        "prefill_128": (fair["prefill_128"], "at least", 2.2),
        "prefill_512": (fair["prefill_512"], "at least", 2.0),
        "rss": (statistics.median(ratios(memory)), None, None),
        "bandwidth_share": (rows.share(rows.one("decode", 1, 32)), "at least", 0.8),
        "open_s": (statistics.median(rows.one("open")["ours"]), "at most", 0.3),
    }


def bars_table(rows: Rows) -> str:
    found = figures(rows)
    peak = rows.rss_over_bar(rows.one("memory", size=512))
    found["peak / (weights + cache + 30 MB)"] = (peak, "at most", 1.1)
    lines = []
    for name, (value, direction, bar) in found.items():
        if direction:
            met = value >= bar if direction == "at least" else value <= bar
            lines.append(
                [name, f"{value:.2f}", f"{direction} {bar}", "met" if met else "**missed**"]
            )
    return table(["", "measured", "bar", ""], lines)


def last_line(rows: Rows) -> str:
    return " ".join(f"{name}={value:.2f}" for name, (value, _, _) in figures(rows).items())
