"""A forward pass's parts in, their entries of `timing_records.json` out; times in seconds.

A training step's parts have a second pair of times, those of their backward, under the same names:
`q_proj` and `q_proj_cuda`, `q_proj_bwd` and `q_proj_bwd_cuda`.
"""

from __future__ import annotations

from typing import Any

from qwen3_profile import labels
from qwen3_profile.parts import Part, Times
from qwen3_profile.steps import backward_of, layers, short_name

_NS_PER_S = 1e9
_CUDA = "_cuda"


def pair_json(name: str, times: Times, steps: int) -> dict[str, float]:
    """CPU and CUDA seconds of one forward pass; `times` is the sum of `steps` of them."""
    unit = steps * _NS_PER_S
    return {name: times.cpu_ns / unit, f"{name}{_CUDA}": times.device_ns / unit}


def split_json(forward: Part, steps: int) -> dict[str, Any]:
    """The layers, what lies outside them, and the whole; `backward` is none of its parts here.

    Args:
        forward: a phase with its parts, summed over `steps` passes.
    """
    backward = backward_of(forward)
    found: dict[str, Any] = {
        "layer_details": [_layer_json(layer, steps) for layer in layers(forward)],
        "model_details": _model_json(forward, steps),
    }
    if backward is None:
        return found | pair_json("forward", forward.total, steps)
    for layer, entry in zip(layers(forward), found["layer_details"], strict=True):
        same = backward.find(layer.name) or Part(layer.name, Times(), Times())
        _add_backward(entry, _layer_json(same, steps))
    _add_backward(found["model_details"], _model_json(backward, steps))
    return {
        **found,
        **_difference(
            pair_json("forward", forward.total, steps), pair_json("forward", backward.total, steps)
        ),
        **pair_json("backward", backward.total, steps),
    }


def _difference(whole: dict[str, float], part: dict[str, float]) -> dict[str, float]:
    return {key: value - part[key] for key, value in whole.items()}


def _add_backward(entry: dict[str, Any], backward: dict[str, Any]) -> None:
    """Puts the times of `backward` beside those of the same name; 0 where there are none."""
    for key in dict.fromkeys((*entry, *backward)):
        if isinstance(entry.get(key, backward.get(key)), dict):
            _add_backward(entry.setdefault(key, {}), backward.get(key, {}))
            continue
        name = key.removesuffix(_CUDA)
        entry[f"{name}_bwd{key[len(name) :]}"] = backward.get(key, 0.0)


def _parts_json(part: Part, steps: int) -> dict[str, float]:
    """Each child of `part`, and `other`: what of it no child explains."""
    found: dict[str, float] = {}
    for child in part.parts:
        found |= pair_json(short_name(child), child.total, steps)
    return found | pair_json(labels.OTHER, part.own, steps)


def _layer_json(layer: Part, steps: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for block in ("attn", "ffn"):
        part = layer.find(f"{layer.name}.{block}") or Part(block, Times(), Times())
        found |= pair_json(block, part.total, steps)
        found[f"{block}_details"] = _parts_json(part, steps)
    rest = [part for part in layer.parts if short_name(part) not in ("attn", "ffn")]
    for part in rest:
        found |= pair_json(short_name(part), part.total, steps)
    return found | pair_json(labels.OTHER, layer.own, steps)


def _model_json(forward: Part, steps: int) -> dict[str, float]:
    apart = {labels.BACKWARD, *(layer.name for layer in layers(forward))}
    rest = tuple(part for part in forward.parts if part.name not in apart)
    return _parts_json(Part(forward.name, forward.total, forward.own, rest), steps)
