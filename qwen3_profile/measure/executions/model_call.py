"""One call of a model with its arguments, which can be made again and again.

model(input_ids)                                   a prefill: several tokens of each sequence
model(next_ids, past_key_values=cache)             a decode step: one token, and a cache
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers.cache_utils import Cache

from qwen3_profile.errors import ModelError
from qwen3_profile.measure.ranges import CallPhase, cache_of, input_of, phase_of


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
    def phase(self) -> CallPhase:
        return phase_of(self.args, self.kwargs)

    @property
    def shape(self) -> tuple[int, int]:
        """Sequences, and tokens of each.

        Raises:
            ModelError: there is no tensor [batch, tokens, ...] where models take one.
        """
        found = input_of(self.args, self.kwargs)
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
        past = cache_of(self.kwargs)
        return int(past.get_seq_length()) if isinstance(past, Cache) else 0

    def lengths(self) -> tuple[int, ...]:
        """The tokens of each sequence without padding, as far as a mask tells."""
        batch_size, tokens = self.shape
        mask = self.kwargs.get("attention_mask")
        if isinstance(mask, torch.Tensor) and mask.shape == (batch_size, tokens):
            return tuple(int(count) for count in (mask != 0).sum(-1).tolist())
        return (tokens,) * batch_size


def _copied(value: Any) -> Any:
    if not isinstance(value, Cache):
        return value
    try:
        return copy.deepcopy(value)
    except RuntimeError as error:  # tensors that remember how they were computed
        raise ModelError(
            "past_key_values", "cannot be copied", "fill it under torch.inference_mode()"
        ) from error
