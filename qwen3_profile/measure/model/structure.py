"""A causal language model of transformers in, its parts by our names out. Nothing is wrapped here.

Most decoders of transformers call their modules alike:

    model.embed_tokens, model.rotary_emb, model.norm, lm_head
    model.layers[7].input_layernorm, .self_attn, .post_attention_layernorm, .mlp
    self_attn.q_proj, .q_norm, ...        mlp.gate_proj, ...        mlp.gate, mlp.experts

A part that a model has is a label; one that it lacks (Llama has no q_norm) is not missed; a module
that has no name here is told, because its time is in the row above it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from qwen3_profile.errors import ModelError
from qwen3_profile.labels import (
    ATTN_PARTS,
    DENSE_FFN_PARTS,
    FUSED_PARTS,
    LAYER_PARTS,
    MOE_FFN_PARTS,
    OTHER_NORMS,
    OTHER_PARTS,
)

_ATTN, _FFN = FUSED_PARTS["attn"] + OTHER_PARTS["attn"], FUSED_PARTS["ffn"] + OTHER_PARTS["ffn"]


def _same(*names: str) -> dict[str, str]:
    return {name: name for name in names}


# Kind of owner -> attribute -> part. A plain name stands for itself.
_PARTS = {
    "model": _same("lm_head"),
    "decoder": _same("embed_tokens", "rotary_emb", "norm")
    | {"rotary_emb_local": "rotary_emb", "final_layernorm": "norm"},
    "layer": _same(*LAYER_PARTS, *OTHER_NORMS)
    | {"self_attn": "attn", "mlp": "ffn", "block_sparse_moe": "ffn", "feed_forward": "ffn"},
    "attn": _same(*ATTN_PARTS, *_ATTN),
    "ffn": _same(*DENSE_FFN_PARTS, *_FFN) | {"activation_fn": "act_fn", "act": "act_fn"},
    "moe": _same(*MOE_FFN_PARTS, *_FFN) | {"gate": "router", "shared_expert": "shared_experts"},
}
# What does nothing when a model is served.
_IDLE = (nn.Dropout, nn.Identity)
_WRAPPERS = ("model", "language_model")


@dataclass(frozen=True, slots=True)
class Decoder:
    """The stack of layers in a model, and the module whose forward runs through them."""

    stack: nn.Module
    layers: nn.ModuleList


@dataclass(frozen=True, slots=True)
class PartModule:
    """A part of a model: its name in the grammar, and the module or modules that it is made of."""

    part: str
    modules: tuple[nn.Module, ...]


def find_decoder(model: nn.Module) -> Decoder:
    """The decoder of a causal language model, of its base model, or inside a multimodal one.

    Raises:
        ModelError: there are no decoder layers where models of transformers have them.
    """
    waiting = [model]
    while waiting:
        module = waiting.pop(0)
        layers = getattr(module, "layers", None)
        if isinstance(layers, nn.ModuleList) and len(layers):
            return Decoder(module, layers)
        inner = (getattr(module, name, None) for name in _WRAPPERS)
        waiting += [each for each in inner if isinstance(each, nn.Module)]
    raise ModelError(
        type(model).__name__,
        "has no decoder layers to label",
        "take a causal language model of transformers, such as Qwen3ForCausalLM",
    )


def is_moe(ffn: nn.Module) -> bool:
    """Whether a feed-forward part is a mixture of experts."""
    return hasattr(ffn, "experts")


def parts_of(owner: nn.Module, kind: str) -> Iterator[PartModule]:
    """The parts of `owner` that are modules, in the order in which they were made.

    Args:
        kind: "model", "decoder", "layer", "attn", "ffn" or "moe".
    """
    names = _PARTS[kind]
    for attribute, module in owner.named_children():
        if attribute in names:
            # The experts of transformers 4 are modules of their own.
            modules = tuple(module) if isinstance(module, nn.ModuleList) else (module,)
            yield PartModule(names[attribute], modules)


def unnamed(owner: nn.Module, kind: str) -> Iterator[str]:
    """One line for each module of `owner` that has no name, and each part that is no module."""
    names = _PARTS[kind]
    for attribute, module in owner.named_children():
        named = attribute in names or attribute == "layers"
        if not named and not isinstance(module, _IDLE):
            yield f"{kind}: no label for module {attribute}"
    for attribute, part in names.items():
        value = getattr(owner, attribute, None)
        if callable(value) and not isinstance(value, nn.Module) and attribute in vars(owner):
            block = "ffn" if kind == "moe" else kind
            yield f"{block}.{part}: no module {attribute}"
