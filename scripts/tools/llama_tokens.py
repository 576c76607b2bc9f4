#!/usr/bin/env python3
"""How llama.cpp tokenises, as JSON: the ids that the packed tokenizer's are compared with.

    llama_tokens.py MODEL.gguf --texts token-texts.json [--pre NAME] > tokens.json
    llama_tokens.py spm-vocabulary.json --texts token-texts.json [--runs] > tokens.json

The output has two lists of ids for each text: with the texts of control tokens recognised, and
with them as plain text. `--pre` has the same vocabulary split in another way (the metadata
`tokenizer.ggml.pre`). A JSON file is a SentencePiece vocabulary: text, score and type of each
token, put into a model of almost no size. `--runs` adds what Gemma has: runs of white space as
user-defined tokens of one score, and no space in front of a text; and unused tokens. Runs in the
environment that `scripts/setup` builds for the cloud server.
"""

import argparse
import http.client
import json
import os
import struct
import tempfile

import gguf
import numpy as np
import xllamacpp

PRE_KEY = b"tokenizer.ggml.pre"
STRING = 8  # GGUF's number of the type
ALIGNMENT = 32


def with_pre(path: str, name: str) -> str:
    """A copy of the model with another `tokenizer.ggml.pre`, as a temporary file."""
    data = open(path, "rb").read()
    begin = data.index(PRE_KEY + struct.pack("<I", STRING)) + len(PRE_KEY) + 4
    (length,) = struct.unpack_from("<Q", data, begin)
    end = begin + 8 + length
    # Tensors lie behind the head at an aligned place, so only a multiple may be inserted. The
    # remainder goes into a description, a key that changes nothing.
    value = struct.pack("<Q", len(name)) + name.encode()
    key = b"general.description"
    filler_head = 8 + len(key) + 4 + 8
    grown = len(value) + filler_head - (end - begin)
    filler = b" " * (-grown % ALIGNMENT)
    pair = struct.pack("<Q", len(key)) + key + struct.pack("<IQ", STRING, len(filler)) + filler
    (pairs,) = struct.unpack_from("<Q", data, 16)
    head = data[:16] + struct.pack("<Q", pairs + 1) + data[24:begin]
    out = tempfile.NamedTemporaryFile(suffix=".gguf", delete=False)
    out.write(head + value + pair + data[end:])
    out.close()
    return out.name


# Text, score and type of what `--runs` adds.
RUNS = [[white * length, 0.0, 4] for white in ("\u2581", "\n") for length in range(2, 8)]
UNUSED = [["\u2581the\u2581", 0.5, 5], ["qu\u0416", -3.0, 5], ["\u0416", -3.0, 5]]


def with_vocabulary(path: str, runs: bool) -> str:
    """A model with a SentencePiece vocabulary, as a temporary file."""
    rows = json.load(open(path, encoding="utf-8"))
    if runs:
        known = {text for text, _, _ in rows}
        rows += [row for row in UNUSED + RUNS if row[0] not in known]
    texts, scores, types = zip(*rows)

    def fill(writer: gguf.GGUFWriter) -> None:
        writer.add_tokenizer_model("llama")
        writer.add_token_list(texts)
        writer.add_token_scores(scores)
        writer.add_token_types(types)
        writer.add_bos_token_id(1)
        writer.add_eos_token_id(2)
        writer.add_unk_token_id(0)
        writer.add_add_space_prefix(not runs)

    out = tempfile.NamedTemporaryFile(suffix=".gguf", delete=False).name
    write_model(out, (len(texts), fill))
    return out


def write_model(path, vocabulary: tuple) -> None:
    """The smallest model that llama.cpp loads. The vocabulary: its length and what writes it."""
    tokens, fill = vocabulary
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_context_length(256)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(32)
    writer.add_head_count(1)
    writer.add_layer_norm_rms_eps(1e-5)
    fill(writer)
    layer = ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"]
    for name in layer:
        writer.add_tensor(f"blk.0.{name}.weight", np.zeros((32, 32), np.float32))
    for name in ["blk.0.attn_norm", "blk.0.ffn_norm", "output_norm"]:
        writer.add_tensor(f"{name}.weight", np.ones(32, np.float32))
    writer.add_tensor("token_embd.weight", np.zeros((tokens, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def start(path: str) -> xllamacpp.Server:
    parameters = xllamacpp.CommonParams()
    parameters.model.path = path
    parameters.n_ctx = 256
    parameters.warmup = False
    parameters.cpuparams.n_threads = 1
    return xllamacpp.Server(parameters)


def tokenize(server: http.client.HTTPConnection, text: str, special: bool, whole=False) -> list:
    """`special`: texts of control tokens are recognised. `whole`: as a prompt, with `bos`."""
    body = {"content": text, "parse_special": special, "add_special": whole}
    server.request("POST", "/tokenize", json.dumps(body), {"Content-Type": "application/json"})
    return json.load(server.getresponse())["tokens"]


def ask(path: str, texts: list, specials: tuple) -> dict:
    """The ids of each text and those of an empty prompt. The process must end by `leave`."""
    running.append(start(path))
    server = http.client.HTTPConnection(running[-1].listening_address.removeprefix("http://"))
    rows = [[tokenize(server, text, special) for special in specials] for text in texts]
    return {"empty": tokenize(server, "", True, whole=True), "rows": rows}


running = []


def leave(answer: str) -> None:
    """A server has no way to stop its threads that returns."""
    print(answer, flush=True)
    os._exit(0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--texts", required=True)
    parser.add_argument("--pre")
    parser.add_argument("--runs", action="store_true")
    options = parser.parse_args()
    path = options.model
    if options.pre:
        path = with_pre(path, options.pre)
    elif path.endswith(".json"):
        path = with_vocabulary(path, options.runs)
    texts = json.load(open(options.texts, encoding="utf-8"))
    try:
        rows = ask(path, texts, (True, False))["rows"]
    finally:
        if path != options.model:
            os.unlink(path)
    leave("[\n" + ",\n".join(json.dumps(row, separators=(",", ":")) for row in rows) + "\n]")


if __name__ == "__main__":
    main()
