"""Which part of a model an exception comes from, by the frames that it passed, without labels."""

from __future__ import annotations

from collections.abc import Iterator
from types import FrameType
from typing import Any

from torch import nn

from qwen3_profile.label_parts import blocks, parts
from qwen3_profile.labels import layer_label
from qwen3_profile.measure.model.structure import find_decoder, owner_kind, parts_of

# What frames of models call the module that they work for.
_MODULES = ("self", "module")


def failed_part(model: Any, error: BaseException) -> str:
    """The label of the innermost part that ran when `error` was raised; "" where none did."""
    labels = dict(_labels(model))
    found = ""
    trace = error.__traceback__
    while trace is not None:
        found = _label_of(trace.tb_frame, labels) or found
        trace = trace.tb_next
    return found


def _label_of(frame: FrameType, labels: dict[int, str]) -> str:
    """The label of the module that a frame works for, or of the function that it is there."""
    module = next((frame.f_locals.get(name) for name in _MODULES if name in frame.f_locals), None)
    label = labels.get(id(module), "")
    block = label.rpartition(".")[2]
    for part in parts(block) if block in blocks() else ():
        if frame.f_code.co_name in part.functions:
            return f"{label}.{part.name}"
    return label


def _labels(model: Any) -> Iterator[tuple[int, str]]:
    """The identity of each module that is a part, and its label."""
    decoder = find_decoder(model)
    for owner, kind in ((model, "model"), (decoder.stack, "decoder")):
        for found in parts_of(owner, kind):
            yield from ((id(module), found.part) for module in found.modules)
    for index, layer in enumerate(decoder.layers):
        yield id(layer), layer_label(index)
        for block in parts_of(layer, "layer"):
            yield id(block.modules[0]), layer_label(index, block.part)
            yield from _inside(index, block.part, block.modules[0])


def _inside(layer: int, block: str, owner: nn.Module) -> Iterator[tuple[int, str]]:
    if block in blocks():
        for found in parts_of(owner, owner_kind(block, owner)):
            label = layer_label(layer, block, found.part)
            yield from ((id(module), label) for module in found.modules)
