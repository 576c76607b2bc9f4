#!/usr/bin/env python3
"""Rewrites a GGUF file with every matrix as F32, Q8_0 or Q4_0.

    requantize.py SOURCE.gguf F32|Q8_0|Q4_0 OUT.gguf

F32 repeats the source's values exactly, so it shows arithmetic alone; the others round them as
llama.cpp does. Equal sources give equal files, byte for byte: the references name their SHA-256.
"""

import os
import sys

import gguf

FILE_TYPES = {
    "F32": gguf.LlamaFileType.ALL_F32,
    "Q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
    "Q4_0": gguf.LlamaFileType.MOSTLY_Q4_0,
}
WRITER_SETS = {"GGUF.version", "GGUF.tensor_count", "GGUF.kv_count", "general.architecture"}


def main() -> None:
    source, kind, out = sys.argv[1:]
    reader = gguf.GGUFReader(source)
    partial = f"{out}.partial"
    writer = gguf.GGUFWriter(partial, reader.get_field("general.architecture").contents())
    copy_metadata(reader, writer, kind)
    for tensor in reader.tensors:
        values = gguf.dequantize(tensor.data, tensor.tensor_type)
        wanted = gguf.GGMLQuantizationType[kind]
        if wanted is gguf.GGMLQuantizationType.F32 or values.ndim == 1:
            writer.add_tensor(tensor.name, values)
        else:
            writer.add_tensor(tensor.name, gguf.quantize(values, wanted), raw_dtype=wanted)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    os.rename(partial, out)


def copy_metadata(reader: gguf.GGUFReader, writer: gguf.GGUFWriter, kind: str) -> None:
    for field in reader.fields.values():
        if field.name in WRITER_SETS:
            continue
        value = FILE_TYPES[kind] if field.name == "general.file_type" else field.contents()
        sub_type = field.types[-1] if field.types[0] is gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, value, field.types[0], sub_type)


if __name__ == "__main__":
    main()
