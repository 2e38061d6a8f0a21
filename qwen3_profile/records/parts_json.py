"""The parts of a forward pass as entries of `timing_records.json`; times in seconds.

A training step's parts have a second pair of times, those of their backward, under the same names:
`q_proj` and `q_proj_cuda`, `q_proj_bwd` and `q_proj_bwd_cuda`.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from operator import itemgetter
from typing import Any

import numpy as np

from qwen3_profile import labels
from qwen3_profile.attribution.parts import Part, PartTree, Times, make_part
from qwen3_profile.attribution.pass_parts import (
    backward_of,
    has_pieces,
    layers,
    mixer_of,
    short_name,
)

_NS_PER_S = 1e9
_CUDA = "_cuda"

# What an entry says of a part: these of its times with children, and of those without.
_FIELDS = [Times._fields.index("cpu_ns"), Times._fields.index("device_ns")]
_COLUMNS = [*_FIELDS, *(len(Times._fields) + field for field in _FIELDS)]


def pair_json(name: str, times: Times) -> dict[str, float]:
    """CPU and CUDA seconds of one forward pass."""
    return {name: times.cpu_ns / _NS_PER_S, f"{name}{_CUDA}": times.device_ns / _NS_PER_S}


def split_json(forward: Part, steps: int) -> dict[str, Any]:
    """The layers, what lies outside them, and the whole; `backward` is none of its parts here.

    Args:
        forward: a phase with its parts, summed over `steps` passes.
    """
    tree, root = forward.tree, forward.row
    seconds = tree.times()[:, _COLUMNS] / (steps * _NS_PER_S)
    form = _form(tree.names, tree.name.tobytes(), tree.parent.tobytes(), root)
    found = form.filled([0.0, *seconds.ravel().tolist()])
    if "backward" in found:
        for key in ("forward", f"forward{_CUDA}"):
            found[key] -= found[key.replace("forward", "backward")]
    return found


class _Form:
    """A dict with numbers of times where the times go, and lists or dicts of such; and words."""

    __slots__ = ("_inside", "_keys", "_lists", "_times", "_words")

    def __init__(self, form: dict[str, Any]) -> None:
        self._keys = tuple(form)
        # Two more than there are keys: for less than two there would come no tuple.
        places = [each if isinstance(each, int) else 0 for each in form.values()]
        self._times = itemgetter(*places, 0, 0)
        self._words = {key: each for key, each in form.items() if isinstance(each, str)}
        self._inside = [(k, _Form(each)) for k, each in form.items() if isinstance(each, dict)]
        self._lists = [
            (k, [_Form(one) for one in each]) for k, each in form.items() if isinstance(each, list)
        ]

    def filled(self, seconds: list[float]) -> dict[str, Any]:
        """The dict with `seconds` in place of their numbers."""
        found: dict[str, Any] = dict(zip(self._keys, self._times(seconds), strict=False))
        found |= self._words
        for key, form in self._inside:
            found[key] = form.filled(seconds)
        for key, forms in self._lists:
            found[key] = [form.filled(seconds) for form in forms]
        return found


# The passes of one model are of one form, and differ in nothing but their times.
@lru_cache(maxsize=8)
def _form(names: tuple[str, ...], name: bytes, parent: bytes, root: int) -> _Form:
    """What `split_json` says of the tree's root, with the number of each time in its place.

    They are counted along the rows of its times, from 1; number 0 is that of no time.
    """
    count = len(name) // np.dtype(np.int32).itemsize
    numbers = np.zeros((count, 2 * len(Times._fields)), np.int64)
    numbers[:, _COLUMNS] = np.arange(1, 1 + count * len(_COLUMNS)).reshape(count, -1)
    rows = np.frombuffer(name, np.int32), np.frombuffer(parent, np.int32)
    return _Form(_pass_form(Part(PartTree.of(names, *rows, numbers), root)))


def _pass_form(forward: Part) -> dict[str, Any]:
    backward = backward_of(forward)
    found: dict[str, Any] = {
        "layer_details": [_layer_form(layer) for layer in layers(forward)],
        "model_details": _model_form(forward),
    }
    if backward is None:
        return found | _pair_form("forward", forward.total)
    for layer, entry in zip(layers(forward), found["layer_details"], strict=True):
        same = backward.find(layer.name) or make_part(layer.name)
        _add_backward(entry, _layer_form(same))
    _add_backward(found["model_details"], _model_form(backward))
    # The whole is with its backward here; `split_json` takes that off.
    return {
        **found,
        **_pair_form("forward", forward.total),
        **_pair_form("backward", backward.total),
    }


def _add_backward(entry: dict[str, Any], backward: dict[str, Any]) -> None:
    """Puts the times of `backward` next to those of the same name; 0 where there are none."""
    for key in dict.fromkeys((*entry, *backward)):
        if key == "kind":
            continue
        if isinstance(entry.get(key, backward.get(key)), dict):
            _add_backward(entry.setdefault(key, {}), backward.get(key, {}))
            continue
        name = key.removesuffix(_CUDA)
        entry[f"{name}_bwd{key[len(name) :]}"] = backward.get(key, 0)


def _pair_form(name: str, numbers: Times) -> dict[str, int]:
    return {name: numbers.cpu_ns, f"{name}{_CUDA}": numbers.device_ns}


def _parts_form(parts: Iterable[Part], own: Times) -> dict[str, Any]:
    """The children of a part, and `other`: what of it no child explains.

    A child that is made of pieces, as one with adapters, has these as its details.
    """
    found: dict[str, Any] = {}
    for child in parts:
        found |= _pair_form(short_name(child), child.total)
        if has_pieces(child):
            found[f"{short_name(child)}_details"] = _parts_form(child.parts, child.own)
    return found | _pair_form(labels.OTHER, own)


def _layer_form(layer: Part) -> dict[str, Any]:
    kind, mixer = mixer_of(layer)
    found: dict[str, Any] = {"kind": kind}
    blocks = {"attn": mixer, "ffn": layer.find(f"{layer.name}.ffn")}
    for block, known in blocks.items():
        part = known or make_part(block)
        found |= _pair_form(block, part.total)
        found[f"{block}_details"] = _parts_form(part.parts, part.own)
    known_names = {part.name for part in blocks.values() if part is not None}
    for part in (part for part in layer.parts if part.name not in known_names):
        found |= _pair_form(short_name(part), part.total)
    return found | _pair_form(labels.OTHER, layer.own)


def _model_form(forward: Part) -> dict[str, Any]:
    apart = {labels.BACKWARD, *(layer.name for layer in layers(forward))}
    rest = (part for part in forward.parts if part.name not in apart)
    return _parts_form(rest, forward.own)
