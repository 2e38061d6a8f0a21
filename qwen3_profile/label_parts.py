"""The one table of parts: what a decoder consists of, how each part is found, what lies between.

A new part is one row here, and a new block of a layer is a row with rows that name it as their
block: labels, instruments, compiled graphs, order, gaps and colours follow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a model, and how it is found in one.

    block: what it lies in: "phase" for the forward pass itself, "layer", or a block of a layer.
    family: its colour; parts of a block have that of the block.
    modules: attributes that models have it under, beside its own name.
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
    """What lies between labels, by the name that `Part.then` gives it."""

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
PARTS: tuple[Part | Gap, ...] = (
    Part("embed_tokens", "phase", "embedding", required=True, then={"*": "positions"}),
    Gap("positions", "phase", "embedding"),
    Part("causal_mask", "phase", "embedding", functions=_MASKS,
         frames=("masking_utils.py", "_update_causal_mask"), then={"*": "positions"}),
    Part("rotary_emb", "phase", "embedding", modules=("rotary_emb_local",), required=True),
    Part("input_layernorm", "layer", "norms", required=True),
    Part("attn", "layer", "attention", modules=("self_attn",), required=True,
         then={"*": "residual_attn"}),
    Part("q_a_proj", "attn"),
    Part("q_a_layernorm", "attn"),
    Part("q_b_proj", "attn"),
    Part("kv_a_proj_with_mqa", "attn"),
    Part("kv_a_layernorm", "attn"),
    Part("kv_b_proj", "attn"),
    Part("qkv_proj", "attn", then=_SPLIT),
    Part("q_proj", "attn", required=True, then=_SPLIT),
    Part("q_norm", "attn", required=True, then=_SPLIT),
    Part("q_layernorm", "attn"),
    Part("k_proj", "attn", required=True, then=_SPLIT),
    Part("k_norm", "attn", required=True, then=_SPLIT),
    Part("k_layernorm", "attn"),
    Part("v_proj", "attn", required=True, then=_SPLIT),
    Gap("split_heads", "attn"),
    Part("rope", "attn", functions=_ROPES, required=True),
    Part("kv_cache", "attn", frames=("cache_utils.py",), required=True),
    Part("attn_forward", "attn", functions=("eager_attention_forward",),
         frames=("*attention_forward",), required=True, then=_MERGE),
    Gap("merge_heads", "attn"),
    Part("o_proj", "attn", required=True),
    Part("dense", "attn"),
    Gap("residual_attn", "layer", "attention"),
    # Decoders that also norm what a block puts out add behind that norm.
    Part("post_attention_layernorm", "layer", "norms", required=True,
         then={"pre_feedforward_layernorm": "residual_attn"}),
    Part("post_self_attn_layernorm", "layer", "norms", then={"*": "residual_attn"}),
    Part("pre_feedforward_layernorm", "layer", "norms"),
    Part("ffn", "layer", "ffn", modules=("mlp", "block_sparse_moe", "feed_forward"), required=True,
         then={"*": "residual_ffn"}),
    Part("router", "ffn", modules=("gate",), required=True, only="moe", then={"*": "routing"}),
    Gap("routing", "ffn"),
    Part("experts", "ffn", required=True, only="moe",
         then={"experts": "routing", None: "combine"}),
    Part("shared_experts", "ffn", modules=("shared_expert",), only="moe"),
    Part("shared_expert_gate", "ffn", only="moe", then={None: "combine"}),
    Gap("combine", "ffn"),
    Part("gate_up_proj", "ffn"),
    Part("gate_proj", "ffn", required=True, only="dense"),
    Part("c_fc", "ffn"),
    Part("fc1", "ffn"),
    Part("act_fn", "ffn", modules=("activation_fn", "act"), required=True, only="dense",
         then={"down_proj": "act_mul"}),
    Part("up_proj", "ffn", required=True, only="dense", then={"down_proj": "act_mul"}),
    Gap("act_mul", "ffn"),
    Part("down_proj", "ffn", required=True, only="dense"),
    Part("c_proj", "ffn"),
    Part("fc2", "ffn"),
    Gap("residual_ffn", "layer", "ffn"),
    Part("post_feedforward_layernorm", "layer", "norms", then={None: "residual_ffn"}),
    Part("post_mlp_layernorm", "layer", "norms", then={None: "residual_ffn"}),
    Part("norm", "phase", "norms", modules=("final_layernorm",), required=True,
         then={"lm_head": "select_last"}),
    Gap("select_last", "phase", "head"),
    Part("lm_head", "phase", "head", required=True),
    # What no module and no function of the model makes up.
    Part("sample", "phase", "head"),
    Part("loss", "phase", "head"),
    Part("backward", "phase", "other"),
)  # fmt: skip


def parts(block: str, kind: str | None = None) -> tuple[Part, ...]:
    """The parts that lie in `block`; of a feed-forward block "dense" or "moe" ones, or all."""
    inside = (row for row in PARTS if isinstance(row, Part) and row.block == block)
    return tuple(row for row in inside if kind is None or row.only in ("", kind))


@cache
def part_names(block: str) -> frozenset[str]:
    """The names of all parts that may lie in `block`."""
    return frozenset(part.name for part in parts(block))


def required_parts(block: str, kind: str = "dense") -> tuple[str, ...]:
    """The names of the parts that this block of every Qwen3 has."""
    return tuple(part.name for part in parts(block, kind) if part.required)


@cache
def blocks() -> dict[str, Part]:
    """The parts of a layer that have parts, by name."""
    return {part.name: part for part in parts("layer") if part_names(part.name)}


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
    """(container, part before, next label as in `Part.then`) -> name of what lies between."""
    return {
        (row.block, row.name, after): gap
        for row in PARTS
        if isinstance(row, Part)
        for after, gap in row.then.items()
    }
