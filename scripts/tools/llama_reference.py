#!/usr/bin/env python3
"""What llama.cpp itself computes, as JSON: the numbers ours are compared with.

    llama_reference.py perplexity MODEL.gguf --text perplexity.txt > perplexity.json
    llama_reference.py greedy MODEL.gguf --prompts prompts.json > greedy.json
    llama_reference.py cosines MODEL.gguf --floats F32.gguf --prompts prompts.json

Runs in the environment that `scripts/setup reference` builds, which takes about 10 minutes. So the
outputs that tests compare with are committed, in tests/data/llama-cpp.
"""

import argparse
import ctypes
import hashlib
import json
import re
import struct
import sys
from pathlib import Path

import llama_cpp
import numpy as np

WINDOW = 512  # tokens of a perplexity window
GREEDY_TOKENS = 48


class Llama:
    """A model and a context on llama.cpp's C API."""

    def __init__(self, path: str, threads: int, context: int = 4096, batch: int = 512):
        # Keep the callback: llama.cpp calls it for as long as the process lives.
        self.quiet = llama_cpp.llama_log_callback(lambda *_: None)
        llama_cpp.llama_log_set(self.quiet, None)
        parameters = llama_cpp.llama_context_default_params()
        parameters.n_ctx = context
        parameters.n_batch = parameters.n_ubatch = batch
        parameters.n_threads = parameters.n_threads_batch = threads
        model_parameters = llama_cpp.llama_model_default_params()
        # Weights as they are in the file: the repacked ones round otherwise on every kind of CPU,
        # and those for AMX crash on some virtual machines.
        model_parameters.use_extra_bufts = False
        self.model = llama_cpp.llama_model_load_from_file(path.encode(), model_parameters)
        if not self.model:
            sys.exit(f"{path} could not be loaded")
        self.vocab = llama_cpp.llama_model_get_vocab(self.model)
        self.vocabulary = llama_cpp.llama_vocab_n_tokens(self.vocab)
        # What the model wants to see before every text.
        adds = llama_cpp.llama_vocab_get_add_bos(self.vocab)
        self.bos = [llama_cpp.llama_vocab_bos(self.vocab)] if adds else []
        self.context = llama_cpp.llama_init_from_model(self.model, parameters)
        self.batch = llama_cpp.llama_batch_init(batch, 0, 1)
        self.clear()

    def clear(self) -> None:
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.context), True)
        self.position = 0

    def tokenize(self, text: str, special: bool) -> list:
        data = text.encode()
        ids = (llama_cpp.llama_token * (len(data) + 8))()
        count = llama_cpp.llama_tokenize(self.vocab, data, len(data), ids, len(ids), False, special)
        if count < 0:
            sys.exit("the text does not fit the buffer")
        return list(ids[:count])

    def piece(self, token: int) -> bytes:
        buffer = ctypes.create_string_buffer(256)
        count = llama_cpp.llama_token_to_piece(self.vocab, token, buffer, len(buffer), 0, True)
        return buffer.raw[:count]

    def feed(self, ids: list, every_row: bool = False) -> np.ndarray:
        """Logits of the last token, or of every token, as float64 rows."""
        self.batch.n_tokens = len(ids)
        for i, token in enumerate(ids):
            self.batch.token[i] = token
            self.batch.pos[i] = self.position + i
            self.batch.n_seq_id[i] = 1
            self.batch.seq_id[i][0] = 0
            self.batch.logits[i] = every_row or i + 1 == len(ids)
        if llama_cpp.llama_decode(self.context, self.batch) != 0:
            sys.exit("llama_decode failed")
        self.position += len(ids)
        rows = len(ids) if every_row else 1
        logits = llama_cpp.llama_get_logits(self.context)
        shape = (rows, self.vocabulary)
        return np.ctypeslib.as_array(logits, shape=shape).astype(np.float64)


def perplexity(options) -> dict:
    """The text in whole windows, each from an empty cache; a window's first token is not scored.

    Where the model wants a BOS before a text, each window begins with it.
    """
    llama = Llama(options.model, options.threads)
    ids = llama.tokenize(Path(options.text).read_text(encoding="utf-8"), special=False)
    own = WINDOW - len(llama.bos)
    windows = [llama.bos + ids[i : i + own] for i in range(0, len(ids) - own + 1, own)]
    nll = []
    for window in windows:
        llama.clear()
        # One by one: the rows of a large vocabulary take a gigabyte.
        for row, token in zip(llama.feed(window, every_row=True), window[1:]):
            top = row.max()
            nll.append(np.log(np.exp(row - top).sum()) + top - row[token])
        print(f"{len(nll)} tokens: {np.exp(np.mean(nll)):.4f}", file=sys.stderr)
    ids = sum(windows, [])
    return {
        "text": Path(options.text).name,
        "text_sha256": file_sha256(options.text),
        "tokens": len(ids),
        "tokens_sha256": hashlib.sha256(struct.pack(f"<{len(ids)}I", *ids)).hexdigest(),
        "window": WINDOW,
        "scored": len(nll),
        "perplexity": round(float(np.exp(np.mean(nll))), 5),
    }


def greedy(options) -> dict:
    """The most likely token at each step, and by how much its logit leads the second.

    `noise` is the largest change of such a lead when llama.cpp computes the same tokens in one
    batch instead of one by one: a lead under it is a tie, also for llama.cpp itself.
    """
    llama = Llama(options.model, options.threads)
    prompts = [greedy_one(llama, prompt) for prompt in json.load(open(options.prompts))]
    noise = max(batch_noise(llama, prompt) for prompt in prompts)
    return {"tokens": GREEDY_TOKENS, "noise": round(noise, 4), "prompts": prompts}


def batch_noise(llama: Llama, prompt: dict) -> float:
    llama.clear()
    logits = llama.feed(prompt["prompt_ids"] + prompt["ids"], every_row=True)
    rows = logits[len(prompt["prompt_ids"]) - 1 : -1]
    steps = np.arange(len(prompt["ids"]))
    best = rows[steps, prompt["ids"]]
    rows[steps, prompt["ids"]] = -np.inf
    return float(np.abs(best - rows.max(axis=1) - prompt["gaps"]).max())


def greedy_one(llama: Llama, prompt: str) -> dict:
    ids = llama.bos + llama.tokenize(prompt, special=True)
    written, gaps, text = [], [], b""
    llama.clear()
    logits = llama.feed(ids)
    while len(written) < GREEDY_TOKENS:
        second, best = np.argpartition(logits[0], -2)[-2:]
        if logits[0][second] > logits[0][best]:
            second, best = best, second
        written.append(int(best))
        gaps.append(round(float(logits[0][best] - logits[0][second]), 4))
        text += llama.piece(int(best))
        if llama_cpp.llama_vocab_is_eog(llama.vocab, int(best)):
            break
        logits = llama.feed([int(best)])
    print(f"{prompt[:30]!r} -> {text[:60]!r}", file=sys.stderr)
    return {
        "prompt": prompt,
        "prompt_ids": ids,
        "ids": written,
        "gaps": gaps,
        "text": text.decode(errors="replace"),
    }


def cosines(options) -> dict:
    """What 8-bit activations change: examples/compare_activations.rs for llama.cpp."""
    quantised, floats = (Llama(path, options.threads) for path in (options.model, options.floats))
    found, all_of_them = [], []
    for prompt in json.load(open(options.prompts)):
        ids = quantised.tokenize(prompt, special=True)
        rows = []
        for llama in (quantised, floats):
            llama.clear()
            rows.append(llama.feed(ids, every_row=True))
        norms = [np.linalg.norm(row, axis=1) for row in rows]
        cosine = (rows[0] * rows[1]).sum(axis=1) / (norms[0] * norms[1])
        all_of_them.extend(cosine)
        found.append({"prompt": prompt, "cosines": [round(float(one), 4) for one in cosine]})
    return {"median": round(float(np.median(all_of_them)), 5), "prompts": found}


def file_sha256(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    actions = parser.add_subparsers(dest="action", required=True)
    for action in (perplexity, greedy, cosines):
        one = actions.add_parser(action.__name__)
        one.set_defaults(run=action)
        one.add_argument("model")
        one.add_argument("--threads", type=int, default=1)
    actions.choices["perplexity"].add_argument("--text", required=True)
    for action in ("greedy", "cosines"):
        actions.choices[action].add_argument("--prompts", required=True)
    actions.choices["cosines"].add_argument("--floats", required=True)
    options = parser.parse_args()
    result = {
        "made_by": f"llama-cpp-python {llama_cpp.__version__}, built with GGML_NATIVE=ON",
        "model": Path(options.model).name,
        "model_sha256": file_sha256(options.model),
        **options.run(options),
    }
    text = json.dumps(result, indent=1, ensure_ascii=False)
    # A list of numbers on one line.
    print(re.sub(r"\[[-\d.,\s]*\]", lambda list: re.sub(r"\s+", " ", list[0]), text))


if __name__ == "__main__":
    main()
