"""The families of `random_gguf`: what their models consist of, as llama.cpp reads them.

A new family is a new row. Most are Llama with something more, less or elsewhere.
"""

from typing import NamedTuple


class Family(NamedTuple):
    """`general.architecture`, and what a model of it consists of."""

    name: str
    # Of each layer: name and sizes, rows first. Vectors are norms unless they end in `.bias`.
    layer: dict
    # What stands beside the layers, but for embedding, final norm and output.
    beside: dict = {}
    # What of embedding, final norm and output is not there.
    lacks: tuple = ()
    # Metadata under the architecture's name, besides the sizes: a value, or what makes it.
    keys: dict = {}
    # Under which names the table has it, if one architecture has several rows.
    label: str = ""
    # Whether its models have a separate output, share the embedding's, or both.
    tied: tuple = (True, False)
    # Names of its shapes.
    shapes: tuple = ("even", "odd", "wide")
    layers: int = 2
    # Parts of layers that are not there: the layer's number, and how their tensors' names begin.
    without: tuple = ()
    # What `hybrid pack` needs to be told.
    pack: tuple = ()


# As many queries as hidden values: llama.cpp knows some families only so.
SQUARE = ("even", "square")

LLAMA = {
    "attn_norm": "hidden",
    "attn_q": "q hidden",
    "attn_k": "kv hidden",
    "attn_v": "kv hidden",
    "attn_output": "hidden q",
    "ffn_norm": "hidden",
    "ffn_gate": "ffn hidden",
    "ffn_up": "ffn hidden",
    "ffn_down": "hidden ffn",
}
QKV_BIASES = {"attn_q.bias": "q", "attn_k.bias": "kv", "attn_v.bias": "kv"}
FFN_BIASES = {"ffn_up.bias": "ffn", "ffn_down.bias": "hidden"}
OUTPUT_BIAS = {"attn_output.bias": "hidden"}
HEAD_NORMS = {"attn_q_norm": "head_dim", "attn_k_norm": "head_dim"}
SHORT_CONV = {
    "shortconv.conv": "hidden 3",
    "shortconv.in_proj": "hidden3 hidden",
    "shortconv.out_proj": "hidden hidden",
}
POST_NORMS = {"post_attention_norm": "hidden", "post_ffw_norm": "hidden"}
NORM_BIASES = {"attn_norm.bias": "hidden", "ffn_norm.bias": "hidden"}
FINAL_BIAS = {"output_norm.bias": "hidden"}
LAYER_NORM = {"attention.layer_norm_epsilon": 1e-5}
LONGROPE = {"rope_factors_long": "most_rope_pairs", "rope_factors_short": "most_rope_pairs"}


def without(layer: dict, *names: str) -> dict:
    return {name: sizes for name, sizes in layer.items() if name not in names}


FUSED = without(LLAMA, "attn_q", "attn_k", "attn_v") | {"attn_qkv": "qkv hidden"}
FUSED_FFN = without(LLAMA, "ffn_gate") | {"ffn_up": "ffn2 hidden"}
UNGATED = without(LLAMA, "ffn_gate")
STARCODER2 = UNGATED | NORM_BIASES | QKV_BIASES | OUTPUT_BIAS | FFN_BIASES
PARALLEL = without(LLAMA, "ffn_norm")
NORMS_AFTER = without(LLAMA, "attn_norm", "ffn_norm") | POST_NORMS
SCALES = {"embedding_scale": 3.0, "residual_scale": 0.3, "logit_scale": 2.5}
WINDOW = {"attention.sliding_window": 16}


PHI3 = without(FUSED_FFN, "attn_q", "attn_k", "attn_v") | {"attn_qkv": "qkv hidden"}


def part(share: float):
    """RoPE turns this share of a head."""
    return {"rope.dimension_count": lambda shape: int(shape.head_dim * share) // 2 * 2}


def scaling(kind: str, **numbers: float) -> dict:
    return {"rope.scaling.type": kind} | {f"rope.scaling.{k}": v for k, v in numbers.items()}


PHI4_MINI = part(0.75) | {
    "context_length": 1024,
    "rope.scaling.original_context_length": 512,
    "rope.scaling.attn_factor": 1.19,
}

FAMILIES = [
    Family("llama", LLAMA),
    Family(
        "qwen2",
        LLAMA | QKV_BIASES,
        keys={"attention.layer_norm_rms_epsilon": 1e-6},
        shapes=SQUARE,
    ),
    Family("llama", LLAMA, keys=scaling("linear", factor=4.0), label="llama-linear"),
    Family("llama", LLAMA, {"rope_freqs": "rope_pairs"}, label="llama3"),
    Family(
        "llama",
        LLAMA,
        keys=scaling("yarn", factor=4.0, original_context_length=32),
        label="llama-yarn",
    ),
    Family("llama", FUSED | {"attn_qkv.bias": "qkv"}, label="llama-fused"),
    Family("qwen3", LLAMA | HEAD_NORMS),
    Family("smollm3", LLAMA, layers=5),
    Family("granite", LLAMA, keys=SCALES | {"attention.scale": 0.2}),
    Family("granite", LLAMA, keys=SCALES | {"rope.scaling.finetuned": False}, label="granite-nope"),
    Family("gemma", LLAMA, tied=(True,)),
    Family(
        "gemma2",
        LLAMA | POST_NORMS,
        keys=WINDOW | {"attn_logit_softcapping": 5.0, "final_logit_softcapping": 3.0},
        tied=(True,),
    ),
    Family("gemma3", LLAMA | POST_NORMS | HEAD_NORMS, keys=WINDOW, tied=(True,), layers=7),
    Family(
        "lfm2",
        LLAMA | HEAD_NORMS | SHORT_CONV,
        {"token_embd_norm": "hidden"},
        lacks=("output_norm.weight",),
        keys={
            "shortconv.l_cache": 3,
            "attention.head_count_kv": lambda shape: [0, shape.kv_heads, 0, 0],
        },
        shapes=SQUARE,
        layers=4,
        without=(
            *[(layer, f"attn_{part}") for layer in (0, 2, 3) for part in ("q", "k", "v", "output")],
            (1, "shortconv."),
        ),
    ),
    Family("phi3", PHI3, shapes=SQUARE),
    Family("phi3", PHI3, LONGROPE, keys=PHI4_MINI, label="phi4-mini", shapes=SQUARE),
    Family(
        "phi3",
        PHI3,
        LONGROPE,
        # llama.cpp's contexts have a multiple of 256 tokens.
        keys=PHI4_MINI | {"rope.scaling.original_context_length": 128},
        label="phi4-mini-long",
        shapes=SQUARE,
        pack=("--context", "256"),
    ),
    Family("mistral3", LLAMA, keys=scaling("yarn", factor=4.0, original_context_length=32)),
    Family(
        "olmo2",
        NORMS_AFTER | {"attn_q_norm": "q", "attn_k_norm": "kv"},
        tied=(False,),
        shapes=SQUARE,
    ),
    Family(
        "olmo2",
        NORMS_AFTER | {"attn_q_norm": "q", "attn_k_norm": "kv"},
        keys=WINDOW | scaling("yarn", factor=4.0, original_context_length=32),
        label="olmo3",
        tied=(False,),
        shapes=SQUARE,
        layers=4,
    ),
    Family("exaone", LLAMA),
    Family("exaone4", NORMS_AFTER | HEAD_NORMS, shapes=SQUARE),
    Family(
        "exaone4",
        NORMS_AFTER | HEAD_NORMS,
        keys=WINDOW,
        label="exaone4-swa",
        shapes=("square",),
        layers=64,
    ),
    Family("internlm2", LLAMA, tied=(False,), shapes=SQUARE),
    Family("ernie4_5", LLAMA, shapes=SQUARE),
    Family("hunyuan-dense", LLAMA | HEAD_NORMS),
    Family("chatglm", PHI3 | {"attn_qkv.bias": "qkv"}, keys=part(0.5), shapes=SQUARE),
    Family("glm4", FUSED_FFN | POST_NORMS | QKV_BIASES, keys=part(0.5), shapes=SQUARE),
    Family(
        "seed_oss",
        without(LLAMA, "ffn_norm") | {"post_attention_norm": "hidden"} | QKV_BIASES,
    ),
    Family("arcee", UNGATED),
    Family("minicpm", LLAMA, keys=SCALES),
    Family(
        "qwen",
        FUSED | {"attn_qkv.bias": "qkv"},
        keys={"feed_forward_length": lambda shape: 2 * shape.ffn},
        tied=(False,),
        shapes=("wide-square",),
    ),
    Family("xverse", LLAMA, tied=(False,), shapes=SQUARE),
    Family(
        "deci",
        LLAMA,
        keys={
            "attention.head_count": lambda shape: [shape.heads, 0, shape.heads],
            "attention.head_count_kv": lambda shape: [shape.kv_heads, 0, shape.kv_heads],
        },
        layers=3,
        without=((1, "attn_"),),
    ),
    Family("openelm", FUSED | HEAD_NORMS, tied=(True,)),
    Family("maincoder", LLAMA | HEAD_NORMS),
    Family("pangu-embedded", LLAMA | QKV_BIASES | OUTPUT_BIAS),
    Family("plamo", PARALLEL, tied=(False,), shapes=SQUARE),
    Family("starcoder2", STARCODER2, FINAL_BIAS, keys=LAYER_NORM, shapes=SQUARE),
    Family(
        "codeshell",
        without(STARCODER2, "attn_q", "attn_k", "attn_v", *QKV_BIASES)
        | {"attn_qkv": "qkv hidden", "attn_qkv.bias": "qkv"},
        FINAL_BIAS,
        keys=LAYER_NORM,
        tied=(False,),
        shapes=SQUARE,
    ),
    Family(
        "nemotron",
        UNGATED | NORM_BIASES,
        FINAL_BIAS,
        keys=LAYER_NORM | part(0.5),
        tied=(False,),
        shapes=SQUARE,
    ),
    Family(
        "phi2",
        without(STARCODER2, "ffn_norm", "ffn_norm.bias"),
        FINAL_BIAS | {"output.bias": "vocabulary"},
        keys=LAYER_NORM | part(0.5),
        tied=(False,),
        shapes=SQUARE,
    ),
    Family(
        "falcon",
        without(FUSED, "ffn_norm", "ffn_gate") | {"attn_norm.bias": "hidden"},
        FINAL_BIAS,
        keys=LAYER_NORM,
        shapes=SQUARE,
    ),
    Family(
        "gptneox",
        without(STARCODER2, "attn_q", "attn_k", "attn_v", *QKV_BIASES)
        | {"attn_qkv": "qkv hidden", "attn_qkv.bias": "qkv"},
        FINAL_BIAS,
        keys=LAYER_NORM | part(0.25) | {"use_parallel_residual": True},
        tied=(False,),
        shapes=("wide-square",),
    ),
    Family(
        "stablelm",
        LLAMA | NORM_BIASES | QKV_BIASES,
        FINAL_BIAS,
        keys=LAYER_NORM | part(0.25),
        tied=(False,),
        shapes=SQUARE,
    ),
    Family(
        "stablelm",
        without(LLAMA | NORM_BIASES, "ffn_norm", "ffn_norm.bias"),
        FINAL_BIAS,
        keys=LAYER_NORM | part(0.25),
        label="stablelm-parallel",
        tied=(False,),
        shapes=SQUARE,
    ),
    Family(
        "orion",
        LLAMA | NORM_BIASES,
        FINAL_BIAS,
        keys=LAYER_NORM,
        tied=(False,),
        shapes=SQUARE,
    ),
    Family(
        "olmo",
        without(LLAMA, "attn_norm", "ffn_norm"),
        lacks=("output_norm.weight",),
        keys=LAYER_NORM | {"attention.clamp_kqv": 0.8},
        shapes=SQUARE,
    ),
    Family(
        "command-r",
        PARALLEL,
        keys=LAYER_NORM | {"logit_scale": 0.5},
        tied=(True,),
        shapes=SQUARE,
    ),
    Family(
        "cohere2",
        PARALLEL,
        keys=LAYER_NORM | WINDOW | {"logit_scale": 0.5},
        tied=(True,),
        shapes=SQUARE,
        layers=4,
    ),
    # This llama.cpp reads no epsilon here.
    Family(
        "qwen2vl",
        LLAMA | QKV_BIASES,
        keys={
            "rope.dimension_sections": [16, 8, 8, 0],
            "attention.layer_norm_rms_epsilon": 1e-6,
        },
        shapes=SQUARE,
    ),
]
