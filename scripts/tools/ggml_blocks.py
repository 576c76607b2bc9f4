#!/usr/bin/env python3
"""What the blocks of ggml's tensor types mean, as JSON: bytes and the values that the Python
package `gguf` makes of them.

    ggml_blocks.py > tests/data/llama-cpp/blocks.json
"""

import json

import gguf
import numpy as np

TYPES = ["F16", "Q4_0", "Q4_1", "Q5_0", "Q8_0", "Q4_K", "Q6_K"]
# Where a block's f16 scales are: any other byte may be anything.
SCALES = {
    "F16": [],
    "Q4_0": [0],
    "Q4_1": [0, 2],
    "Q5_0": [0],
    "Q8_0": [0],
    "Q4_K": [0, 2],
    "Q6_K": [208],
}


def main() -> None:
    random = np.random.default_rng(1)
    rows = []
    for name in TYPES:
        kind = gguf.GGMLQuantizationType[name]
        size, length = gguf.GGML_QUANT_SIZES[kind]
        if name == "F16":
            data = random.normal(size=4).astype(np.float16).view(np.uint8)
        else:
            data = random.integers(0, 256, length, dtype=np.uint8)
        for at in SCALES[name]:
            data[at : at + 2] = random.normal(0, 0.01, 1).astype(np.float16).view(np.uint8)
        values = gguf.dequantize(data.copy(), kind).reshape(-1)
        rows.append({"type": name, "bytes": data.tobytes().hex(), "values": values.tolist()})
    print("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]")


main()
