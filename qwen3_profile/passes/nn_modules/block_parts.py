"""The modules inside attention and feed-forward blocks: which projection, norm or expert each is.

The trace knows classes and order, no attribute names: of four linear layers in attention the first
three are q, k, v and the last is o. Where the count fits no known model, a module has no part here
and keeps its class name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

# A class and its number: Kineto numbers the instances of each class by their first call.
Instance = tuple[str, int]

ATTENTION = re.compile(r"Attention|Attn")
# What mixes tokens in place of attention.
MIXER = re.compile(r"Delta(Net|Rule)|Linear(Attention|Attn)|Mamba|RWKV|ShortConv")
MOE = re.compile(r"M[oO][eE](Block|Layer)?$|SparseM[oO][eE]")
FFN = re.compile(
    rf"(MLP|Mlp)(Block)?$|FeedForward|FFN|LayerFF$|{MOE.pattern}"
    r"|DenseActDense$|DenseGatedActDense$"
)
CROSS = re.compile(r"Cross|EncDec|EncoderDecoder")
ROUTER = re.compile(r"Gate$|Router|Gating")
EXPERTS = re.compile(r"FusedMoE|Experts")
NORM = re.compile(r"Norm")
LINEAR = re.compile(r"Linear(?!\w*(Attention|Attn|Layer$|Block$))|^Conv1D$")
ROTARY = re.compile(r"Rotary|RoPE|Rope")
# Attention whose keys and values come from a latent has other projections than q, k, v.
LATENT = re.compile(r"MLA|Deep[sS]eek|MiniCPM3|Kimi")
_ACTIVATION = re.compile(r"SiLU|Silu|Swish|GELU|Gelu|ReLU|Activation|ActFn|SwiGLU|Tanh$")

# What lies between two parts, as `PartSpec.then` says of our own labels. Functions have no modules,
# so attention itself is a gap, and what a fused norm or projection has done must not be named.
_GAPS: dict[tuple[str, str, str | None], str] = {
    ("layer", "attn", "post_attention_layernorm"): "residual_attn",
    ("layer", "ffn", None): "residual_ffn",
    ("attn", "v_proj", "o_proj"): "attn_core",
    ("attn", "k_norm", "o_proj"): "attn_core",
    ("attn", "qkv_proj", "o_proj"): "attn_core",
    ("attn", "rope", "o_proj"): "attn_core",
    ("ffn", "up_proj", "down_proj"): "act_mul",
    ("ffn", "act_fn", "down_proj"): "act_mul",
}


# How many projections a gated delta net has -> what they are, but for the last one.
_MIXER_INPUTS = {
    3: ("in_proj_qkvz", "in_proj_ba"),
    5: ("in_proj_qkv", "in_proj_z", "in_proj_b", "in_proj_a"),
}


@dataclass(frozen=True, slots=True)
class Node:
    """One call of a module and the calls inside it, in order."""

    index: int
    instance: Instance
    children: tuple[Node, ...]

    @property
    def kind(self) -> str:
        return self.instance[0]

    def holds(self, pattern: re.Pattern[str]) -> bool:
        """Whether a module anywhere inside has a class that matches."""
        return any(pattern.search(c.kind) or c.holds(pattern) for c in self.children)


PartsOf = Callable[[Sequence[Node]], dict[Instance, str]]


def attention_parts(calls: Sequence[Node]) -> dict[Instance, str]:
    """The part of each module in attention, by its class, and the linear layers' by their count."""
    linears = instances(calls, LINEAR)
    parts = {i: "qkv_proj" for i in linears if "QKV" in i[0] or "MergedColumn" in i[0]}
    parts |= {i: "o_proj" for i in linears if "RowParallel" in i[0]}
    rest = [i for i in linears if i not in parts]
    known = set(parts.values())
    # Without a class of its own, o is the last of q, k, v, o; of qkv, o; or the one next to qkv.
    if "o_proj" not in known and len(rest) in ((1,) if "qkv_proj" in known else (2, 4)):
        parts[rest.pop()] = "o_proj"
    if len(rest) == 3 and "qkv_proj" not in known:
        parts |= dict(zip(rest, ("q_proj", "k_proj", "v_proj"), strict=True))
    elif len(rest) == 1 and "o_proj" in parts.values() and "qkv_proj" not in known:
        parts[rest[0]] = "qkv_proj"
    norms = instances(calls, NORM)
    if len(norms) == 2 and {"qkv_proj", "q_proj"} & set(parts.values()):
        parts |= dict(zip(norms, ("q_norm", "k_norm"), strict=True))
    return parts | _functions(calls)


def latent_attention_parts(calls: Sequence[Node]) -> dict[Instance, str]:
    """As `attention_parts`, where keys and values come from a latent: no q, k, v by their order."""
    parts = {i: "o_proj" for i in instances(calls, LINEAR) if "RowParallel" in i[0]}
    return parts | _functions(calls)


def mixer_parts(calls: Sequence[Node]) -> dict[Instance, str]:
    """The part of each module in a gated delta net, whose projections are told by their count."""
    linears = instances(calls, LINEAR)
    parts = {i: "out_proj" for i in linears if "RowParallel" in i[0]}
    rest = [i for i in linears if i not in parts]
    if "out_proj" not in parts.values() and len(rest) in _MIXER_INPUTS:
        parts[rest.pop()] = "out_proj"
    names = _MIXER_INPUTS.get(len(rest) + 1, ())
    if names:
        parts |= dict(zip(rest, names, strict=True))
    norms = instances(calls, NORM)
    if len(norms) == 1:
        parts[norms[0]] = "gated_norm"
    parts |= dict.fromkeys(instances(calls, re.compile(r"^Conv1d$")), "conv1d")
    return parts | dict.fromkeys(instances(calls, MIXER), "delta_rule")


def ffn_parts(calls: Sequence[Node]) -> dict[Instance, str]:
    """The part of each module in a dense feed-forward block."""
    linears = instances(calls, LINEAR)
    parts = {i: "gate_up_proj" for i in linears if "MergedColumn" in i[0]}
    parts |= {i: "down_proj" for i in linears if "RowParallel" in i[0]}
    rest = [i for i in linears if i not in parts]
    if "down_proj" not in parts.values() and rest and len(linears) in (2, 3):
        parts[rest.pop()] = "down_proj"
    if len(rest) == 2:
        parts |= dict(zip(rest, ("gate_proj", "up_proj"), strict=True))
    elif len(rest) == 1 and "down_proj" in parts.values():
        parts[rest[0]] = "up_proj"
    return parts | dict.fromkeys(instances(calls, _ACTIVATION), "act_fn")


def fused_ffn_parts(calls: Sequence[Node]) -> dict[Instance, str]:
    """As `ffn_parts`, for models whose first of two linear layers is gate and up in one."""
    return {i: "gate_up_proj" if p == "up_proj" else p for i, p in ffn_parts(calls).items()}


def moe_parts(calls: Sequence[Node]) -> dict[Instance, str]:
    """The part of each module in a mixture of experts."""
    parts = dict.fromkeys(instances(calls, ROUTER), "router")
    parts |= dict.fromkeys(instances(calls, EXPERTS), "experts")
    if "router" not in parts.values():
        # A plain linear layer in front of the experts chooses among them.
        first = [call for call in calls if not NORM.search(call.kind)][:1]
        parts |= dict.fromkeys(instances(first, LINEAR), "router")
    linears = [i for i in instances(calls, LINEAR) if i not in parts]
    if {"router", "experts"} <= set(parts.values()) and len(linears) == 1:
        parts[linears[0]] = "shared_expert_gate"
    # Beside fused experts a whole MLP is the one that every token visits.
    mlp = "shared_experts" if "experts" in parts.values() else "experts"
    return parts | {i: mlp for i in instances(calls, FFN) if i not in parts}


def module_gap_name(kind: str, before: str, after: str | None) -> str | None:
    """What the ops between two modules are called; as `labels.gap_name`.

    `attn_core` is all between the projections and `o_proj`: rope, cache and attention itself.
    """
    return _GAPS.get((kind, before, after))


def instances(calls: Iterable[Node], pattern: re.Pattern[str]) -> list[Instance]:
    """The distinct modules among `calls` whose class matches, in the order of their first call."""
    return list(dict.fromkeys(c.instance for c in calls if pattern.search(c.kind)))


def unwrapped(nodes: Iterable[Node], wrapper: re.Pattern[str]) -> tuple[Node, ...]:
    """`nodes`, with the contents of those in place of them that only hold others."""
    found: list[Node] = []
    for node in nodes:
        inside = node.children if wrapper.search(node.kind) else ()
        found += unwrapped(inside, wrapper) if inside else (node,)
    return tuple(found)


def _functions(calls: Sequence[Node]) -> dict[Instance, str]:
    """What a model of transformers does in functions, and serving engines in modules."""
    parts = dict.fromkeys(instances(calls, ROTARY), "rope")
    return parts | dict.fromkeys(instances(calls, ATTENTION), "attn_forward")
