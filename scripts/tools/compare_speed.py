#!/usr/bin/env python3
"""Runs `hybrid bench` and llama.cpp in turns and prints the ratios; see scripts/compare-speed.

    compare_speed.py ROUNDS THREADS HYBRID BUNDLE PYTHON_WITH_LLAMA_CPP MODEL.gguf
"""

import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path

PROMPT, TOKENS = 128, 64


def main() -> None:
    rounds, threads, hybrid, bundle, python, gguf = sys.argv[1:]
    reference = Path(__file__).with_name("llama_reference.py")
    sizes = ["--prompt-tokens", str(PROMPT), "--tokens", str(TOKENS), "--threads", threads]
    ours = [hybrid, "bench", bundle, *sizes]
    theirs = [python, reference, "speed", gguf, *sizes]
    count = "1 thread" if threads == "1" else f"{threads} threads"
    print(f"{Path(gguf).name}, {count}, {cpu()}, load {os.getloadavg()[0]:.1f} at the start")
    results = {"prefill_tok_s": [], "decode_tok_s": []}
    for number in range(int(rounds)):
        # Every other round in the other order, so that neither always has the warmer machine.
        order = (ours, theirs) if number % 2 == 0 else (theirs, ours)
        speeds = {id(command): measure(command) for command in order}
        for name, pairs in results.items():
            pairs.append((speeds[id(ours)][name], speeds[id(theirs)][name]))
    for name, pairs in results.items():
        report(name, pairs)


def measure(command: list) -> dict:
    result = subprocess.run(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, check=True)
    return json.loads(result.stdout)


def report(name: str, pairs: list) -> None:
    ratios = sorted(ours / theirs for ours, theirs in pairs)
    low, middle, high = ratios[0], statistics.median(ratios), ratios[-1]
    ours, theirs = (statistics.median(column) for column in zip(*pairs))
    what = f"prefill of {PROMPT}" if name.startswith("prefill") else f"decode of {TOKENS}"
    print(
        f"  {what:<16} ours {ours:7.1f} tok/s, llama.cpp {theirs:7.1f} tok/s; "
        f"ratio {middle:.2f} (median of {len(pairs)}; {low:.2f} to {high:.2f})"
    )


def cpu() -> str:
    for line in open("/proc/cpuinfo"):
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


if __name__ == "__main__":
    main()
