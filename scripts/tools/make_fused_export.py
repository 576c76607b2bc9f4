#!/usr/bin/env python3
"""Writes tiny random ONNX exports with fused operators, and what ONNX Runtime answers.

    make_fused_export.py OUT [KIND...]

OUT gets a directory for each kind of export: `genai` as onnxruntime-genai's model builder writes
them (int4 with zero points, one matrix for q, k and v, RoPE inside the attention, genai_config.json
only), `separate` (8 bits, biases, separate RoPE and norms, a quantised embedding), `tied` (norms of
heads, an embedding that is the output's matrix, capped logits), `opset23` (ONNX's own operators,
float weights), and `longrope` (tables for a long context, a layer without RoPE). Each has
answer.json: the prompt's ids and the logits of the last two positions. Everything is seeded. Runs
in an environment with the packages of fused_export.txt.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

LAYERS, HIDDEN, HEADS, KV_HEADS, HEAD_DIM, FFN, VOCABULARY, CONTEXT = 2, 64, 4, 2, 16, 96, 272, 64
BASE, EPSILON = 10_000.0, 1e-5
PROMPT = [(i * 37 + 5) % 258 for i in range(24)]
MICROSOFT = "com.microsoft"


class Graph:
    """Nodes and initializers as they are added."""

    def __init__(self, seed: int):
        self.random = np.random.default_rng(seed)
        self.nodes, self.constants = [], []

    def add(self, op: str, inputs: list, domain="", outputs=1, **attributes):
        name = f"n{len(self.nodes)}"
        names = [f"{name}.{i}" for i in range(outputs)] if isinstance(outputs, int) else outputs
        node = helper.make_node(op, inputs, names, f"{op}.{name}", domain=domain, **attributes)
        self.nodes.append(node)
        return names[0] if len(names) == 1 else names

    def constant(self, name: str, values: np.ndarray) -> str:
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def normal(self, *shape, scale=0.3) -> np.ndarray:
        return self.random.normal(0, scale, shape).astype(np.float32)

    def gamma(self, name: str) -> str:
        return self.constant(name, 1 + self.normal(HIDDEN))

    def caches(self, dim: int) -> list:
        frequencies = BASE ** (-np.arange(0, dim, 2, np.float64) / dim)
        angles = np.outer(np.arange(CONTEXT), frequencies)
        values = {"cos_cache": np.cos(angles), "sin_cache": np.sin(angles)}
        return [self.constant(name, each.astype(np.float32)) for name, each in values.items()]

    def quantised(self, name: str, x: str, rows: int, cols: int, bits: int, zeros: bool) -> str:
        block = 32
        blocks = cols // block
        codes = self.random.integers(0, 1 << bits, (rows, blocks, block)).astype(np.uint8)
        scale = 4.0 / (1 << bits)
        scales = self.random.uniform(0.05 * scale, 0.2 * scale, (rows, blocks)).astype(np.float32)
        inputs = [
            x,
            self.constant(f"{name}.weight_Q{bits}", packed(codes, bits)),
            self.constant(f"{name}.weight_scales", scales),
        ]
        if zeros:
            points = self.random.integers(4, 12, (rows, blocks)).astype(np.uint8)
            inputs.append(self.constant(f"{name}.weight_zp", packed(points, bits)))
        sizes = {"K": cols, "N": rows, "bits": bits, "block_size": block}
        return self.add("MatMulNBits", inputs, MICROSOFT, **sizes)


def packed(codes: np.ndarray, bits: int) -> np.ndarray:
    """Codes of 4 bits in pairs, the first one low."""
    if bits == 8:
        return codes
    return codes[..., 0::2] | codes[..., 1::2] << 4


def genai() -> Graph:
    graph = Graph(1)
    embedding = graph.constant("model.embed_tokens.weight", graph.normal(VOCABULARY, HIDDEN))
    x = graph.add("Gather", [embedding, "input_ids"])
    counts = lengths(graph)
    caches = graph.caches(HEAD_DIM)
    norm = graph.add("SimplifiedLayerNormalization", [x, graph.gamma("norm.0")], epsilon=EPSILON)
    for i in range(LAYERS):
        name = f"model.layers.{i}"
        rows = (HEADS + 2 * KV_HEADS) * HEAD_DIM
        qkv = graph.quantised(f"{name}.attn.qkv_proj", norm, rows, HIDDEN, 4, True)
        past = [f"past_key_values.{i}.{part}" for part in ("key", "value")]
        present = [f"present.{i}.{part}" for part in ("key", "value")]
        attention, *_ = graph.add(
            "GroupQueryAttention",
            [qkv, "", "", *past, *counts, *caches],
            MICROSOFT,
            [f"{name}.attention", *present],
            num_heads=HEADS,
            kv_num_heads=KV_HEADS,
            do_rotary=1,
        )
        out = graph.quantised(f"{name}.attn.o_proj", attention, HIDDEN, HEADS * HEAD_DIM, 4, True)
        norm, x = skip_norm(graph, x, out, f"{name}.ffn_norm")
        gate = graph.quantised(f"{name}.gate_proj", norm, FFN, HIDDEN, 4, True)
        up = graph.quantised(f"{name}.up_proj", norm, FFN, HIDDEN, 4, True)
        act = graph.add("Mul", [gate, graph.add("Sigmoid", [gate])])
        down = graph.add("Mul", [act, up])
        down = graph.quantised(f"{name}.down_proj", down, HIDDEN, FFN, 4, True)
        norm, x = skip_norm(graph, x, down, f"norm.{i + 1}")
    head = graph.quantised("lm_head", norm, VOCABULARY, HIDDEN, 4, False)
    graph.add("Identity", [head], outputs=["logits"])
    return graph


def longrope() -> Graph:
    """As the model builder writes a long context: tables of cosines and sines that an `If` chooses
    from. The last layer turns nothing."""
    graph = Graph(5)
    embedding = graph.constant("model.embed_tokens.weight", graph.normal(VOCABULARY, HIDDEN))
    x = graph.add("Gather", [embedding, "input_ids"])
    counts = lengths(graph)
    short, long = (graph.random.uniform(1, most, HEAD_DIM // 2) for most in (1.5, 6))
    limit = graph.constant("original", np.array(CONTEXT // 2, np.int32))
    branches = {
        "then_branch": tables("long", long, CONTEXT),
        "else_branch": tables("short", short, CONTEXT // 2),
    }
    caches = ["cos_cache", "sin_cache"]
    graph.add("If", [graph.add("Greater", [counts[1], limit])], outputs=caches, **branches)
    norm = graph.add("SimplifiedLayerNormalization", [x, graph.gamma("norm.0")], epsilon=EPSILON)
    for i in range(LAYERS):
        name = f"model.layers.{i}"
        turned = i + 1 < LAYERS
        rows = (HEADS + 2 * KV_HEADS) * HEAD_DIM
        qkv = graph.quantised(f"{name}.attn.qkv_proj", norm, rows, HIDDEN, 4, True)
        past = [f"past_key_values.{i}.{part}" for part in ("key", "value")]
        present = [f"present.{i}.{part}" for part in ("key", "value")]
        attention, *_ = graph.add(
            "GroupQueryAttention",
            [qkv, "", "", *past, *counts, *(caches if turned else [])],
            MICROSOFT,
            [f"{name}.attention", *present],
            num_heads=HEADS,
            kv_num_heads=KV_HEADS,
            do_rotary=int(turned),
        )
        out = graph.quantised(f"{name}.attn.o_proj", attention, HIDDEN, HEADS * HEAD_DIM, 4, True)
        norm, x = skip_norm(graph, x, out, f"{name}.ffn_norm")
        gate = graph.quantised(f"{name}.gate_proj", norm, FFN, HIDDEN, 4, True)
        up = graph.quantised(f"{name}.up_proj", norm, FFN, HIDDEN, 4, True)
        act = graph.add("Mul", [gate, graph.add("Sigmoid", [gate])])
        down = graph.add("Mul", [act, up])
        down = graph.quantised(f"{name}.down_proj", down, HIDDEN, FFN, 4, True)
        norm, x = skip_norm(graph, x, down, f"norm.{i + 1}")
    head = graph.quantised("lm_head", norm, VOCABULARY, HIDDEN, 4, False)
    graph.add("Identity", [head], outputs=["logits"])
    return graph


def tables(name: str, factors: np.ndarray, positions: int) -> onnx.GraphProto:
    """A branch that gives cosines and sines, all of them 1.2 times as long."""
    frequencies = BASE ** (-np.arange(0, HEAD_DIM, 2, np.float64) / HEAD_DIM) / factors
    angles = np.outer(np.arange(positions), frequencies)
    nodes, outputs = [], []
    for part, values in (("cos", np.cos(angles)), ("sin", np.sin(angles))):
        tensor = numpy_helper.from_array((1.2 * values).astype(np.float32))
        output = f"{name}_{part}"
        nodes.append(helper.make_node("Constant", [], [output], output, value=tensor))
        outputs.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, angles.shape))
    return helper.make_graph(nodes, name, [], outputs)


def skip_norm(graph: Graph, x: str, y: str, name: str) -> tuple:
    inputs = [x, y, graph.gamma(name)]
    names = [f"{name}.out", "", "", f"{name}.sum"]
    graph.add("SkipSimplifiedLayerNormalization", inputs, MICROSOFT, names, epsilon=EPSILON)
    return names[0], names[3]


def separate() -> Graph:
    graph = Graph(2)
    codes = graph.random.integers(0, 16, (VOCABULARY, HIDDEN)).astype(np.uint8)
    scales = graph.random.uniform(0.05, 0.2, (VOCABULARY, HIDDEN // 32)).astype(np.float32)
    points = np.full((VOCABULARY, HIDDEN // 32), 7, np.uint8)
    inputs = [
        graph.constant("model.embed_tokens.weight_Q4", packed(codes, 4)),
        "input_ids",
        graph.constant("model.embed_tokens.weight_scales", scales),
        graph.constant("model.embed_tokens.weight_zp", packed(points, 4)),
    ]
    where = {"gather_axis": 0, "quantize_axis": 1, "block_size": 32, "bits": 4}
    x = graph.add("GatherBlockQuantized", inputs, MICROSOFT, **where)
    counts = lengths(graph)
    rotated = HEAD_DIM // 2
    caches = graph.caches(rotated)
    for i in range(LAYERS):
        name = f"model.layers.{i}"
        norm = graph.add(
            "SimplifiedLayerNormalization", [x, graph.gamma(f"{name}.norm")], epsilon=EPSILON
        )
        parts = []
        for part, heads in (("q", HEADS), ("k", KV_HEADS), ("v", KV_HEADS)):
            rows = heads * HEAD_DIM
            y = graph.quantised(f"{name}.{part}_proj", norm, rows, HIDDEN, 8, False)
            y = graph.add("Add", [y, graph.constant(f"{name}.{part}.bias", graph.normal(rows))])
            if part != "v":
                y = graph.add(
                    "RotaryEmbedding",
                    [y, "position_ids", *caches],
                    MICROSOFT,
                    num_heads=heads,
                    rotary_embedding_dim=rotated,
                )
            parts.append(y)
        past = [f"past_key_values.{i}.{part}" for part in ("key", "value")]
        present = [f"present.{i}.{part}" for part in ("key", "value")]
        attention, *_ = graph.add(
            "GroupQueryAttention",
            [*parts, *past, *counts],
            MICROSOFT,
            [f"{name}.attention", *present],
            num_heads=HEADS,
            kv_num_heads=KV_HEADS,
        )
        out = graph.quantised(f"{name}.o_proj", attention, HIDDEN, HEADS * HEAD_DIM, 8, False)
        x = graph.add("Add", [x, out])
        norm = graph.add(
            "SimplifiedLayerNormalization", [x, graph.gamma(f"{name}.ffn")], epsilon=EPSILON
        )
        # Down is 4 bits, so that files that mix bits are there, too.
        up = graph.quantised(f"{name}.up_proj", norm, FFN, HIDDEN, 8, True)
        gate = graph.quantised(f"{name}.gate_proj", norm, FFN, HIDDEN, 8, False)
        act = graph.add("QuickGelu", [gate], MICROSOFT, alpha=1.0)
        down = graph.quantised(
            f"{name}.down_proj", graph.add("Mul", [up, act]), HIDDEN, FFN, 4, False
        )
        x = graph.add("Add", [down, x])
    norm = graph.add("SimplifiedLayerNormalization", [x, graph.gamma("norm")], epsilon=EPSILON)
    head = graph.constant("lm_head.weight", graph.normal(HIDDEN, VOCABULARY))
    graph.add("MatMul", [norm, head], outputs=["logits"])
    return graph


def lengths(graph: Graph) -> list:
    one = graph.constant("one", np.array([1], np.int64))
    before = graph.add("Sub", [graph.add("ReduceSum", ["attention_mask", one]), one])
    shape = graph.add("Shape", ["attention_mask"])
    total = graph.add("Gather", [shape, graph.constant("at_one", np.array(1, np.int64))])
    return [graph.add("Cast", [value], to=TensorProto.INT32) for value in (before, total)]


def tied() -> Graph:
    graph = Graph(4)
    shape = graph.constant("flat", np.array([VOCABULARY, HIDDEN // 2], np.int64))
    head = [f"lm_head.weight_{part}" for part in ("Q4", "scales", "zp")]
    flat = graph.add("Reshape", [head[0], shape])
    where = {"gather_axis": 0, "quantize_axis": 1, "block_size": 32, "bits": 4}
    x = graph.add("GatherBlockQuantized", [flat, "input_ids", *head[1:]], MICROSOFT, **where)
    counts = lengths(graph)
    caches = graph.caches(HEAD_DIM)
    norm = graph.add("SimplifiedLayerNormalization", [x, graph.gamma("norm.0")], epsilon=EPSILON)
    for i in range(LAYERS):
        name = f"model.layers.{i}"
        parts = []
        for part, heads in (("q", HEADS), ("k", KV_HEADS), ("v", KV_HEADS)):
            y = graph.quantised(f"{name}.{part}_proj", norm, heads * HEAD_DIM, HIDDEN, 4, True)
            if part != "v":
                each = graph.constant(f"{name}.{part}.in", np.array([0, -1, HEAD_DIM], np.int64))
                y = graph.add("Reshape", [y, each])
                gamma = graph.constant(f"{name}.{part}.norm", 1 + graph.normal(HEAD_DIM))
                y = graph.add("SimplifiedLayerNormalization", [y, gamma], epsilon=EPSILON)
                rows = np.array([0, -1, heads * HEAD_DIM], np.int64)
                y = graph.add("Reshape", [y, graph.constant(f"{name}.{part}.out", rows)])
            parts.append(y)
        past = [f"past_key_values.{i}.{part}" for part in ("key", "value")]
        present = [f"present.{i}.{part}" for part in ("key", "value")]
        attention, *_ = graph.add(
            "GroupQueryAttention",
            [*parts, *past, *counts, *caches],
            MICROSOFT,
            [f"{name}.attention", *present],
            num_heads=HEADS,
            kv_num_heads=KV_HEADS,
            do_rotary=1,
        )
        out = graph.quantised(f"{name}.o_proj", attention, HIDDEN, HEADS * HEAD_DIM, 4, True)
        norm, x = skip_norm(graph, x, out, f"{name}.ffn_norm")
        both = graph.quantised(f"{name}.gate_up", norm, 2 * FFN, HIDDEN, 4, True)
        sizes = graph.constant(f"{name}.sizes", np.array([FFN, FFN], np.int64))
        gate, up = graph.add("Split", [both, sizes], outputs=2, axis=-1)
        act = graph.add("Mul", [gate, graph.add("Sigmoid", [gate])])
        down = graph.add("Mul", [act, up])
        down = graph.quantised(f"{name}.down_proj", down, HIDDEN, FFN, 4, True)
        norm, x = skip_norm(graph, x, down, f"norm.{i + 1}")
    logits = graph.quantised("lm_head", norm, VOCABULARY, HIDDEN, 4, True)
    cap = graph.constant("cap", np.array(8.0, np.float32))
    tanh = graph.add("Tanh", [graph.add("Div", [logits, cap])])
    graph.add("Mul", [tanh, cap], outputs=["logits"])
    return graph


def opset23() -> Graph:
    graph = Graph(3)
    embedding = graph.constant("embed", graph.normal(VOCABULARY, HIDDEN, scale=0.5))
    x = graph.add("Gather", [embedding, "input_ids"])
    caches = graph.caches(HEAD_DIM)

    def matmul(name: str, x: str, rows: int, cols: int) -> str:
        return graph.add("MatMul", [x, graph.constant(name, graph.normal(cols, rows, scale=0.15))])

    for i in range(LAYERS):
        norm = graph.add("RMSNormalization", [x, graph.gamma(f"{i}.norm")], epsilon=EPSILON)
        parts = []
        for part, heads in (("q", HEADS), ("k", KV_HEADS), ("v", KV_HEADS)):
            y = matmul(f"{i}.{part}", norm, heads * HEAD_DIM, HIDDEN)
            if part != "v":
                y = graph.add("RotaryEmbedding", [y, *caches, "position_ids"], num_heads=heads)
            parts.append(y)
        attention, *_ = graph.add(
            "Attention",
            [*parts, "", *[f"past_key_values.{i}.{part}" for part in ("key", "value")]],
            outputs=[f"{i}.attention", *[f"present.{i}.{part}" for part in ("key", "value")]],
            q_num_heads=HEADS,
            kv_num_heads=KV_HEADS,
            is_causal=1,
        )
        x = graph.add("Add", [x, matmul(f"{i}.o", attention, HIDDEN, HEADS * HEAD_DIM)])
        norm = graph.add("RMSNormalization", [x, graph.gamma(f"{i}.ffn")], epsilon=EPSILON)
        both = matmul(f"{i}.gate_up", norm, 2 * FFN, HIDDEN)
        gate, up = graph.add("Split", [both], outputs=2, axis=-1, num_outputs=2)
        act = graph.add("Mul", [gate, graph.add("Sigmoid", [gate])])
        down = matmul(f"{i}.down", graph.add("Mul", [act, up]), HIDDEN, FFN)
        x = graph.add("Add", [x, down])
    norm = graph.add("RMSNormalization", [x, graph.gamma("norm")], epsilon=EPSILON)
    head = graph.add("Transpose", [embedding], perm=[1, 0])
    graph.add("MatMul", [norm, head], outputs=["logits"])
    return graph


def model(graph: Graph) -> onnx.ModelProto:
    tensor = helper.make_tensor_value_info
    used = {name for node in graph.nodes for name in node.input}
    ids = [n for n in ("input_ids", "attention_mask", "position_ids") if n in used]
    inputs = [tensor(name, TensorProto.INT64, ["batch", "tokens"]) for name in ids]
    outputs = [tensor("logits", TensorProto.FLOAT, ["batch", "tokens", VOCABULARY])]
    for i in range(LAYERS):
        for part in ("key", "value"):
            shape = ["batch", KV_HEADS, "past", HEAD_DIM]
            inputs.append(tensor(f"past_key_values.{i}.{part}", TensorProto.FLOAT, shape))
            outputs.append(tensor(f"present.{i}.{part}", TensorProto.FLOAT, shape))
    proto = helper.make_graph(graph.nodes, "main", inputs, outputs, graph.constants)
    opsets = [helper.make_opsetid("", 23), helper.make_opsetid(MICROSOFT, 1)]
    return helper.make_model(proto, opset_imports=opsets, ir_version=11)


def answer(path: Path) -> dict:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    known = {entry.name for entry in session.get_inputs()}
    feed = {
        "input_ids": np.array([PROMPT], np.int64),
        "attention_mask": np.ones((1, len(PROMPT)), np.int64),
        "position_ids": np.arange(len(PROMPT), dtype=np.int64)[None],
    }
    for i in range(LAYERS):
        for part in ("key", "value"):
            empty = np.zeros((1, KV_HEADS, 0, HEAD_DIM), np.float32)
            feed[f"past_key_values.{i}.{part}"] = empty
    (logits,) = session.run(["logits"], {k: v for k, v in feed.items() if k in known})
    rows = [[round(float(value), 5) for value in row] for row in logits[0][-2:]]
    version = onnxruntime.__version__
    return {"onnxruntime": version, "prompt": PROMPT, "logits": rows}


def config(kind: str) -> tuple:
    if kind in ("genai", "longrope"):
        decoder = {
            "filename": "model.onnx",
            "head_size": HEAD_DIM,
            "hidden_size": HIDDEN,
            "num_attention_heads": HEADS,
            "num_hidden_layers": LAYERS,
            "num_key_value_heads": KV_HEADS,
        }
        family = {"genai": "llama", "longrope": "phi3"}[kind]
        about = {"type": family, "vocab_size": VOCABULARY, "context_length": CONTEXT}
        about |= {"bos_token_id": 256, "eos_token_id": [257], "decoder": decoder}
        return "genai_config.json", {"model": about}
    sizes = {
        "num_hidden_layers": LAYERS,
        "hidden_size": HIDDEN,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "head_dim": HEAD_DIM,
        "max_position_embeddings": CONTEXT,
        "rope_theta": BASE,
        "vocab_size": VOCABULARY,
        "model_type": "qwen2",
    }
    rest = {"model_type": "some_model", "eos_token_id": 257}
    return "config.json", {**rest, "text_config": sizes} if kind == "opset23" else sizes | {
        "eos_token_id": 257
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("kinds", nargs="*")
    arguments = parser.parse_args()
    for kind in (genai, separate, tied, opset23, longrope):
        if arguments.kinds and kind.__name__ not in arguments.kinds:
            continue
        out = arguments.out
        folder = out / kind.__name__
        folder.mkdir(parents=True, exist_ok=True)
        # "separate" is only there in a quantised form, as on model hubs.
        path = folder / ("model_q4.onnx" if kind is separate else "model.onnx")
        proto = model(kind())
        onnx.checker.check_model(proto) if kind is opset23 else None
        external = {"save_as_external_data": kind is genai, "location": "model.onnx.data"}
        data = folder / "model.onnx.data"
        data.unlink(missing_ok=True)
        onnx.save(proto, path, size_threshold=256, **external)
        name, value = config(kind.__name__)
        (folder / name).write_text(json.dumps(value, indent=1) + "\n")
        (folder / "answer.json").write_text(json.dumps(answer(path)) + "\n")


main()
