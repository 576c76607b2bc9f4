#!/usr/bin/env python3
"""What examples/bench_worker.rs does, with ONNX Runtime on a plain export of make_plain_export.py.

onnx_worker.py EXPORT CONTEXT THREADS
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime


class Worker:
    def __init__(self, export: Path, threads: int):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(export / "model.onnx", options)
        config = json.loads((export / "config.json").read_text())
        self.vocabulary = config["vocab_size"]
        heads = config["num_key_value_heads"]
        self.empty = np.zeros(
            (1, heads, 0, config["hidden_size"] // config["num_attention_heads"]), np.float32
        )
        self.past_names = [
            put.name for put in self.session.get_inputs() if put.name.startswith("past")
        ]
        self.outputs = [put.name for put in self.session.get_outputs()]
        self.clear()

    def clear(self) -> None:
        self.past = {
            name: onnxruntime.OrtValue.ortvalue_from_numpy(self.empty) for name in self.past_names
        }
        self.length = 0

    def feed(self, ids: list) -> int:
        """Returns the most likely next token. The cache goes from output to input without a copy
        of ours.
        """
        end = self.length + len(ids)
        inputs = {
            "input_ids": np.array([ids], np.int64),
            "attention_mask": np.ones((1, end), np.int64),
            "position_ids": np.arange(self.length, end, dtype=np.int64)[None],
        }
        values = {name: onnxruntime.OrtValue.ortvalue_from_numpy(x) for name, x in inputs.items()}
        found = self.session.run_with_ort_values(self.outputs, values | self.past)
        found = dict(zip(self.outputs, found))
        self.past = {
            name: found[name.replace("past_key_values", "present")] for name in self.past_names
        }
        self.length = end
        return int(found["logits"].numpy()[0, -1].argmax())

    def fill(self, context: int) -> int:
        return self.feed([(i * 7919 + 13) % self.vocabulary for i in range(self.length, context)])

    def prefill(self, tokens: int) -> float:
        self.clear()
        start = time.perf_counter()
        self.fill(tokens)
        return start

    def decode(self, context: int, tokens: int) -> float:
        self.clear()
        token = self.fill(context)
        start = time.perf_counter()
        for _ in range(tokens):
            token = self.feed([token])
        return start


def answer(start: float) -> None:
    print(time.perf_counter() - start, flush=True)


def main() -> None:
    export, _, threads = sys.argv[1:]
    start = time.perf_counter()
    worker = Worker(Path(export), int(threads))
    answer(start)
    for line in sys.stdin:
        command, *sizes = line.split()
        answer({"prefill": worker.prefill, "decode": worker.decode}[command](*map(int, sizes)))


if __name__ == "__main__":
    main()
