"""Which part of our grammar a class of torch.nn modules is: who is attention, who is a norm.

What a stack of Qwen3 looks like in SGLang, and what it becomes (children of a layer get their part
by their class and by their place, since the trace knows no attribute names):

    Qwen3Model_0
      VocabParallelEmbedding_0                  embed_tokens
      Qwen3DecoderLayer_0                       layer.0
        RMSNorm_0                               layer.0.input_layernorm
        Qwen3Attention_0                        layer.0.attn
          QKVParallelLinear_0                   layer.0.attn.qkv_proj
          RMSNorm_1, RMSNorm_2                  layer.0.attn.q_norm, layer.0.attn.k_norm
          RotaryEmbedding_0                     layer.0.attn.rope
          RadixAttention_0                      layer.0.attn.attn_forward
          RowParallelLinear_0                   layer.0.attn.o_proj
        RMSNorm_3                               layer.0.post_attention_layernorm
        Qwen2MLP_0                              layer.0.ffn
          MergedColumnParallelLinear_0          layer.0.ffn.gate_up_proj
          SiluAndMul_0, RowParallelLinear_1     layer.0.ffn.act_fn, layer.0.ffn.down_proj
      RMSNorm_144                               norm
    LogitsProcessor_0                           lm_head

A module that no rule knows keeps its class name as its part. This module is pure: it sees classes
and their nesting, no times.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from qwen3_profile.passes.nn_modules.block_parts import (
    ATTENTION,
    CROSS,
    EXPERTS,
    FFN,
    LATENT,
    LINEAR,
    MIXER,
    MOE,
    NORM,
    ROTARY,
    ROUTER,
    Instance,
    Node,
    PartsOf,
    attention_parts,
    ffn_parts,
    fused_ffn_parts,
    instances,
    latent_attention_parts,
    mixer_parts,
    moe_parts,
    unwrapped,
)

_LAYER = re.compile(r"(Layer|Block)\d*$")
_SURE_LAYER = re.compile(r"(Decoder|Encoder)Layer$")
# BERT and its kin have two modules in place of one: Intermediate and Output.
_HALF_FFN = re.compile(r"(Intermediate|Output)$")
# Of these models the first of two linear layers is gate and up in one.
_FUSED_UP = re.compile(r"^(Phi3|Phi4|Glm)")
_EMBEDDING = re.compile(r"Embed")
_HEAD = re.compile(r"LogitsProcessor|LMHead$|MLMHead|PredictionHead")
_LM_MODEL = re.compile(r"CausalLM|LMHeadModel|ConditionalGeneration")
_MODEL = re.compile(r"(Model|Transformer|Encoder|Decoder|Stack)$")
_LEAF = re.compile(rf"{LINEAR.pattern}|{NORM.pattern}|{ROTARY.pattern}|^(Radix)?Attention$|Dropout")
_AFTER_MODEL = re.compile(r"LogitsProcessor|LMHead$|Sampler|Loss$")
_WRAPPER = re.compile(
    r"^(FullyShardedDataParallel|DistributedDataParallel|DataParallel|CheckpointWrapper"
    r"|OptimizedModule)$"
)
# Attention and feed-forward blocks are like layers inside, and hold a norm now and then.
_NO_LAYER = re.compile(rf"{ATTENTION.pattern}|{FFN.pattern}|{MIXER.pattern}|{NORM.pattern}")
_HOLDER = re.compile(rf"{_WRAPPER.pattern}|^(Sequential|ModuleList|ModuleDict)$")


def is_after_model(node: Node) -> bool:
    """Whether a call outside of a model belongs to the forward pass before it: head, sampler."""
    return bool(_AFTER_MODEL.search(node.kind))


def is_holder(node: Node) -> bool:
    """Whether a module merely holds others."""
    return bool(_HOLDER.search(node.kind))


def usual_depth(kind: str) -> int:
    """How deep modules of a class lie as a rule; tells who is outside where a clock cannot."""
    order = (_WRAPPER, _LM_MODEL, _MODEL, _LAYER, _LEAF)
    found = next((i for i, pattern in enumerate(order) if pattern.search(kind)), None)
    if found is not None:
        return found if order[found] is not _LEAF else 9
    return 4 if ATTENTION.search(kind) or FFN.search(kind) else 5


def find_layers(node: Node) -> tuple[Node, ...]:
    """The outermost decoder or encoder layers in `node`, or itself."""
    named = _LAYER.search(node.kind) and not FFN.search(node.kind)
    mixes = node.holds(ATTENTION) or node.holds(MIXER)
    if named and (_SURE_LAYER.search(node.kind) or mixes):
        return (node,)
    stacked = _stacked(node)
    return tuple(
        layer
        for child in node.children
        for layer in ((child,) if child.kind in stacked else find_layers(child))
    )


def _stacked(node: Node) -> set[str]:
    """The classes, whatever they are called, of which `node` calls several like a layer's."""
    seen: dict[str, set[Instance]] = {}
    for child in node.children:
        if not _NO_LAYER.search(child.kind) and _is_like_layer(child):
            seen.setdefault(child.kind, set()).add(child.instance)
    return {kind for kind, instances in seen.items() if len(instances) > 1}


def _is_like_layer(node: Node) -> bool:
    """Whether a norm lies beside a block that mixes tokens, or beside two with linear layers."""
    children = unwrapped(node.children, _WRAPPER)
    if not any(NORM.search(c.kind) for c in children):
        return False
    blocks = [c for c in children if not NORM.search(c.kind) and c.children]
    if any(ATTENTION.search(c.kind) or MIXER.search(c.kind) for c in blocks):
        return True
    return sum(len(_linears(c)) > 1 for c in blocks) > 1


def _linears(node: Node) -> list[Instance]:
    return instances(_inside([node]), LINEAR)


def _inside(nodes: Iterable[Node]) -> list[Node]:
    """All calls below these."""
    found: list[Node] = []
    for child in _children(nodes):
        found += [child, *_inside([child])]
    return found


def name_pass(roots: Sequence[Node], layer_of: dict[Instance, int]) -> dict[int, str]:
    """The label of each call of a forward pass, by `Node.index`; what has none is transparent.

    Args:
        roots: the outermost calls, in order.
        layer_of: the index of each layer that `find_layers` finds in them.
    """
    names: dict[int, str] = {}
    name_of: dict[Instance, str] = {}
    seen_layer = False
    for root in roots:
        if root.instance in name_of and root.instance not in layer_of:
            # It runs once more.
            again = ((call.index, name_of.get(call.instance)) for call in (root, *_inside([root])))
            names |= {index: name for index, name in again if name}
            continue
        seen_layer |= _name_model(root, "", layer_of, names, seen_layer, is_root=True)
        named = (call for call in _inside([root]) if call.index in names)
        name_of |= {call.instance: names[call.index] for call in named}
    return names


def _name_model(
    node: Node,
    parent: str,
    layer_of: dict[Instance, int],
    names: dict[int, str],
    after_layer: bool,
    *,
    is_root: bool = False,
) -> bool:
    """Names a call outside of the layers and all in it; whether a layer was among them."""
    layers = find_layers(node)
    if node.instance in layer_of:
        _name_layer(node, f"layer.{layer_of[node.instance]}", names)
        return True
    part = _model_part(node, parent, after_layer)
    if layers or (is_root and node.children and part == node.kind):
        # Containers are the forward pass itself: what they launch on their own is its `other`.
        found = False
        for child in node.children:
            found |= _name_model(child, node.kind, layer_of, names, after_layer or found)
        return found
    _name_below(node, _path("", part), names)
    return False


def _model_part(node: Node, parent: str, after_layer: bool) -> str:
    kind = node.kind
    if ROTARY.search(kind):
        return "rotary_emb"
    if _HEAD.search(kind):
        return "lm_head"
    if _EMBEDDING.search(kind) and not after_layer:
        return "embed_tokens"
    if NORM.search(kind) and after_layer:
        return "norm"
    if LINEAR.search(kind) and after_layer and _LM_MODEL.search(parent):
        return "lm_head"
    return kind


def _name_layer(layer: Node, name: str, names: dict[int, str]) -> None:
    names[layer.index] = name
    children = unwrapped(layer.children, _WRAPPER)
    attention, mixers, feed_forward, crossing = _blocks(children, layer.kind)
    before = "start"
    for child in children:
        if child in attention:
            names[child.index], before = f"{name}.attn", "attn"
        elif child in mixers:
            names[child.index], before = f"{name}.linear_attn", "attn"
        elif child in crossing:
            _name_below(child, f"{name}.cross_attn", names)
            before = "attn"
        elif child in feed_forward:
            names[child.index], before = f"{name}.ffn", "ffn"
        elif NORM.search(child.kind) and (attention or mixers):
            part, before = _norm_part(child, before)
            _name_below(child, _path(name, part), names)
        else:
            _name_below(child, _path(name, child.kind), names)
    for block in dict.fromkeys(block.instance for block in attention):
        same = [each for each in attention if each.instance == block]
        _name_parts(_inside_attention(same), f"{name}.attn", names, _attention_rule(same))
    _name_parts(unwrapped(_children(mixers), _HOLDER), f"{name}.linear_attn", names, mixer_parts)
    if any(_is_moe(block) for block in feed_forward):
        inside = unwrapped(_children(feed_forward), _HOLDER)
        _name_parts(inside, f"{name}.ffn", names, moe_parts)
    else:
        rule = _ffn_rule(feed_forward)
        _name_parts(_inside_ffn(feed_forward), f"{name}.ffn", names, rule)


def _attention_rule(blocks: Sequence[Node]) -> PartsOf:
    latent = any(LATENT.search(block.kind) or block.holds(LATENT) for block in blocks)
    return latent_attention_parts if latent else attention_parts


def _ffn_rule(blocks: Sequence[Node]) -> PartsOf:
    return fused_ffn_parts if any(_FUSED_UP.search(b.kind) for b in blocks) else ffn_parts


def _blocks(
    children: Sequence[Node], layer: str
) -> tuple[list[Node], list[Node], list[Node], list[Node]]:
    """Who of a layer's children is self-attention, a mixer in its place, feed-forward, and
    attention to what another model has read.
    """
    others = [c for c in children if not NORM.search(c.kind)]
    mixers = [c for c in others if MIXER.search(c.kind)]
    found = [c for c in others if ATTENTION.search(c.kind) and c not in mixers]
    rest = [c for c in others if c not in found and c not in mixers]
    feed_forward = [c for c in rest if FFN.search(c.kind) or _HALF_FFN.search(c.kind)]
    if not feed_forward:
        # By what they hold, whatever they are called: the one behind attention, else the last.
        holders = [c for c in rest if c.holds(LINEAR) or c.holds(EXPERTS)]
        if not found and not mixers and len({c.instance for c in holders}) > 1:
            found = [c for c in holders if c.instance == holders[0].instance]
        after = [c for c in holders if c not in found]
        feed_forward = [c for c in after if c.instance == after[-1].instance]
    crossing = [c for c in found if _crosses(c, found, feed_forward, layer)]
    return [c for c in found if c not in crossing], mixers, feed_forward, crossing


def _crosses(
    block: Node, attention: Sequence[Node], feed_forward: Sequence[Node], layer: str
) -> bool:
    """Whether attention is to what an encoder has read: by its name, or in a decoder the second
    one in front of the feed-forward block.
    """
    if CROSS.search(block.kind) or block.holds(CROSS):
        return True
    first = attention[0]
    if "Decoder" not in layer or block.instance == first.instance:
        return False
    return not any(first.index < each.index < block.index for each in feed_forward)


def _norm_part(norm: Node, before: str) -> tuple[str, str]:
    """What a norm of a layer is, from what came before it; and what the next norm comes after."""
    return {
        "start": ("input_layernorm", "start norm"),
        "attn": ("post_attention_layernorm", "attn norm"),
        "attn norm": ("pre_feedforward_layernorm", "attn norms"),
        "ffn": ("post_feedforward_layernorm", "ffn norm"),
    }.get(before, (norm.kind, before))


def _inside_attention(blocks: Sequence[Node]) -> list[Node]:
    """The parts of attention; modules that merely hold projections are looked through."""
    found: list[Node] = []
    for child in unwrapped(_children(blocks), _HOLDER):
        holder = ATTENTION.search(child.kind) or _HALF_FFN.search(child.kind)
        if holder and any(LINEAR.search(c.kind) for c in child.children):
            found += _inside_attention([child])
        else:
            found.append(child)
    return found


def _inside_ffn(blocks: Sequence[Node]) -> list[Node]:
    found: list[Node] = []
    for child in unwrapped(_children(blocks), _HOLDER):
        found += _inside_ffn([child]) if FFN.search(child.kind) else [child]
    return found


def _is_moe(block: Node) -> bool:
    return bool(MOE.search(block.kind)) or any(
        ROUTER.search(c.kind) or EXPERTS.search(c.kind) for c in block.children
    )


def _name_parts(calls: Sequence[Node], name: str, names: dict[int, str], parts_of: PartsOf) -> None:
    parts = parts_of(calls)
    for call in calls:
        _name_below(call, _path(name, parts.get(call.instance, call.kind)), names)


def _name_below(node: Node, name: str, names: dict[int, str]) -> None:
    """Names a call, and the calls in it by their classes."""
    names[node.index] = name
    for child in unwrapped(node.children, _HOLDER):
        _name_below(child, _path(name, child.kind), names)


def _path(name: str, part: str) -> str:
    part = part.replace(".", "_")
    return f"{name}.{part}" if name else part


def _children(nodes: Iterable[Node]) -> tuple[Node, ...]:
    return tuple(child for node in nodes for child in node.children)
