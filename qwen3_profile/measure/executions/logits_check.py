"""How far the logits of compiled passes lie from those of eager ones, and how far they may.

Two correct ways to compute a model round at different places, and its layers amplify what that
changes: in bfloat16 random logits of Qwen3-0.6B move by 2 % of their length, those of Qwen3-8B by
7 %. So where a difference is over what small models show, the model itself is the yardstick: how
far do its eager logits move when the output of each layer is rounded once more?
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from qwen3_profile.measure.model.structure import find_decoder

# How far the logits of any model may lie apart, as a share of their length.
TOLERANCES = {"float32": 1e-4, "float16": 1e-2, "bfloat16": 5e-2}
# A layer rounds some twenty times where the yardstick does once, and their squares add up.
_ROUNDINGS = 4
_SEED = 0


@dataclass(frozen=True, slots=True, eq=False)
class Output:
    """Of one pass the logits, and the tokens that were chosen by them, if any were."""

    logits: torch.Tensor
    next_ids: torch.Tensor | None


def largest_error(found: Sequence[Output], expected: Sequence[Output]) -> float:
    """The largest difference of any sequence's logits, as a share of their length."""
    pairs = zip(found, expected, strict=True)
    return max(_error(one.logits, other.logits) for one, other in pairs)


def allowed_error(rounded: Sequence[Output], expected: Sequence[Output]) -> float:
    """How far correct logits may lie from `expected`.

    Args:
        rounded: the same passes, run under `rounded_once_more`.
    """
    return _ROUNDINGS * largest_error(rounded, expected)


@contextlib.contextmanager
def rounded_once_more(model: nn.Module) -> Iterator[None]:
    """Moves each output of a decoder layer by up to half a unit in its last place, at random."""
    generators: dict[torch.device, torch.Generator] = {}

    def generator(device: torch.device) -> torch.Generator:
        if device not in generators:
            generators[device] = torch.Generator(device).manual_seed(_SEED)
        return generators[device]

    def moved(_module: nn.Module, _args: Any, output: Any) -> Any:
        hidden = output[0] if isinstance(output, tuple) else output
        noise = torch.empty(hidden.shape, dtype=torch.float64, device=hidden.device)
        noise.uniform_(-0.5, 0.5, generator=generator(hidden.device)).mul_(
            torch.finfo(hidden.dtype).eps
        )
        hidden = (hidden * (1 + noise)).to(hidden.dtype)
        return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

    with ExitStack() as undo:
        for layer in find_decoder(model).layers:
            undo.callback(layer.register_forward_hook(moved).remove)
        yield


def _error(found: torch.Tensor, expected: torch.Tensor) -> float:
    a, b = found.flatten(1).double(), expected.flatten(1).double()
    return float(((a - b).norm(dim=1) / b.norm(dim=1)).max())
