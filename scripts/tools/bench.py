#!/usr/bin/env python3
"""Measures what scripts/bench promises and writes docs/performance.md; see there."""

import argparse
import json
import os
import platform
import statistics
import subprocess
import time
from pathlib import Path

from bench_report import FAIR, write_report

CONTEXTS = (32, 256, 1024, 2000)
PROMPTS = (128, 512)
THREADS = (1, 2)
DECODED = 32  # tokens per round
ONNX_CONTEXTS = (32, 256)
MEMORY_CONTEXT = 512  # filled to the last token
DRAFT = 7
# Of the texts in `bench_texts`, with the temperature and how many tokens are generated: one that
# repeats its prompt, one that answers a question, one that never repeats itself.
DRAFTED = {"rewrite": (0, 128), "question": (0, 128), "story": (1, 128)}
DRAFTED_CONTEXT = 1024
BITS_CONTEXT = 32


class Worker:
    """A process that measures on command: examples/bench_worker.rs says how."""

    def __init__(self, *command):
        words = [str(word) for word in command]
        self.process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        self.open_seconds = self.answer()

    def answer(self) -> float:
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.process.args[0]} ended with status {self.process.wait()}")
        return float(line)

    def ask(self, *command) -> float:
        print(*command, file=self.process.stdin, flush=True)
        return self.answer()

    def peak_bytes(self) -> int:
        for line in open(f"/proc/{self.process.pid}/status"):
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) << 10
        raise SystemExit("the system does not say how much memory a process had")

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Bench:
    def __init__(self, options):
        self.rounds = options.rounds
        self.models = {name: (bundle, gguf) for name, bundle, gguf in options.model}
        self.small = {name: bundles for name, *bundles in options.bits}
        self.onnx_files = options.onnx
        self.python = options.python
        self.target = options.target
        self.file = options.target / "bench/results.json"
        self.results = json.loads(self.file.read_text()) if self.file.exists() else {"rows": {}}
        self.results["machine"] = machine()

    def ours(self, bundle, context, threads, *how):
        return Worker(self.target / "release/examples/bench_worker", bundle, context, threads, *how)

    def theirs(self, gguf, context, threads):
        return Worker(self.target / "bench/llama_worker", gguf, context, threads)

    def keep(self, part, model, threads, size, unit, values, **more):
        """Takes the place of an earlier measurement of the same. `values`: lists of one value per round."""
        row = {"part": part, "model": model, "threads": threads, "size": size, "unit": unit}
        row |= values | more | {"at": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())}
        self.results["rows"][f"{part}/{model}/{threads}/{size}"] = row
        self.measured.append(row)
        self.save()
        shown = "; ".join(f"{who} {statistics.median(list):.4g}" for who, list in values.items())
        print(f"{part:10} {model:13} {threads} threads, {size}: {shown} {unit}", flush=True)

    def save(self) -> None:
        self.file.write_text(json.dumps(self.results, indent=1) + "\n")

    def in_turns(self, workers: dict, command: list, tokens: int) -> dict:
        """Tokens per second of each worker in every round."""
        return self.speeds({who: (worker, command) for who, worker in workers.items()}, tokens)

    def speeds(self, commands: dict, tokens: int) -> dict:
        """Tokens per second in every round, of a worker and its command each. Every other round in the other order,
        so that none always has the warmer machine."""
        speeds = {who: [] for who in commands}
        for number in range(self.rounds):
            order = list(commands.items())
            for who, (worker, command) in order if number % 2 == 0 else reversed(order):
                speeds[who].append(round(tokens / worker.ask(*command), 2))
        return speeds

    def measure(self, part: str) -> None:
        others, self.measured = Others(), []
        getattr(self, part)()
        for row in self.measured:
            row["others"] = others.share()
        self.save()

    # ---- The parts -----------------------------------------------------------------------------

    def bandwidth(self):
        program = self.target / "release/examples/read_bandwidth"
        for threads in THREADS:
            measure = lambda: float(subprocess.check_output([program, str(threads)]))
            self.keep("bandwidth", "", threads, "", "GB/s", {"machine": [measure() for _ in range(self.rounds)]})

    def memory(self):
        """A process of its own each time: opening with warm files, a full context, peak memory."""
        for name, (bundle, gguf) in self.models.items():
            opened, peaks = {"ours": [], "unhashed": [], "llama.cpp": []}, {"ours": [], "llama.cpp": []}
            for _ in range(self.rounds):
                with self.ours(bundle, MEMORY_CONTEXT, 1, "unhashed") as worker:
                    opened["unhashed"].append(round(worker.open_seconds, 4))
                for who, start in (("ours", lambda: self.ours(bundle, MEMORY_CONTEXT, 1)),
                                   ("llama.cpp", lambda: self.theirs(gguf, MEMORY_CONTEXT, 1))):
                    with start() as worker:
                        opened[who].append(round(worker.open_seconds, 4))
                        worker.ask("decode", MEMORY_CONTEXT - 2, 2)
                        peaks[who].append(round(worker.peak_bytes() / 1e6, 1))
            sizes = model_bytes(Path(bundle), MEMORY_CONTEXT)
            self.keep("open", name, 1, "", "s", opened)
            self.keep("memory", name, 1, MEMORY_CONTEXT, "MB", peaks, **sizes)

    def decode(self):
        for threads in THREADS:
            for name, (bundle, gguf) in self.models.items():
                context = CONTEXTS[-1] + DECODED
                with self.ours(bundle, context, threads) as ours, self.theirs(gguf, context, threads) as theirs:
                    for context in CONTEXTS:
                        command = ["decode", context, DECODED]
                        speeds = self.in_turns({"ours": ours, "llama.cpp": theirs}, command, DECODED)
                        sizes = model_bytes(Path(bundle), context)
                        self.keep("decode", name, threads, context, "tok/s", speeds, **sizes)

    def prefill(self):
        for threads in THREADS:
            for name, (bundle, gguf) in self.models.items():
                context = PROMPTS[-1]
                with self.ours(bundle, context, threads) as ours, self.theirs(gguf, context, threads) as theirs:
                    workers = {"ours": ours, "llama.cpp": theirs}
                    for worker in workers.values():
                        worker.ask("prefill", 8)  # pages the weights in
                    for tokens in PROMPTS:
                        speeds = self.in_turns(workers, ["prefill", tokens], tokens)
                        self.keep("prefill", name, threads, tokens, "tok/s", speeds)

    def drafts(self):
        """The worker makes sure that drafts change no token."""
        for name in [name for name in self.models if name != FAIR]:
            with self.ours(self.models[name][0], DRAFTED_CONTEXT, 1) as worker:
                for text, (temperature, tokens) in DRAFTED.items():
                    file = Path(__file__).parent / f"bench_texts/{text}.txt"
                    session = lambda draft: (worker, ["session", draft, temperature, tokens, file])
                    speeds = self.speeds({"without": session(0), "with": session(DRAFT)}, 1)
                    self.keep("drafts", name, 1, text, "tok/s", speeds)

    def bits(self):
        for name, (bundle, small) in self.small.items():
            context = BITS_CONTEXT + DECODED
            with self.ours(bundle, context, 1) as packed, self.ours(small, context, 1) as four:
                workers = {"as packed": packed, "4 bits": four}
                speeds = self.in_turns(workers, ["decode", BITS_CONTEXT, DECODED], DECODED)
            sizes = [model_bytes(Path(one), BITS_CONTEXT)["weights"] for one in (bundle, small)]
            self.keep("bits", name, 1, BITS_CONTEXT, "tok/s", speeds, weights=sizes)

    def onnx(self):
        bundle, export = self.onnx_files
        script = Path(__file__).with_name("onnx_worker.py")
        for threads in THREADS:
            context = PROMPTS[0] + ONNX_CONTEXTS[-1] + DECODED
            command = [self.python, script, export, context, threads]
            with self.ours(bundle, context, threads) as ours, Worker(*command) as theirs:
                workers = {"ours": ours, "ONNX Runtime": theirs}
                for context in ONNX_CONTEXTS:
                    speeds = self.in_turns(workers, ["decode", context, DECODED], DECODED)
                    self.keep("onnx decode", "smollm2-f32", threads, context, "tok/s", speeds)
                speeds = self.in_turns(workers, ["prefill", PROMPTS[0]], PROMPTS[0])
                self.keep("onnx prefill", "smollm2-f32", threads, PROMPTS[0], "tok/s", speeds)


def model_bytes(bundle: Path, context: int) -> dict:
    """Of all weights, of those that a token reads (an embedding that is not the output matrix, too, is looked up
    only), and of f16 keys and values of the context."""
    graph = (bundle / "graph.onnx").read_bytes()
    table, _ = json.JSONDecoder().raw_decode(graph[graph.index(b'[{"name":'):].decode(errors="replace"))
    sizes = {matrix["name"]: matrix["bytes"] for matrix in table}
    weights = sum(sizes.values())
    looked_up = sizes["token_embd.weight"] if "output.weight" in sizes else 0
    model = json.loads((bundle / "bundle.json").read_text())["model"]
    cache = 2 * 2 * model["layers"] * model["kv_heads"] * model["head_dim"] * context
    return {"weights": weights, "read": weights - looked_up, "cache": cache}


def machine() -> dict:
    info = {}
    for line in open("/proc/cpuinfo"):
        name, _, value = line.partition(":")
        info.setdefault(name.strip(), value.strip())
    flags = set(info.get("flags", info.get("Features", "")).split())
    known = ("avx2", "fma", "f16c", "avx512f", "avx512_vnni", "asimddp", "i8mm")
    return {
        "cpu": info.get("model name", platform.machine()),
        "cores": os.cpu_count(),
        "features": [flag for flag in known if flag in flags],
        "system": f"{platform.system()} {platform.machine()}",
        "virtual": "hypervisor" in flags,
    }


class Others:
    """The share of all cores' time that other programs use while a part runs."""

    def __init__(self):
        self.total, self.busy = self.times()
        self.ours = self.children()

    @staticmethod
    def times() -> tuple:
        fields = [int(field) / os.sysconf("SC_CLK_TCK") for field in open("/proc/stat").readline().split()[1:9]]
        return sum(fields), sum(fields) - fields[3] - fields[4]

    @staticmethod
    def children() -> float:
        times = os.times()
        return sum(times[:4])

    def share(self) -> float:
        """Once all processes of the part have ended."""
        total, busy = self.times()
        busy -= self.busy + self.children() - self.ours
        return round(max(busy, 0) / (total - self.total), 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--target", type=Path, required=True)
    parser.add_argument("--python", required=True, help="the one that has onnxruntime")
    parser.add_argument("--document", type=Path, required=True)
    parser.add_argument("--model", nargs=3, action="append", default=[], metavar=("NAME", "BUNDLE", "GGUF"))
    parser.add_argument("--bits", nargs=3, action="append", default=[], metavar=("NAME", "BUNDLE", "SMALL"))
    parser.add_argument("--onnx", nargs=2, metavar=("BUNDLE", "EXPORT"))
    parts = ["bandwidth", "memory", "decode", "prefill", "drafts", "bits", "onnx", "report"]
    parser.add_argument("parts", nargs="+", choices=parts)
    options = parser.parse_args()
    bench = Bench(options)
    for part in options.parts:
        if part == "report":
            write_report(bench.results, options.document)
        else:
            bench.measure(part)


if __name__ == "__main__":
    main()
