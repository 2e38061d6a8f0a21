"""The shapes of the published hybrids: Qwen3-Next, Coder-Next, Qwen3.5, 3.6 and 3.8, Qwen4-Exp.

Three of four layers mix tokens by a gated delta net, the fourth is gated attention. Pure data.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from qwen3_profile.run_folder.model_shape import LINEAR, Experts, LinearLayers, Shape

FULL = "full_attention"
NEXT, DENSE, SPARSE = "qwen3_next", "qwen3_5_text", "qwen3_5_moe_text"
QWEN4 = "qwen4_exp_text"

# Where the values come from, at the commits that were read.
_MAXTEXT = "AI-Hypercomputer/maxtext e591f30 hf_model_configs.py, verbatim"
_SLIME = "THUDM/slime 624b824 scripts/models"
_COPY = "text config, verbatim copy in a public repository"
_BRIDGE = "NVIDIA-NeMo/Megatron-Bridge 067f987"
_SAME_AS_3_6 = "Ascend/msmodelslim, a fork: all 60 keys that it shares with Qwen3.6-27B are equal"

_PERIOD = 4


def _hybrid(
    model_type: str,
    hidden: int,
    intermediate: int,
    layers: int,
    heads: tuple[int, int],
    value_heads: int,
    *sources: str,
    experts: tuple[int, int, int] | None = None,
    tied: bool = False,
) -> Shape:
    """heads: of queries, and of keys and values. experts: how many, used by a token, and wide."""
    types = (*(LINEAR,) * (_PERIOD - 1), FULL) * (layers // _PERIOD)
    return Shape(
        hidden, intermediate, layers, *heads, tied, 262144, 1e7,
        head_dim=256,
        vocab_size=151936 if model_type == NEXT else 248320,
        experts=Experts(*experts, shared_expert_intermediate_size=experts[2]) if experts else None,
        model_type=model_type,
        linear=LinearLayers(types, value_heads),
        attn_output_gate=True,
        partial_rotary_factor=0.25,
        sources=sources,
    )  # fmt: skip


_NEXT = _hybrid(NEXT, 2048, 5120, 48, (16, 2), 32, _MAXTEXT, _SLIME, experts=(512, 10, 512))
_27B = _hybrid(DENSE, 5120, 17408, 64, (24, 4), 48, _SLIME, _COPY, _BRIDGE)
_35B = _hybrid(SPARSE, 2048, 0, 40, (16, 2), 32, _MAXTEXT, _SLIME, experts=(256, 8, 512))

HYBRIDS: dict[str, Shape] = {
    "Qwen/Qwen3-Next-80B-A3B-Instruct": _NEXT,
    "Qwen/Qwen3-Next-80B-A3B-Thinking": _NEXT,
    "Qwen/Qwen3-Coder-Next": dataclasses.replace(
        _NEXT, rope_theta=5e6, sources=("config of a quantised copy by QuantTrio", "3 code bases")
    ),
    "Qwen/Qwen3.5-0.8B": _hybrid(DENSE, 1024, 3584, 24, (8, 2), 16, _SLIME, _COPY, tied=True),
    # Width and layers are stated; the other values are those that give the stated parameters.
    "Qwen/Qwen3.5-2B": _hybrid(
        DENSE, 2048, 6144, 24, (8, 2), 16, "code bases that state width, layers and 1.88 B",
        tied=True,
    ),
    "Qwen/Qwen3.5-4B": _hybrid(DENSE, 2560, 9216, 32, (16, 4), 32, _SLIME, _COPY, tied=True),
    "Qwen/Qwen3.5-9B": _hybrid(DENSE, 4096, 12288, 32, (16, 4), 32, _SLIME, _COPY),
    "Qwen/Qwen3.5-27B": _27B,
    "Qwen/Qwen3.6-27B": _27B,
    "Qwen/Qwen3.8-27B": dataclasses.replace(_27B, sources=(_SAME_AS_3_6, "GGUF header")),
    "Qwen/Qwen3.5-35B-A3B": _35B,
    "Qwen/Qwen3.6-35B-A3B": dataclasses.replace(_35B, sources=(_MAXTEXT, _BRIDGE)),
    "Qwen/Qwen3.5-122B-A10B": _hybrid(
        SPARSE, 3072, 0, 48, (32, 2), 64, "docs.vultr.com", "a test of mlx-omnia",
        experts=(256, 8, 1024),
    ),
    "Qwen/Qwen3.5-397B-A17B": _hybrid(
        SPARSE, 4096, 0, 60, (32, 2), 64, _MAXTEXT, experts=(512, 10, 1024)
    ),
    "Qwen/Qwen3.8-2.4T-A95B": _hybrid(
        SPARSE, 8192, 0, 92, (64, 4), 128, "NVIDIA NeMo docs", "2 code bases",
        experts=(512, 10, 2048),
    ),
    "Qwen/Qwen3.8-Flash-Next": _hybrid(
        QWEN4, 2560, 0, 48, (24, 2), 48, "ollama.com, json of the model", "GGUF header",
        "4 code bases", experts=(512, 10, 640),
    ),
}  # fmt: skip


# What the config of Qwen3.8-Flash-Next has besides; its attention looks at what an indexer chooses.
_QWEN4_VALUES = {
    "hc_count": 4, "hc_lowrank": 320, "indexer_n_heads": 4, "indexer_kv_heads": 1,
    "indexer_head_dim": 128, "indexer_budget": 2048, "indexer_compress_ratio": 4,
    "ple_layer_ids": [2], "ple_embed_dim": 2560, "ple_conv_kernel_size": 4, "ngram_size": 3,
    "heads_per_ngram": 8, "ngram_vocab_size_base": 20_000_000, "split_ngram_parts": 128,
    "output_gate_type": "sigmoid", "eos_token_id": 248044,
}  # fmt: skip


def hybrid_values(shape: Shape) -> dict[str, Any]:
    """What the config.json of a hybrid has besides that of a Qwen3."""
    assert shape.linear is not None
    linear = dataclasses.asdict(shape.linear)
    values = {"model_type": shape.model_type, **linear}
    values["layer_types"] = list(shape.linear.layer_types[: shape.num_hidden_layers])
    if shape.model_type == QWEN4:
        values |= _QWEN4_VALUES
    if shape.model_type == NEXT:
        values["partial_rotary_factor"] = shape.partial_rotary_factor
    else:
        values["rope_parameters"] = {
            "rope_type": "default",
            "rope_theta": shape.rope_theta,
            "partial_rotary_factor": shape.partial_rotary_factor,
            "mrope_interleaved": True,
            "mrope_section": [11, 11, 10],
        }
    if shape.experts is not None:
        width = shape.experts.shared_expert_intermediate_size
        values["shared_expert_intermediate_size"] = width
    return values


def linear_layers(shape: Shape) -> int:
    """How many layers of a shape have a gated delta net in place of attention."""
    types = () if shape.linear is None else shape.linear.layer_types[: shape.num_hidden_layers]
    return types.count(LINEAR)


def state_bytes(shape: Shape, bytes_per_value: int) -> int:
    """What the linear layers remember of each sequence, however long it is, in bytes.

    A convolution keeps its last inputs in the type of the weights; the recurrent state is float32.
    """
    if shape.linear is None:
        return 0
    linear = shape.linear
    recurrent = linear.linear_num_value_heads * linear.linear_key_head_dim
    recurrent *= 4 * linear.linear_value_head_dim
    conv = _conv_width(linear) * linear.linear_conv_kernel_dim * bytes_per_value
    return linear_layers(shape) * (recurrent + conv)


def mixer_parameters(shape: Shape) -> int:
    """The parameters of one gated delta net."""
    if shape.linear is None:
        return 0
    linear, hidden = shape.linear, shape.hidden_size
    values = linear.linear_num_value_heads * linear.linear_value_head_dim
    heads = 2 * linear.linear_num_value_heads
    projections = hidden * (_conv_width(linear) + values + heads) + values * hidden
    conv = linear.linear_conv_kernel_dim * _conv_width(linear)
    return projections + conv + heads + linear.linear_value_head_dim


def cut_inside_period(shape: Shape) -> str:
    """A line that says so where a shape was cut within a period of its pattern; else empty."""
    types = () if shape.linear is None else shape.linear.layer_types[: shape.num_hidden_layers]
    rest = len(types)
    attention = next((at for at, kind in enumerate(types) if kind != LINEAR), None)
    if attention is not None:
        rest %= attention + 1
    if not rest:
        return ""
    linear = types.count(LINEAR)
    return (
        f"{len(types)} layers are no whole periods of the model's pattern: {linear} are linear and "
        f"{len(types) - linear} attention, so their shares are not those of the whole model"
    )


def _conv_width(linear: LinearLayers) -> int:
    keys = linear.linear_num_key_heads * linear.linear_key_head_dim
    return 2 * keys + linear.linear_num_value_heads * linear.linear_value_head_dim
