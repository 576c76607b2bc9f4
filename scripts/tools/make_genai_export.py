#!/usr/bin/env python3
"""Tiny random models of transformers, exported to ONNX by onnxruntime-genai's model builder, and
what ONNX Runtime answers on the files: for the tests of exports as people make them.

make_genai_export.py OUT [NAME...]      a folder for each row of EXPORTS

Needs the packages of genai_export.txt and PyTorch for CPUs: on Debian, the package python3-torch in
a virtual environment that sees the system's packages.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import onnxruntime
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

VOCABULARY = 272
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,
    "bos_token_id": 1,
    "eos_token_id": 0,
    "pad_token_id": 0,
}
LONGROPE = {
    "type": "su",
    "short_factor": [1 + at / 20 for at in range(8)],
    "long_factor": [1 + at / 2 for at in range(8)],
}
PHI3_LONG = {"rope_scaling": LONGROPE, "original_max_position_embeddings": 32}
# Transformers' class, precision, and what the configuration has besides the sizes.
EXPORTS = {
    "llama-int4": ("Llama", "int4", {}),
    "llama-fp32": ("Llama", "fp32", {}),
    "qwen2-int4": ("Qwen2", "int4", {}),
    "gemma-int4": ("Gemma", "int4", {"head_dim": 16, "hidden_activation": "gelu_pytorch_tanh"}),
    "phi3-int4": ("Phi3", "int4", {"original_max_position_embeddings": 64}),
    "phi3-long": ("Phi3", "int4", PHI3_LONG),
}
PROMPT = [(7 + 37 * i) % VOCABULARY for i in range(24)]


def model(kind: str, more: dict, folder: Path) -> None:
    torch.manual_seed(1)
    config = getattr(transformers, f"{kind}Config")(**SIZES | more)
    getattr(transformers, f"{kind}ForCausalLM")(config).save_pretrained(folder)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({c: 2 + i for i, c in enumerate(alphabet)}, []))
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    own = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    own.save_pretrained(folder)


def answer(path: Path) -> list:
    """The logits of the last two positions."""
    session = onnxruntime.InferenceSession(path)
    feeds = {
        "input_ids": np.array([PROMPT], np.int64),
        "attention_mask": np.ones((1, len(PROMPT)), np.int64),
        "position_ids": np.arange(len(PROMPT))[None],
    }
    known = {}
    for put in session.get_inputs():
        empty = [put.shape[1], 0, put.shape[3]] if put.name not in feeds else None
        known[put.name] = np.zeros([1, *empty], np.float32) if empty else feeds[put.name]
    logits = session.run(["logits"], known)[0]
    return [[round(float(value), 5) for value in row] for row in logits[0, -2:]]


def main(out: Path, names: list) -> None:
    for name in names or EXPORTS:
        kind, precision, more = EXPORTS[name]
        target = out / name
        with tempfile.TemporaryDirectory() as temporary:
            source, export = Path(temporary, "model"), Path(temporary, "export")
            model(kind, more, source)
            builder = [sys.executable, "-m", "onnxruntime_genai.models.builder", "-m", "tiny"]
            options = ["-p", precision, "-e", "cpu", "-c", str(Path(temporary, "cache"))]
            options += ["--extra_options", "int4_block_size=32"]
            subprocess.run([*builder, "-i", source, "-o", export, *options], check=True)
            shutil.rmtree(target, ignore_errors=True)
            target.mkdir(parents=True)
            for file in ["model.onnx", "model.onnx.data", "genai_config.json"]:
                shutil.copy(export / file, target / file)
        found = {
            "onnxruntime": onnxruntime.__version__,
            "prompt": PROMPT,
            "logits": answer(target / "model.onnx"),
        }
        (target / "answer.json").write_text(json.dumps(found) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
