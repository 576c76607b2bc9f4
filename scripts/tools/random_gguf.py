"""Tiny GGUF models of random weights: the same file for the same arguments.

A family is a row of `FAMILIES`: its name, the tensors of a layer, and what it needs besides. Sizes
are given by name, so that one row serves every `Shape`.
"""

import itertools
import zlib
from typing import Callable, NamedTuple

import gguf
import numpy as np

import llama_native
from random_families import FAMILIES, Family

Type = gguf.GGMLQuantizationType


class Shape(NamedTuple):
    """The sizes of a model. Rows of 256 and its multiples hold every type; others only some."""

    name: str
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int

    def size(self, name: str) -> int:
        """What a family calls a size, or a number."""
        own = {
            "q": self.heads * self.head_dim,
            "kv": self.kv_heads * self.head_dim,
            "qkv": (self.heads + 2 * self.kv_heads) * self.head_dim,
            "ffn2": 2 * self.ffn,
            "hidden3": 3 * self.hidden,
            "vocabulary": VOCABULARY,
            "rope_pairs": self.head_dim // 2,
            "most_rope_pairs": self.head_dim * 3 // 8,
        }
        if name in own:
            return own[name]
        return int(name) if name.isdigit() else getattr(self, name)


SHAPES = [
    Shape("even", hidden=256, heads=4, kv_heads=2, head_dim=64, ffn=512),
    # One key head, rows that only blocks of 32 divide, rows that nothing divides.
    Shape("odd", hidden=288, heads=3, kv_heads=1, head_dim=44, ffn=333),
    Shape("wide", hidden=96, heads=2, kv_heads=2, head_dim=160, ffn=160),
    # Odd too, but as many queries as hidden values: llama.cpp knows some families only so.
    Shape("square", hidden=288, heads=6, kv_heads=3, head_dim=48, ffn=333),
    # One key head for each head of queries.
    Shape("wide-square", hidden=320, heads=2, kv_heads=2, head_dim=160, ffn=160),
]

# What llama-quantize takes where a type's block does not divide the row.
FALLBACKS = {
    **dict.fromkeys([Type.Q2_K, Type.Q3_K, Type.IQ4_XS], Type.IQ4_NL),
    **dict.fromkeys([Type.IQ2_XXS, Type.IQ2_XS, Type.IQ2_S, Type.IQ1_S, Type.IQ1_M], Type.IQ4_NL),
    **dict.fromkeys([Type.IQ3_XXS, Type.IQ3_S], Type.IQ4_NL),
    **dict.fromkeys([Type.TQ1_0, Type.TQ2_0], Type.Q4_0),
    Type.Q4_K: Type.Q5_0,
    Type.Q5_K: Type.Q5_1,
    Type.Q6_K: Type.Q8_0,
}


class Mix(NamedTuple):
    """A file whose matrices have one type after the other, as dynamic quantisations do."""

    name: str
    types: list


MIXES = [
    Mix("dynamic", [Type.Q3_K, Type.Q5_K, Type.IQ4_XS, Type.Q6_K, Type.Q2_K, Type.Q8_0, Type.F16])
]

# More than a window and what is kept beside it.
CONTEXT = 1024
# End of text, every byte, one merge, and ids that stand for nothing.
VOCABULARY = 263
USABLE = 258


def type_for(kind: Type, cols: int) -> Type:
    """The type of a matrix with rows of `cols` values in a file of type `kind`."""
    while cols % gguf.GGML_QUANT_SIZES[kind][0] != 0:
        kind = FALLBACKS.get(kind, Type.F16)
    return kind


class Model:
    """A family in one shape, with its weights as floats."""

    def __init__(self, family: Family, shape: Shape, tied: bool):
        self.family, self.shape, self.tied = family, shape, tied
        self.layers = family.layers
        name = f"{family.label or family.name} {shape.name} {tied}"
        self.random = np.random.default_rng(zlib.crc32(name.encode()))
        self.tensors, self.done = {}, {}
        self.add("token_embd.weight", "vocabulary hidden")
        self.add("output_norm.weight", "hidden")
        if not tied:
            self.add("output.weight", "vocabulary hidden")
        for name, sizes in family.beside.items():
            self.add(name if name.endswith(".bias") else f"{name}.weight", sizes)
        for name in family.lacks:
            del self.tensors[name]
        for layer in range(self.layers):
            for name, sizes in family.layer.items():
                if any(layer == at and name.startswith(start) for at, start in family.without):
                    continue
                suffix = "" if name.endswith(".bias") else ".weight"
                self.add(f"blk.{layer}.{name}{suffix}", sizes)

    def add(self, name: str, sizes: str) -> None:
        shape = tuple(self.shape.size(size) for size in sizes.split())
        values = self.random.standard_normal(shape).astype(np.float32)
        if len(shape) == 2:
            # Logits and attention scores spread as those of a trained model do.
            values /= np.sqrt(shape[1])
        elif name.endswith(".bias"):
            values *= 0.3
        else:
            values = 1.0 + 0.2 * values
        self.tensors[name] = values

    def write(self, path: str, kind: Type | Mix, decoded: bool = False) -> None:
        """The file with every matrix as `kind`, or with the values that `kind` left of it."""
        writer = gguf.GGUFWriter(path, self.family.name)
        self.add_metadata(writer)
        types = itertools.cycle(kind.types if isinstance(kind, Mix) else [kind])
        for name, values in self.tensors.items():
            # llama.cpp's convolution takes floats.
            if values.ndim == 1 or name.endswith(".conv.weight"):
                writer.add_tensor(name, values)
                continue
            own = type_for(next(types), values.shape[1])
            if own is Type.F32:
                writer.add_tensor(name, values)
                continue
            data = self.quantized(name, own)
            if decoded:
                writer.add_tensor(name, llama_native.dequantize(data, own))
            else:
                writer.add_tensor(name, data, raw_dtype=own)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()

    def quantized(self, name: str, kind: Type) -> np.ndarray:
        """A matrix as `kind`, computed once: some types take a second."""
        if (name, kind) not in self.done:
            self.done[name, kind] = llama_native.quantize(self.tensors[name], kind)
        return self.done[name, kind]

    def add_metadata(self, writer: gguf.GGUFWriter) -> None:
        family, shape = self.family, self.shape
        keys = {
            "block_count": self.layers,
            "context_length": CONTEXT,
            "embedding_length": shape.hidden,
            "feed_forward_length": shape.ffn,
            "attention.head_count": shape.heads,
            "attention.head_count_kv": shape.kv_heads,
            "attention.key_length": shape.head_dim,
            "attention.value_length": shape.head_dim,
            "attention.layer_norm_rms_epsilon": 1e-5,
            "rope.dimension_count": shape.head_dim,
            "rope.freq_base": 10_000.0,
            "vocab_size": VOCABULARY,
        }
        for key, value in (keys | family.keys).items():
            add_key(writer, f"{family.name}.{key}", value(shape) if callable(value) else value)
        writer.add_name("random")
        add_vocabulary(writer)


def add_key(writer: gguf.GGUFWriter, key: str, value) -> None:
    """In the type that the files of this key have: counts are unsigned. None leaves it out."""
    adders: dict[type, Callable] = {
        bool: writer.add_bool,
        int: writer.add_uint32,
        float: writer.add_float32,
        str: writer.add_string,
        list: writer.add_array,
    }
    if value is not None:
        adders[type(value)](key, value)


def add_vocabulary(writer: gguf.GGUFWriter) -> None:
    """Byte-level BPE, as GPT-2 writes bytes."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = range(256, 256 + 256 - len(printable))
    tokens = ["<|endoftext|>", *map(chr, [*printable, *others]), "he"]
    padding = range(len(tokens), VOCABULARY)
    types = [gguf.TokenType.CONTROL] + [gguf.TokenType.NORMAL] * 257
    types += [gguf.TokenType.UNUSED for _ in padding]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens + [f"[PAD{id}]" for id in padding])
    writer.add_token_types(types)
    writer.add_token_merges(["h e"])
    writer.add_eos_token_id(0)
    writer.add_add_bos_token(False)
    turns = "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}"
    writer.add_chat_template(turns + "{% if add_generation_prompt %}<assistant>{% endif %}")
