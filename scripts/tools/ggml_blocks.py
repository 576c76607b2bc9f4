#!/usr/bin/env python3
"""What the blocks of ggml's tensor types mean, as JSON: bytes and the values that the Python
package `gguf` makes of them, or llama.cpp where the package knows no such type.

    ggml_blocks.py > tests/data/llama-cpp/blocks.json
"""

import json

import gguf
import numpy as np

import llama_native

# Where a block's f16 scales are: any other byte may be anything.
SCALES = {
    "F16": [],
    "Q4_0": [0],
    "Q4_1": [0, 2],
    "Q5_0": [0],
    "Q5_1": [0, 2],
    "Q8_0": [0],
    "Q2_K": [80, 82],
    "Q3_K": [108],
    "Q4_K": [0, 2],
    "Q5_K": [0, 2],
    "Q6_K": [208],
    "IQ4_NL": [0],
    "IQ4_XS": [0],
    "BF16": [],
    "TQ1_0": [52],
    "TQ2_0": [64],
    "MXFP4": [],
    "Q1_0": [0],
}
# A block's exponent around 128, where it has one.
EXPONENT = {"MXFP4": 118}


def main() -> None:
    random = np.random.default_rng(1)
    rows = []
    for name, scales in SCALES.items():
        kind = gguf.GGMLQuantizationType[name]
        size, length = gguf.GGML_QUANT_SIZES[kind]
        if name in ("F16", "BF16"):
            values = random.normal(size=(1, 4)).astype(np.float32)
            data = llama_native.quantize(values, kind).reshape(-1)
        else:
            data = random.integers(0, 256, length, dtype=np.uint8)
        for at in scales:
            data[at : at + 2] = random.normal(0, 0.01, 1).astype(np.float16).view(np.uint8)
        if name in EXPONENT:
            data[0] = EXPONENT[name]
        values = llama_native.dequantize(data.reshape(1, -1), kind).reshape(-1)
        rows.append({"type": name, "bytes": data.tobytes().hex(), "values": values.tolist()})
    print("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]")


main()
