"""Finds the parts of a causal language model of transformers, by our names; wraps nothing.

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
from qwen3_profile.label_parts import parts

# Kind of owner -> the block that its parts lie in, and of which kind it is.
_OWNERS = {
    "model": ("phase", None),
    "decoder": ("phase", None),
    "ffn": ("ffn", "dense"),
    "moe": ("ffn", "moe"),
}
# What does nothing when a model is served.
_IDLE = (nn.Dropout, nn.Identity)
# (kind of owner, attribute) of modules that older models hold and never call.
_UNUSED = {("linear_attn", "act")}
_INSIDE = ("model", "language_model", "thinker")
# What peft, torch.compile, accelerate and torch's parallel wrappers hold a model under.
_WRAPPERS = ("_orig_mod", "module", "base_model")


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
    # Each once: the `base_model` of a model without a head is itself.
    waiting, seen = [model], set[nn.Module]()
    while waiting:
        module = waiting.pop(0)
        seen.add(module)
        layers = getattr(module, "layers", None)
        if isinstance(layers, nn.ModuleList) and len(layers):
            return Decoder(module, layers)
        inner = (getattr(module, name, None) for name in (*_INSIDE, *_WRAPPERS))
        waiting += [each for each in inner if isinstance(each, nn.Module) and each not in seen]
    raise ModelError(
        type(model).__name__,
        "has no decoder layers to label",
        "take a causal language model of transformers, such as Qwen3ForCausalLM",
    )


def unwrapped(model: nn.Module, decoder: nn.Module) -> nn.Module:
    """The model inside the wrappers around it, which has the head beside the decoder."""
    while model is not decoder:
        inside = dict(model.named_children())
        wrapped = next((inside[name] for name in _WRAPPERS if name in inside), None)
        if wrapped is None and len(inside) == 1:
            (wrapped,) = inside.values()
        if wrapped is None:
            return model
        model = wrapped
    return model


def compiles_layers(model: nn.Module) -> bool:
    """Whether every layer is compiled by itself."""
    return all(vars(layer).get("_compiled_call_impl") for layer in find_decoder(model).layers)


def is_moe(ffn: nn.Module) -> bool:
    """Whether a feed-forward part is a mixture of experts."""
    return hasattr(ffn, "experts")


def is_gated(attn: nn.Module) -> bool:
    """Whether attention is multiplied by a gate, which comes with the queries and is as wide."""
    made = getattr(getattr(attn, "q_proj", None), "out_features", None)
    used = getattr(getattr(attn, "o_proj", None), "in_features", None)
    return made is not None and used is not None and made == 2 * used


def owner_kind(block: str, module: nn.Module) -> str:
    """What kind of owner a block of a layer is, for `parts_of`."""
    return "moe" if block == "ffn" and is_moe(module) else block


def attributes(kind: str) -> dict[str, str]:
    """Attribute -> part, of a kind of owner."""
    inside = parts(*_OWNERS.get(kind, (kind, None)))
    return {name: part.name for part in inside for name in (part.name, *part.modules)}


def parts_of(owner: nn.Module, kind: str) -> Iterator[PartModule]:
    """The parts of `owner` that are modules, in the order in which they were made.

    Args:
        kind: "model", "decoder", "layer", or a block of a layer as `owner_kind` says.
    """
    names = attributes(kind)
    for attribute, module in owner.named_children():
        if attribute in names:
            # The experts of transformers 4 are modules of their own.
            modules = tuple(module) if isinstance(module, nn.ModuleList) else (module,)
            yield PartModule(names[attribute], modules)


@dataclass(frozen=True, slots=True)
class Piece:
    """What a part is made of where adapters of peft were put round it.

    runs: whether the part calls it as it is now: not what was merged, or switched off.
    """

    name: str
    module: nn.Module
    runs: bool


def pieces_of(part: nn.Module) -> Iterator[Piece]:
    """The layer that a part was before it had adapters, and the two matrices of each adapter."""
    base = getattr(part, "base_layer", None)
    # Those of a parameter, such as the weights of all experts, are added to it wherever it is used.
    if not isinstance(base, nn.Module) or hasattr(part, "parameter_name"):
        return
    yield Piece("base", base, True)
    active = set(getattr(part, "active_adapters", ()))
    idle = getattr(part, "merged", False) or getattr(part, "disable_adapters", False)
    for name in ("lora_A", "lora_B"):
        for adapter, module in dict(getattr(part, name, {})).items():
            yield Piece(name, module, adapter in active and not idle)


def unnamed(owner: nn.Module, kind: str, within: nn.Module | None = None) -> Iterator[str]:
    """One line for each module of `owner` that has no name, and each part that is no module.

    Args:
        within: what is around this, or is this, has a name of its own inside.
    """
    names = attributes(kind)
    for attribute, module in owner.named_children():
        named = attribute in names or attribute == "layers" or within in set(module.modules())
        idle = isinstance(module, _IDLE) or (kind, attribute) in _UNUSED
        if not named and not idle:
            yield f"{kind}: no label for module {attribute}"
    for attribute, part in names.items():
        value = getattr(owner, attribute, None)
        if callable(value) and not isinstance(value, nn.Module) and attribute in vars(owner):
            yield f"{_OWNERS.get(kind, (kind, None))[0]}.{part}: no module {attribute}"
