"""The parts of a forward pass that are known by their names: layers, backward, collectives."""

from __future__ import annotations

from qwen3_profile import labels
from qwen3_profile.attribution.parts import Part
from qwen3_profile.trace.columns import which


def layers(forward: Part) -> tuple[Part, ...]:
    """The layers of a forward pass, in order."""
    found = [(labels.parse(part.name), part) for part in forward.parts]
    numbered = [
        (label.layer, part)
        for label, part in found
        if label is not None and label.kind == "layer" and label.layer is not None
    ]
    return tuple(part for _, part in sorted(numbered, key=lambda pair: pair[0]))


# The block of a layer that mixes its tokens -> what kind of layer that is.
_MIXERS = {"attn": "attention", "linear_attn": "linear_attention"}


def mixer_of(layer: Part) -> tuple[str, Part | None]:
    """The kind of a layer, and the block that mixes its tokens; "none" where it has no such."""
    for block, kind in _MIXERS.items():
        mixer = layer.find(f"{layer.name}.{block}")
        if mixer is not None:
            return kind, mixer
    return "none", None


def backward_of(forward: Part) -> Part | None:
    """The backward of a training step, with parts named as the forward's; None in a prefill."""
    return forward.find(labels.BACKWARD)


def collectives(forward: Part) -> tuple[Part, ...]:
    """The parts such as `nccl`, wherever in a forward pass they were launched."""
    # A pass whose names tell that it has none need not be taken apart.
    if not which(forward.tree.names, _is_collective).any():
        return ()
    return tuple(part for part in forward.each() if _is_collective(part.name))


def _is_collective(name: str) -> bool:
    return name.rpartition(".")[2] in labels.COLLECTIVES


def has_pieces(part: Part) -> bool:
    """Whether a part is shown by what it is made of, such as its adapters."""
    return any(labels.part_of(each.name) != each.name for each in part.parts)


def short_name(part: Part) -> str:
    """The last component of the part's name: `q_proj` of `layer.7.attn.q_proj`."""
    return part.name.rpartition(".")[2]
