"""The arguments of one call of a model in, what kind of forward pass it is out.

model(input_ids)                                   a prefill: several tokens of each sequence
model(next_ids, past_key_values=cache)             a decode step: one token, and a cache
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from transformers.cache_utils import Cache

from qwen3_profile.errors import ModelError

Phase = Literal["prefill", "decode"]

_INPUTS = ("input_ids", "inputs_embeds")
_CACHES = ("past_key_values", "past_key_value")


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a model, which can be made again and again.

    args, kwargs: the model's. A KV cache among them is copied for each pass, so that every pass
        sees the same tokens, and the caller's own cache stays as it was.
    inference_mode: run under torch.inference_mode; else in the mode that the caller is in.
    """

    model: nn.Module
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    inference_mode: bool

    def prepared(self) -> Callable[[], Any]:
        """A function that makes the call once; what has to be copied is copied now."""
        args = tuple(_copied(value) for value in self.args)
        kwargs = {key: _copied(value) for key, value in self.kwargs.items()}

        def forward() -> Any:
            with self._mode():
                return self.model(*args, **kwargs)

        return forward

    def _mode(self) -> AbstractContextManager[object]:
        return torch.inference_mode() if self.inference_mode else nullcontext()

    @property
    def phase(self) -> Phase:
        return phase_of(self.args, self.kwargs)

    @property
    def shape(self) -> tuple[int, int]:
        """Sequences, and tokens of each.

        Raises:
            ModelError: there is no tensor [batch, tokens, ...] where models take one.
        """
        found = _input(self.args, self.kwargs)
        if found is None:
            raise ModelError(
                type(self.model).__name__,
                "is called without input_ids or inputs_embeds",
                "pass the arguments that the model itself takes",
            )
        return int(found.shape[0]), int(found.shape[1])

    @property
    def cached_len(self) -> int:
        """The tokens of each sequence that the cache holds already; 0 without one."""
        past = _past(self.kwargs)
        return int(past.get_seq_length()) if isinstance(past, Cache) else 0

    def lengths(self) -> tuple[int, ...]:
        """The tokens of each sequence without padding, as far as a mask tells."""
        batch_size, tokens = self.shape
        mask = self.kwargs.get("attention_mask")
        if isinstance(mask, torch.Tensor) and mask.shape == (batch_size, tokens):
            return tuple(int(count) for count in (mask != 0).sum(-1).tolist())
        return (tokens,) * batch_size


def phase_of(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Phase:
    """Whether a call is a decode step: one token of each sequence, with a KV cache.

    Asks the cache nothing: some answer by waiting for the device.
    """
    found = _input(args, kwargs)
    one = found is not None and found.shape[1] == 1
    return "decode" if one and _past(kwargs) is not None else "prefill"


def _input(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> torch.Tensor | None:
    given = [kwargs.get(name) for name in _INPUTS] + list(args[:1])
    return next((x for x in given if isinstance(x, torch.Tensor) and x.ndim >= 2), None)


def _past(kwargs: Mapping[str, Any]) -> Any:
    return next((kwargs[name] for name in _CACHES if kwargs.get(name) is not None), None)


def _copied(value: Any) -> Any:
    if not isinstance(value, Cache):
        return value
    try:
        return copy.deepcopy(value)
    except RuntimeError as error:  # tensors that remember how they were computed
        raise ModelError(
            "past_key_values", "cannot be copied", "fill it under torch.inference_mode()"
        ) from error
