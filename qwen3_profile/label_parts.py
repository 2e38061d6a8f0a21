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
    functions: what it is called by where it is no module: names in the source of its block, or
        attributes of its block.
    methods: of the cache of transformers.
    package: what transformers takes its functions from where it is there; it has slow ones too.
    frames: functions or files, as patterns, that nodes of compiled graphs have besides.
    ops: operations in its block, outside of all its other parts, that are it in compiled graphs.
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
    methods: tuple[str, ...] = ()
    package: str = ""
    frames: tuple[str, ...] = ()
    ops: tuple[str, ...] = ()
    required: bool = False
    only: str = ""
    then: Mapping[str | None, str] = field(default_factory=dict)

    @property
    def is_function(self) -> bool:
        """Whether it is found as a function."""
        return bool(self.functions or self.methods or self.frames)

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
_MASKS = (
    "create_causal_mask", "create_sliding_window_causal_mask", "create_chunked_causal_mask",
    "create_recurrent_attention_mask",
)  # fmt: skip
_ROPES = ("apply_rotary_pos_emb", "apply_rotary_pos_emb_interleave")
# As transformers 5 calls them, and 4 and the package that they are from.
_DELTA_RULES = (
    "torch_chunk_gated_delta_rule", "torch_recurrent_gated_delta_rule",
    "chunk_gated_delta_rule", "recurrent_gated_delta_rule", "fused_recurrent_gated_delta_rule",
)  # fmt: skip
_CACHE_FILE = ("cache_utils.py",)

# In the order in which a forward pass comes by them; the code of transformers 4.51 to 5.x. What is
# not required is of other decoders, under the names of their own modules.
PARTS: tuple[PartSpec | Gap, ...] = (
    PartSpec("embed_tokens", "phase", "embedding", required=True, then={"*": "positions"}),
    Gap("positions", "phase", "embedding"),
    PartSpec("causal_mask", "phase", "embedding", functions=_MASKS,
             frames=("masking_utils.py", "_update_causal_mask"), then={"*": "positions"}),
    PartSpec("rotary_emb", "phase", "embedding", modules=("rotary_emb_local",), required=True),
    # What a layer adds to its input, and what mixes the streams that it has in place of one.
    PartSpec("ple", "layer", "embedding", then={"*": "residual_ple"}),
    Gap("residual_ple", "layer", "embedding"),
    PartSpec("attn_hyper_connection", "layer", "norms"),
    # Without a label for what mixes its tokens, a layer is one whose mixer nobody knew.
    PartSpec("input_layernorm", "layer", "norms", required=True,
             then={"post_attention_layernorm": "linear_attn"}),
    PartSpec("attn", "layer", "attention", modules=("self_attn",), required=True,
             then={"*": "residual_attn"}),
    PartSpec("q_a_proj", "attn"),
    PartSpec("q_a_layernorm", "attn"),
    PartSpec("q_b_proj", "attn"),
    PartSpec("kv_a_proj_with_mqa", "attn"),
    PartSpec("kv_a_layernorm", "attn"),
    PartSpec("kv_b_proj", "attn"),
    PartSpec("indexer", "attn", then={"*": "index_mask"}),
    Gap("index_mask", "attn"),
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
    PartSpec("kv_cache", "attn", methods=("update",), frames=_CACHE_FILE, required=True),
    PartSpec("attn_forward", "attn", functions=("eager_attention_forward",),
             frames=("*attention_forward",), required=True, then=_MERGE),
    Gap("merge_heads", "attn"),
    # Of gated attention, between the core and the last projection: an empty label says that it is.
    PartSpec("output_gate", "attn", ops=("aten.sigmoid.default",), then={"*": "output_gate"}),
    PartSpec("o_proj", "attn", required=True),
    PartSpec("dense", "attn"),
    # A gated delta net, which some layers have in place of attention.
    PartSpec("linear_attn", "layer", "attention", then={"*": "residual_attn"}),
    PartSpec("mask_padding", "linear_attn", functions=("apply_mask_to_padding_states",)),
    PartSpec("in_proj_qkvz", "linear_attn", then=_SPLIT),
    PartSpec("in_proj_ba", "linear_attn", then=_SPLIT),
    PartSpec("in_proj_qkv", "linear_attn", then=_SPLIT),
    PartSpec("in_proj_z", "linear_attn", then=_SPLIT),
    PartSpec("in_proj_b", "linear_attn", then=_SPLIT),
    PartSpec("in_proj_a", "linear_attn", then=_SPLIT),
    Gap("split_heads", "linear_attn"),
    PartSpec("state_cache", "linear_attn", methods=("update_conv_state", "update_recurrent_state"),
             frames=_CACHE_FILE, then={"conv1d": "split_heads", "*": "merge_heads"}),
    PartSpec("conv1d", "linear_attn", functions=("causal_conv1d_fn", "causal_conv1d_update"),
             package="causal-conv1d", then={"*": "gates"}),
    Gap("gates", "linear_attn"),
    PartSpec("delta_rule", "linear_attn", functions=_DELTA_RULES,
             package="flash-linear-attention", then={"*": "merge_heads"}),
    # Not called as its module is: tables that sum parts by name must not add it to the last norm.
    PartSpec("gated_norm", "linear_attn", modules=("norm",), then={"*": "merge_heads"}),
    Gap("merge_heads", "linear_attn"),
    PartSpec("out_proj", "linear_attn"),
    Gap("residual_attn", "layer", "attention"),
    # Decoders that also norm what a block puts out add behind that norm.
    PartSpec("post_attention_layernorm", "layer", "norms", required=True,
             then={"pre_feedforward_layernorm": "residual_attn"}),
    PartSpec("post_self_attn_layernorm", "layer", "norms", then={"*": "residual_attn"}),
    PartSpec("pre_feedforward_layernorm", "layer", "norms"),
    PartSpec("mlp_hyper_connection", "layer", "norms"),
    PartSpec("ffn", "layer", "ffn", modules=("mlp", "block_sparse_moe", "feed_forward"),
             required=True, then={"*": "residual_ffn"}),
    PartSpec("router", "ffn", modules=("gate",), required=True, only="moe", then={"*": "routing"}),
    Gap("routing", "ffn"),
    PartSpec("experts", "ffn", required=True, only="moe",
             then={"experts": "routing", "shared_experts": "combine", None: "combine"}),
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
    PartSpec("hyper_connection_mixer", "phase", "norms", then={"lm_head": "select_last"}),
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
def packages() -> dict[str, str]:
    """Path of a part -> the package that transformers takes its functions from."""
    return {r.path: r.package for r in PARTS if isinstance(r, PartSpec) and r.package}


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
