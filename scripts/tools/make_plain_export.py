#!/usr/bin/env python3
"""Writes a GGUF file of the llama or qwen2 family as a plain ONNX export with float weights.

    make_plain_export.py MODEL.gguf TOKENIZER.json OUT [--layers N]

OUT becomes a directory such as optimum writes: model.onnx with external data, the cache as inputs
and outputs, attention and norms decomposed into standard operators, config.json, and the given
tokenizer.json (that of a packed bundle of the same model). With --layers only the first N layers.
"""

import argparse
import json
import pathlib
import shutil

import gguf
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

# Initializers from this size on lie in the external file.
EXTERNAL_BYTES = 256
MASKED = np.float32(-3.4028235e38)


class Gguf:
    """Metadata and float tensors of a GGUF file."""

    def __init__(self, path):
        reader = gguf.GGUFReader(path)
        self.fields = reader.fields
        self.arch = self.field("general.architecture")
        self.tensors = {tensor.name: tensor for tensor in reader.tensors}

    def field(self, name, default=None):
        name = name.replace("{arch}", getattr(self, "arch", ""))
        found = self.fields.get(name)
        return default if found is None else found.contents()

    def has(self, name):
        return name in self.tensors

    def floats(self, name):
        tensor = self.tensors[name]
        return gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)


class Config:
    """The sizes, by their names in config.json."""

    def __init__(self, source, layers):
        self.arch = source.arch
        if self.arch not in ("llama", "qwen2"):
            raise SystemExit(f"architecture {self.arch} is not supported")
        self.layers = min(layers or 1 << 30, source.field("{arch}.block_count"))
        self.hidden = source.field("{arch}.embedding_length")
        self.heads = source.field("{arch}.attention.head_count")
        self.kv_heads = source.field("{arch}.attention.head_count_kv", self.heads)
        self.head_dim = source.field("{arch}.attention.key_length", self.hidden // self.heads)
        self.feed_forward = source.field("{arch}.feed_forward_length")
        self.context = source.field("{arch}.context_length")
        self.rope_base = source.field("{arch}.rope.freq_base", 10000.0)
        self.epsilon = source.field("{arch}.attention.layer_norm_rms_epsilon")
        self.vocabulary = len(source.field("tokenizer.ggml.tokens"))
        self.bos = source.field("tokenizer.ggml.bos_token_id")
        self.eos = source.field("tokenizer.ggml.eos_token_id")

    def json(self):
        return {
            "model_type": self.arch,
            "num_hidden_layers": self.layers,
            "hidden_size": self.hidden,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "intermediate_size": self.feed_forward,
            "max_position_embeddings": self.context,
            "rope_theta": self.rope_base,
            "rms_norm_eps": self.epsilon,
            "vocab_size": self.vocabulary,
            "bos_token_id": self.bos,
            "eos_token_id": self.eos,
        }


class Graph:
    """Nodes and initializers, each tensor named after the node that makes it."""

    def __init__(self):
        self.nodes = []
        self.initializers = {}

    def constant(self, value, name=None):
        value = np.asarray(value)
        if name is None:
            name = f"const.{value.dtype}.{'x'.join(map(str, value.shape))}.{value.tobytes().hex()}"
        self.initializers.setdefault(name, value)
        return name

    def ints(self, *values):
        return self.constant(np.array(values, np.int64))

    def scalar(self, value):
        return self.constant(np.array(value, np.float32))

    def op(self, kind, *inputs, name=None, **attributes):
        name = name or f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], name=f"/{name}", **attributes))
        return name

    def size(self, tensor, axis):
        """One dimension, as exporters write it: a slice of the shape at run time."""
        shape = self.op("Shape", tensor)
        return self.op("Gather", shape, self.ints(axis), axis=0)

    def reshape(self, x, *shape):
        """Numbers and names of one-element tensors."""
        parts = [part if isinstance(part, str) else self.ints(part) for part in shape]
        return self.op("Reshape", x, self.op("Concat", *parts, axis=0))


class Builder(Graph):
    def __init__(self, source, config):
        super().__init__()
        self.source = source
        self.config = config
        self.inputs = []
        self.outputs = []

    def build(self):
        c = self.config
        self.value(self.inputs, "input_ids", TensorProto.INT64, "batch_size", "sequence_length")
        all_tokens = "past_sequence_length + sequence_length"
        self.value(self.inputs, "attention_mask", TensorProto.INT64, "batch_size", all_tokens)
        self.value(self.inputs, "position_ids", TensorProto.INT64, "batch_size", "sequence_length")
        self.value(
            self.outputs, "logits", TensorProto.FLOAT, "batch_size", "sequence_length", c.vocabulary
        )
        embedding = self.constant(self.source.floats("token_embd.weight"), "token_embd.weight")
        x = self.op("Gather", embedding, "input_ids", axis=0)
        self.batch, self.tokens = self.size("input_ids", 0), self.size("input_ids", 1)
        cos_sin, mask = self.rope_tables(), None
        for layer in range(c.layers):
            past = self.cache("past_key_values", self.inputs, layer, "past_sequence_length")
            mask = mask or self.mask(past[0])
            self.cache("present", self.outputs, layer, all_tokens)
            x = self.layer(x, layer, past, cos_sin, mask)
        x = self.norm(x, "output_norm.weight")
        tied = not self.source.has("output.weight")
        output = self.source.floats("token_embd.weight" if tied else "output.weight")
        weight = self.constant(output.T.copy(), "output.weight")
        self.op("MatMul", x, weight, name="logits")

    def layer(self, x, layer, past, cos_sin, mask):
        name = f"blk.{layer}"
        normed = self.norm(x, f"{name}.attn_norm.weight")
        query = self.heads(
            self.linear(normed, f"{name}.attn_q", self.config.heads), self.config.heads
        )
        key = self.heads(
            self.linear(normed, f"{name}.attn_k", self.config.kv_heads), self.config.kv_heads
        )
        value = self.heads(self.linear(normed, f"{name}.attn_v"), self.config.kv_heads)
        query, key = self.rope(query, cos_sin), self.rope(key, cos_sin)
        key = self.op("Concat", past[0], key, name=f"present.{layer}.key", axis=2)
        value = self.op("Concat", past[1], value, name=f"present.{layer}.value", axis=2)
        attended = self.attention(query, self.repeat(key), self.repeat(value), mask)
        x = self.op("Add", x, self.linear(attended, f"{name}.attn_output"))
        normed = self.norm(x, f"{name}.ffn_norm.weight")
        gate, up = self.linear(normed, f"{name}.ffn_gate"), self.linear(normed, f"{name}.ffn_up")
        activated = self.op("Mul", self.op("Mul", gate, self.op("Sigmoid", gate)), up)
        return self.op("Add", x, self.linear(activated, f"{name}.ffn_down"))

    def norm(self, x, weight):
        mean = self.op("ReduceMean", self.op("Pow", x, self.scalar(2)), axes=[-1], keepdims=1)
        root = self.op("Sqrt", self.op("Add", mean, self.scalar(self.config.epsilon)))
        normed = self.op("Mul", x, self.op("Div", self.scalar(1), root))
        return self.op("Mul", self.constant(self.source.floats(weight), weight), normed)

    def linear(self, x, name, turned_heads=0):
        weight = self.turn_back(self.source.floats(f"{name}.weight"), turned_heads)
        x = self.op("MatMul", x, self.constant(weight.T.copy(), f"{name}.weight"))
        if not self.source.has(f"{name}.bias"):
            return x
        bias = self.turn_back(self.source.floats(f"{name}.bias"), turned_heads)
        return self.op("Add", self.constant(bias, f"{name}.bias"), x)

    def turn_back(self, rows, heads):
        """In llama files RoPE turns neighbouring rows of q and k; in exports it turns halves."""
        if self.config.arch != "llama" or not heads:
            return rows
        pairs = rows.reshape(heads, -1, 2, *rows.shape[1:])
        return pairs.swapaxes(1, 2).reshape(rows.shape)

    def heads(self, x, count):
        x = self.reshape(x, self.batch, self.tokens, count, self.config.head_dim)
        return self.op("Transpose", x, perm=[0, 2, 1, 3])

    def rope_tables(self):
        pairs = np.arange(0, self.config.head_dim, 2, dtype=np.float64) / self.config.head_dim
        frequencies = (1.0 / self.config.rope_base**pairs).astype(np.float32).reshape(1, -1, 1)
        frequencies = self.constant(frequencies, "model.rotary_emb.inv_freq")
        shape = self.op("Concat", self.batch, self.ints(1), self.ints(1), axis=0)
        expanded = self.op("Expand", frequencies, shape)
        positions = self.op("Unsqueeze", "position_ids", self.ints(1))
        positions = self.op("Cast", positions, to=TensorProto.FLOAT)
        angles = self.op("Transpose", self.op("MatMul", expanded, positions), perm=[0, 2, 1])
        angles = self.op("Concat", angles, angles, axis=-1)
        axis = self.ints(1)
        return [self.op("Unsqueeze", self.op(kind, angles), axis) for kind in ("Cos", "Sin")]

    def rope(self, x, cos_sin):
        half, end = self.config.head_dim // 2, np.iinfo(np.int64).max
        low = self.op("Slice", x, self.ints(0), self.ints(half), self.ints(3), self.ints(1))
        high = self.op("Slice", x, self.ints(half), self.ints(end), self.ints(3), self.ints(1))
        turned = self.op("Concat", self.op("Neg", high), low, axis=-1)
        return self.op("Add", self.op("Mul", x, cos_sin[0]), self.op("Mul", turned, cos_sin[1]))

    def mask(self, past_key):
        """[batch, 1, tokens, all tokens]: the most negative float where a token may not look."""
        past = self.size(past_key, 2)
        end = self.op("Add", past, self.tokens)
        start, stop, zero = (self.op("Squeeze", x, self.ints(0)) for x in (past, end, self.ints(0)))
        one = self.constant(np.array(1, np.int64))
        queries = self.reshape(self.op("Range", start, stop, one), -1, 1)
        later = self.op("Greater", self.op("Range", zero, stop, one), queries)
        later = self.op("Unsqueeze", later, self.ints(0, 1))
        padding = self.op("Unsqueeze", "attention_mask", self.ints(1, 2))
        padding = self.op("Equal", padding, self.ints(0))
        hidden = self.op("Or", later, padding)
        return self.op("Where", hidden, self.scalar(MASKED), self.scalar(0))

    def repeat(self, x):
        """Every key/value head once per query head of its group."""
        c, all_tokens = self.config, self.size(x, 2)
        group = self.ints(c.heads // c.kv_heads)
        wide = self.op("Unsqueeze", x, self.ints(2))
        parts = [self.batch, self.ints(c.kv_heads), group, all_tokens, self.ints(c.head_dim)]
        wide = self.op("Expand", wide, self.op("Concat", *parts, axis=0))
        return self.reshape(wide, self.batch, c.heads, all_tokens, c.head_dim)

    def attention(self, query, key, value, mask):
        scores = self.op("MatMul", query, self.op("Transpose", key, perm=[0, 1, 3, 2]))
        scores = self.op("Mul", scores, self.scalar(self.config.head_dim**-0.5))
        weights = self.op("Softmax", self.op("Add", scores, mask), axis=-1)
        attended = self.op("Transpose", self.op("MatMul", weights, value), perm=[0, 2, 1, 3])
        return self.reshape(
            attended, self.batch, self.tokens, self.config.heads * self.config.head_dim
        )

    def cache(self, name, where, layer, tokens):
        c = self.config
        names = [f"{name}.{layer}.{part}" for part in ("key", "value")]
        for part in names:
            self.value(where, part, TensorProto.FLOAT, "batch_size", c.kv_heads, tokens, c.head_dim)
        return names

    @staticmethod
    def value(where, name, kind, *shape):
        where.append(helper.make_tensor_value_info(name, kind, shape))


def write(builder, out):
    """The graph as model.onnx, its large tensors as model.onnx_data, written one by one."""
    tensors = []
    with open(out / "model.onnx_data", "wb") as data:
        for name, value in builder.initializers.items():
            tensor = numpy_helper.from_array(value, name)
            if value.nbytes >= EXTERNAL_BYTES:
                onnx.external_data_helper.set_external_data(
                    tensor, "model.onnx_data", data.tell(), len(tensor.raw_data)
                )
                data.write(tensor.raw_data)
                tensor.ClearField("raw_data")
            tensors.append(tensor)
    graph = helper.make_graph(builder.nodes, "main_graph", builder.inputs, builder.outputs, tensors)
    opset = [helper.make_opsetid("", 14)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=8, producer_name="libhybrid")
    onnx.save(model, out / "model.onnx")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model")
    parser.add_argument("tokenizer")
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--layers", type=int, default=0)
    arguments = parser.parse_args()
    source = Gguf(arguments.model)
    config = Config(source, arguments.layers)
    builder = Builder(source, config)
    builder.build()
    arguments.out.mkdir(parents=True, exist_ok=True)
    write(builder, arguments.out)
    (arguments.out / "config.json").write_text(json.dumps(config.json(), indent=2) + "\n")
    shutil.copyfile(arguments.tokenizer, arguments.out / "tokenizer.json")
    onnx.checker.check_model(str(arguments.out / "model.onnx"))


if __name__ == "__main__":
    main()
