#!/usr/bin/env python3
"""Tiny random models of transformers, exported to ONNX by optimum, and what ONNX Runtime answers on
the files: for the tests of exports as people make them.

make_optimum_export.py OUT [FAMILY...]      a folder for each family

Needs the packages of optimum_export.txt and PyTorch for CPUs: on Debian, the package python3-torch
in a virtual environment that sees the system's packages.
"""

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import onnxruntime
import torch
import transformers
from optimum.exporters.onnx import main_export

VOCABULARY = 272
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,
    "bos_token_id": 1,
    "eos_token_id": 0,
    "pad_token_id": 0,
}
GROUPED = {"num_key_value_heads": 2}
# Names of transformers' classes, and what their configuration has besides the sizes.
FAMILIES = {
    "llama": ("Llama", GROUPED | {"rope_scaling": {"type": "linear", "factor": 2.0}}),
    "qwen2": ("Qwen2", GROUPED | {"tie_word_embeddings": True}),
    "mistral": ("Mistral", GROUPED | {"sliding_window": None}),
    "gemma": ("Gemma", GROUPED | {"head_dim": 8, "tie_word_embeddings": True}),
    "phi": ("Phi", {}),
    "phi3": ("Phi3", GROUPED),
    "gpt_neox": ("GPTNeoX", {}),
    "gpt2": ("GPT2", {}),
}
PROMPT = [(7 + 37 * i) % VOCABULARY for i in range(24)]


def model(family: str, folder: Path) -> None:
    name, more = FAMILIES[family]
    torch.manual_seed(1)
    config = getattr(transformers, f"{name}Config")(**SIZES | more)
    kind = "GPT2LMHeadModel" if family == "gpt2" else f"{name}ForCausalLM"
    getattr(transformers, kind)(config).save_pretrained(folder)


def answer(path: Path) -> list:
    """The logits of the last two positions."""
    session = onnxruntime.InferenceSession(path)
    feeds = {}
    for put in session.get_inputs():
        match put.name.split(".")[0]:
            case "input_ids":
                feeds[put.name] = np.array([PROMPT], np.int64)
            case "attention_mask":
                feeds[put.name] = np.ones((1, len(PROMPT)), np.int64)
            case "position_ids":
                feeds[put.name] = np.arange(len(PROMPT))[None]
            case _:
                shape = [put.shape[1], 0, put.shape[3]]
                feeds[put.name] = np.zeros([1, *shape], np.float32)
    logits = session.run(["logits"], feeds)[0]
    return [[round(float(value), 5) for value in row] for row in logits[0, -2:]]


def main(out: Path, families: list) -> None:
    for family in families or FAMILIES:
        target = out / family
        with tempfile.TemporaryDirectory() as temporary:
            source, export = Path(temporary, "model"), Path(temporary, "export")
            model(family, source)
            main_export(
                str(source),
                output=str(export),
                task="text-generation-with-past",
                library_name="transformers",
                framework="pt",
                do_validation=False,
            )
            shutil.rmtree(target, ignore_errors=True)
            target.mkdir(parents=True)
            for name in ["model.onnx", "config.json", "generation_config.json"]:
                shutil.copy(export / name, target / name)
        found = {
            "onnxruntime": onnxruntime.__version__,
            "prompt": PROMPT,
            "logits": answer(target / "model.onnx"),
        }
        (target / "answer.json").write_text(json.dumps(found) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
