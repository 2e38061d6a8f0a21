"""The one table of parts: what a decoder consists of, how each part is found, what lies between.

A new part is one row here, and a new block of a layer is a row with rows that name it as their
block: labels, instruments, compiled graphs, order, gaps and colours follow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache


@dataclass(frozen=True, slots=True)
class PartSpec:
    """A part of a model, and how it is found in one.

    block: what it lies in: "phase" for the forward pass itself, "layer", or a block of a layer;
        "leaf" for what any part may be made of, such as one that an adapter was put round.
    family: its colour; parts of a block have that of the block.
    modules: attributes that models have it under, besides its own name.
    functions: what it is called by where it is no module: names in the source of its block.
    frames: functions or files, as patterns, that nodes of compiled graphs have besides.
    required: every Qwen3 has it; other models may lack it.
    only: "dense" or "moe" where only such a feed-forward block has it.
    then: the next label in its container -> what the ops between them are called. None is the
        container's end, "*" any label and the end.
    """

    name: str
    block: str
    family: str = ""
    modules: tuple[str, ...] = ()
    functions: tuple[str, ...] = ()
    frames: tuple[str, ...] = ()
    required: bool = False
    only: str = ""
    then: Mapping[str | None, str] = field(default_factory=dict)

    @property
    def is_function(self) -> bool:
        """Whether it is found as a function."""
        return bool(self.functions or self.frames)

    @property
    def path(self) -> str:
        """Its name in any layer, such as `attn.rope`."""
        return self.name if self.block in ("phase", "layer") else f"{self.block}.{self.name}"


@dataclass(frozen=True, slots=True)
class Gap:
    """What lies between labels, by the name that `PartSpec.then` gives it."""

    name: str
    block: str
    family: str = ""


_ENDINGS = {"norm": "norms", "attn": "attention"}
_SPLIT: Mapping[str | None, str] = {"*": "split_heads"}
_MERGE: Mapping[str | None, str] = {"o_proj": "merge_heads", "dense": "merge_heads"}
_MASKS = ("create_causal_mask", "create_sliding_window_causal_mask", "create_chunked_causal_mask")
_ROPES = ("apply_rotary_pos_emb", "apply_rotary_pos_emb_interleave")

# In the order in which a forward pass comes by them; the code of transformers 4.51 to 5.x. What is
# not required is of other decoders, under the names of their own modules.
PARTS: tuple[PartSpec | Gap, ...] = (
    PartSpec("embed_tokens", "phase", "embedding", required=True, then={"*": "positions"}),
    Gap("positions", "phase", "embedding"),
    PartSpec("causal_mask", "phase", "embedding", functions=_MASKS,
             frames=("masking_utils.py", "_update_causal_mask"), then={"*": "positions"}),
    PartSpec("rotary_emb", "phase", "embedding", modules=("rotary_emb_local",), required=True),
    PartSpec("input_layernorm", "layer", "norms", required=True),
    PartSpec("attn", "layer", "attention", modules=("self_attn",), required=True,
             then={"*": "residual_attn"}),
    PartSpec("q_a_proj", "attn"),
    PartSpec("q_a_layernorm", "attn"),
    PartSpec("q_b_proj", "attn"),
    PartSpec("kv_a_proj_with_mqa", "attn"),
    PartSpec("kv_a_layernorm", "attn"),
    PartSpec("kv_b_proj", "attn"),
    PartSpec("qkv_proj", "attn", then=_SPLIT),
    PartSpec("q_proj", "attn", required=True, then=_SPLIT),
    PartSpec("q_norm", "attn", required=True, then=_SPLIT),
    PartSpec("q_layernorm", "attn"),
    PartSpec("k_proj", "attn", required=True, then=_SPLIT),
    PartSpec("k_norm", "attn", required=True, then=_SPLIT),
    PartSpec("k_layernorm", "attn"),
    PartSpec("v_proj", "attn", required=True, then=_SPLIT),
    Gap("split_heads", "attn"),
    PartSpec("rope", "attn", functions=_ROPES, required=True),
    PartSpec("kv_cache", "attn", frames=("cache_utils.py",), required=True),
    PartSpec("attn_forward", "attn", functions=("eager_attention_forward",),
             frames=("*attention_forward",), required=True, then=_MERGE),
    Gap("merge_heads", "attn"),
    PartSpec("o_proj", "attn", required=True),
    PartSpec("dense", "attn"),
    Gap("residual_attn", "layer", "attention"),
    # Decoders that also norm what a block puts out add behind that norm.
    PartSpec("post_attention_layernorm", "layer", "norms", required=True,
             then={"pre_feedforward_layernorm": "residual_attn"}),
    PartSpec("post_self_attn_layernorm", "layer", "norms", then={"*": "residual_attn"}),
    PartSpec("pre_feedforward_layernorm", "layer", "norms"),
    PartSpec("ffn", "layer", "ffn", modules=("mlp", "block_sparse_moe", "feed_forward"),
             required=True, then={"*": "residual_ffn"}),
    PartSpec("router", "ffn", modules=("gate",), required=True, only="moe", then={"*": "routing"}),
    Gap("routing", "ffn"),
    PartSpec("experts", "ffn", required=True, only="moe",
             then={"experts": "routing", None: "combine"}),
    PartSpec("shared_experts", "ffn", modules=("shared_expert",), only="moe"),
    PartSpec("shared_expert_gate", "ffn", only="moe", then={None: "combine"}),
    Gap("combine", "ffn"),
    PartSpec("gate_up_proj", "ffn"),
    PartSpec("gate_proj", "ffn", required=True, only="dense"),
    PartSpec("c_fc", "ffn"),
    PartSpec("fc1", "ffn"),
    PartSpec("act_fn", "ffn", modules=("activation_fn", "act"), required=True, only="dense",
             then={"down_proj": "act_mul"}),
    PartSpec("up_proj", "ffn", required=True, only="dense", then={"down_proj": "act_mul"}),
    Gap("act_mul", "ffn"),
    PartSpec("down_proj", "ffn", required=True, only="dense"),
    PartSpec("c_proj", "ffn"),
    PartSpec("fc2", "ffn"),
    Gap("residual_ffn", "layer", "ffn"),
    PartSpec("post_feedforward_layernorm", "layer", "norms", then={None: "residual_ffn"}),
    PartSpec("post_mlp_layernorm", "layer", "norms", then={None: "residual_ffn"}),
    PartSpec("norm", "phase", "norms", modules=("final_layernorm",), required=True,
             then={"lm_head": "select_last"}),
    Gap("select_last", "phase", "head"),
    PartSpec("lm_head", "phase", "head", required=True),
    # What no module and no function of the model makes up.
    PartSpec("sample", "phase", "head"),
    PartSpec("loss", "phase", "head"),
    PartSpec("backward", "phase", "other"),
    # Of a part round which peft put adapters: what it was, and theirs.
    PartSpec("base", "leaf", modules=("base_layer",), then={"lora_A": "lora_input"}),
    Gap("lora_input", "leaf"),
    PartSpec("lora_A", "leaf"),
    PartSpec("lora_B", "leaf", then={"*": "lora_add"}),
    Gap("lora_add", "leaf"),
    # Of a Linear of packed weights, told by its operators.
    PartSpec("quantise", "leaf"),
    PartSpec("gemm", "leaf"),
    PartSpec("dequantise", "leaf"),
)  # fmt: skip


def parts(block: str, kind: str | None = None) -> tuple[PartSpec, ...]:
    """The parts that lie in `block`; of a feed-forward block "dense" or "moe" ones, or all."""
    inside = (row for row in PARTS if isinstance(row, PartSpec) and row.block == block)
    return tuple(row for row in inside if kind is None or row.only in ("", kind))


@cache
def part_names(block: str) -> frozenset[str]:
    """The names of all parts that may lie in `block`."""
    return frozenset(part.name for part in parts(block))


def required_parts(block: str, kind: str = "dense") -> tuple[str, ...]:
    """The names of the parts that this block of every Qwen3 has."""
    return tuple(part.name for part in parts(block, kind) if part.required)


@cache
def blocks() -> dict[str, PartSpec]:
    """The parts of a layer that have parts, by name."""
    return {part.name: part for part in parts("layer") if part_names(part.name)}


@cache
def pieces() -> frozenset[str]:
    """The names of what a part may be made of, gaps too."""
    return frozenset(row.name for row in PARTS if row.block == "leaf")


def stages() -> tuple[str, ...]:
    """What a Linear of packed weights does, in its order."""
    return ("quantise", "gemm", "dequantise")


@cache
def family_of(name: str) -> str:
    """The family of a part or gap outside of blocks; of what is not in the table by its ending."""
    found = {row.name: row.family for row in PARTS if row.block in ("phase", "layer")}
    ending = next((f for end, f in _ENDINGS.items() if name.endswith(end)), "")
    return found.get(name, ending)


@cache
def places() -> dict[tuple[str, str], int]:
    """(block, name) -> where in the table a row stands."""
    return {(row.block, row.name): at for at, row in enumerate(PARTS)}


@cache
def gaps() -> dict[tuple[str, str, str | None], str]:
    """(container, part before, next label as in `PartSpec.then`) -> name of what lies between."""
    return {
        (row.block, row.name, after): gap
        for row in PARTS
        if isinstance(row, PartSpec)
        for after, gap in row.then.items()
    }
