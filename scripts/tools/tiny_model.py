"""Writes a GGUF file of a tiny llama of random weights with a vocabulary of bytes and a chat
template: for tests that open a bundle thousands of times.

    tiny_model.py FILE

Token 0 ends a text. The file is the same every time.
"""

import random
import struct
import sys

HIDDEN, HEADS, LAYERS, FFN, CONTEXT = 64, 2, 1, 64, 128
TEMPLATE = ("{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
            "{% if add_generation_prompt %}<assistant>{% endif %}")
F32 = 0
U32_VALUE, I32_VALUE, F32_VALUE, BOOL_VALUE, TEXT_VALUE, ARRAY_VALUE = 4, 5, 6, 7, 8, 9


def text(value):
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def array(kind, items):
    return struct.pack("<IIQ", ARRAY_VALUE, kind, len(items)) + b"".join(items)


def value(given):
    """A metadata value with its type in front."""
    if isinstance(given, bool):
        return struct.pack("<IB", BOOL_VALUE, given)
    if isinstance(given, int):
        return struct.pack("<II", U32_VALUE, given)
    if isinstance(given, float):
        return struct.pack("<If", F32_VALUE, given)
    if isinstance(given, str):
        return struct.pack("<I", TEXT_VALUE) + text(given)
    if isinstance(given[0], str):
        return array(TEXT_VALUE, [text(item) for item in given])
    return array(I32_VALUE, [struct.pack("<i", item) for item in given])


def alphabet():
    """The characters that byte-level vocabularies write bytes as."""
    printable = [b for b in range(256) if 0x21 <= b <= 0x7E or 0xA1 <= b <= 0xAC or b >= 0xAE]
    return [chr(b) for b in printable] + [chr(256 + n) for n in range(256 - len(printable))]


def metadata():
    tokens = ["<|endoftext|>", *alphabet(), "he"]
    return {
        "general.architecture": "llama",
        "general.name": "tiny",
        "llama.block_count": LAYERS,
        "llama.context_length": CONTEXT,
        "llama.embedding_length": HIDDEN,
        "llama.feed_forward_length": FFN,
        "llama.attention.head_count": HEADS,
        "llama.attention.head_count_kv": HEADS,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.rope.freq_base": 10000.0,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3] + [1] * (len(tokens) - 1),
        "tokenizer.ggml.merges": ["h e"],
        "tokenizer.ggml.eos_token_id": 0,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.chat_template": TEMPLATE,
    }, len(tokens)


def tensors(vocabulary):
    """Names and shapes, rows first."""
    yield "token_embd.weight", (vocabulary, HIDDEN)
    yield "output_norm.weight", (HIDDEN,)
    for layer in range(LAYERS):
        for name in ["attn_norm", "ffn_norm"]:
            yield f"blk.{layer}.{name}.weight", (HIDDEN,)
        for name in ["attn_q", "attn_k", "attn_v", "attn_output"]:
            yield f"blk.{layer}.{name}.weight", (HIDDEN, HIDDEN)
        for name in ["ffn_gate", "ffn_up"]:
            yield f"blk.{layer}.{name}.weight", (FFN, HIDDEN)
        yield f"blk.{layer}.ffn_down.weight", (HIDDEN, FFN)


def main(path):
    pairs, vocabulary = metadata()
    listed = list(tensors(vocabulary))
    head = b"GGUF" + struct.pack("<IQQ", 3, len(listed), len(pairs))
    head += b"".join(text(key) + value(given) for key, given in pairs.items())
    rng, body = random.Random(1), b""
    for name, shape in listed:
        head += text(name) + struct.pack("<I", len(shape))
        head += struct.pack(f"<{len(shape)}QIQ", *reversed(shape), F32, len(body))
        count = shape[0] * (shape[1] if len(shape) > 1 else 1)
        body += struct.pack(f"<{count}f", *(rng.uniform(-0.3, 0.3) for _ in range(count)))
    padding = -len(head) % 32
    with open(path, "wb") as file:
        file.write(head + bytes(padding) + body)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
