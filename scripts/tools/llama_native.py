"""llama.cpp in this process: the native library of the wheel `xllamacpp`, called through ctypes.

The wheel's Python binding has no logits and no quantiser, but its library exports llama.cpp's own C
functions. What it expects of their structs is checked before they are used.
"""

import ctypes
from ctypes import POINTER, c_bool, c_char_p, c_float, c_int32, c_int64, c_size_t, c_uint32
from ctypes import c_void_p
from pathlib import Path

import gguf
import numpy as np
import xllamacpp

LIBRARY = ctypes.CDLL(str(next(Path(xllamacpp.__file__).parent.glob("xllamacpp*.so"))))
LOG = ctypes.CFUNCTYPE(None, c_int32, c_char_p, c_void_p)
F32, F16 = 0, 1


class ModelParameters(ctypes.Structure):
    """Only handed on: what is in it stays as llama.cpp fills it."""

    _fields_ = [("all", ctypes.c_uint64 * 64)]


class ContextParameters(ctypes.Structure):
    """llama_context_params as far as it is used here. The rest is room for what follows in it."""

    _fields_ = [
        *[(name, c_uint32) for name in ("n_ctx", "n_batch", "n_ubatch", "n_seq_max", "n_rs_seq")],
        *[(name, c_uint32) for name in ("n_outputs_max", "n_outputs_max_per_seq")],
        *[(name, c_int32) for name in ("n_threads", "n_threads_batch", "ctx_type")],
        *[(name, c_int32) for name in ("rope_scaling_type", "pooling_type", "attention_type")],
        ("flash_attn_type", c_int32),
        *[(name, c_float) for name in ("rope_freq_base", "rope_freq_scale", "yarn_ext_factor")],
        *[(name, c_float) for name in ("yarn_attn_factor", "yarn_beta_fast", "yarn_beta_slow")],
        ("yarn_orig_ctx", c_uint32),
        ("defrag_thold", c_float),
        ("cb_eval", c_void_p),
        ("cb_eval_user_data", c_void_p),
        ("type_k", c_int32),
        ("type_v", c_int32),
        ("rest", ctypes.c_uint64 * 64),
    ]


class Batch(ctypes.Structure):
    _fields_ = [
        ("n_tokens", c_int32),
        ("token", POINTER(c_int32)),
        ("embd", c_void_p),
        ("pos", POINTER(c_int32)),
        ("n_seq_id", POINTER(c_int32)),
        ("seq_id", POINTER(POINTER(c_int32))),
        ("logits", POINTER(ctypes.c_int8)),
    ]


def function(name: str, result, *arguments):
    found = getattr(LIBRARY, name)
    found.restype, found.argtypes = result, arguments
    return found


log_set = function("llama_log_set", None, LOG, c_void_p)
backend_init = function("llama_backend_init", None)
model_defaults = function("llama_model_default_params", ModelParameters)
context_defaults = function("llama_context_default_params", ContextParameters)
load_model = function("llama_model_load_from_file", c_void_p, c_char_p, ModelParameters)
free_model = function("llama_model_free", None, c_void_p)
new_context = function("llama_init_from_model", c_void_p, c_void_p, ContextParameters)
free_context = function("llama_free", None, c_void_p)
new_batch = function("llama_batch_init", Batch, c_int32, c_int32, c_int32)
free_batch = function("llama_batch_free", None, Batch)
decode = function("llama_decode", c_int32, c_void_p, Batch)
row_of_logits = function("llama_get_logits_ith", POINTER(c_float), c_void_p, c_int32)
get_vocabulary = function("llama_model_get_vocab", c_void_p, c_void_p)
tokenize_text = function(
    "llama_tokenize",
    c_int32,
    c_void_p,
    c_char_p,
    c_int32,
    POINTER(c_int32),
    c_int32,
    c_bool,
    c_bool,
)
vocabulary_size = function("llama_vocab_n_tokens", c_int32, c_void_p)
quantize_chunk = function(
    "ggml_quantize_chunk",
    c_size_t,
    c_int32,
    POINTER(c_float),
    c_void_p,
    c_int64,
    c_int64,
    c_int64,
    POINTER(c_float),
)

messages = []
keep_message = LOG(lambda level, text, _: messages.append(text.decode(errors="replace")))
log_set(keep_message, None)
backend_init()


def floats(array: np.ndarray):
    return array.ctypes.data_as(POINTER(c_float))


def quantize(values: np.ndarray, kind: gguf.GGMLQuantizationType) -> np.ndarray:
    """`values` as llama-quantize writes them, one row of bytes for each row."""
    values = np.ascontiguousarray(values, np.float32)
    rows, cols = values.shape
    block, size = gguf.GGML_QUANT_SIZES[kind]
    assert cols % block == 0, f"{cols} columns in {kind.name}"
    out = np.zeros((rows, cols // block * size), np.uint8)
    # Some types ask how much each column matters: all the same.
    importance = np.ones(cols, np.float32)
    written = quantize_chunk(
        kind, floats(values), out.ctypes.data, 0, rows, cols, floats(importance)
    )
    assert written == out.nbytes, f"{kind.name}: {written} bytes instead of {out.nbytes}"
    return out


def dequantize(data: np.ndarray, kind: gguf.GGMLQuantizationType) -> np.ndarray:
    """Rows of bytes as floats: by `gguf`, or by llama.cpp where that knows no such type."""
    try:
        return gguf.dequantize(data, kind).astype(np.float32)
    except NotImplementedError:
        block, size = gguf.GGML_QUANT_SIZES[kind]
        data = np.ascontiguousarray(data)
        out = np.zeros((data.shape[0], data.shape[1] // size * block), np.float32)
        name = f"dequantize_row_{kind.name.lower()}"
        function(name, None, c_void_p, POINTER(c_float), c_int64)(
            data.ctypes.data, floats(out), out.size
        )
        return out


def load(path: str) -> int:
    messages.clear()
    model = load_model(str(path).encode(), model_defaults())
    if not model:
        raise RuntimeError(f"llama.cpp cannot load {path}: {''.join(messages[-4:]).strip()}")
    return model


def tokenize(path: str, text: str, most: int) -> list:
    """The ids of at most `most` tokens of a text."""
    model, text = load(path), text.encode()
    ids = (c_int32 * (len(text) + 8))()
    count = tokenize_text(get_vocabulary(model), text, len(text), ids, len(ids), True, False)
    free_model(model)
    return ids[: min(count, most)]


def logits(path: str, ids: list, float_cache: bool = False) -> np.ndarray:
    """What follows each token: a row of logits for each of `ids`."""
    model = load(path)
    parameters = context_defaults()
    looks_right = (
        parameters.n_seq_max == 1
        and parameters.n_batch >= parameters.n_ubatch >= len(ids)
        and parameters.flash_attn_type == -1
        and (parameters.type_k, parameters.type_v) == (F16, F16)
    )
    assert looks_right, "llama_context_params of this xllamacpp has other fields"
    parameters.n_ctx = len(ids)
    parameters.n_threads = parameters.n_threads_batch = 1
    parameters.flash_attn_type = 0
    if float_cache:
        parameters.type_k = parameters.type_v = F32
    context = new_context(model, parameters)
    if not context:
        raise RuntimeError(f"llama.cpp refuses {path}: {''.join(messages[-4:]).strip()}")
    batch = new_batch(len(ids), 0, 1)
    batch.n_tokens = len(ids)
    for index, token in enumerate(ids):
        batch.token[index], batch.pos[index], batch.logits[index] = token, index, 1
        batch.n_seq_id[index], batch.seq_id[index][0] = 1, 0
    status = decode(context, batch)
    if status != 0:
        raise RuntimeError(f"llama.cpp cannot compute {path}: status {status}")
    width = vocabulary_size(get_vocabulary(model))
    rows = [np.ctypeslib.as_array(row_of_logits(context, i), (width,)) for i in range(len(ids))]
    rows = np.array(rows, np.float64)
    free_batch(batch)
    free_context(context)
    free_model(model)
    return rows
