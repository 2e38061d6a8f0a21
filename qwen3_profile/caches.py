"""The KV caches of transformers 4.51 to 5.x, and what a forward pass must be told of them."""

from __future__ import annotations

import inspect
from functools import lru_cache
from typing import Any

import torch

CACHES = ("dynamic", "static")


def static_cache(model: Any, batch_size: int, length: int) -> Any:
    """A cache whose tensors have room for `length` tokens from the start, on the model's device."""
    from transformers import StaticCache

    given: dict[str, Any] = {"config": model.config, "max_cache_len": length}
    known = inspect.signature(StaticCache.__init__).parameters
    # Up to 4.5x the tensors are made here; later, at the first update, from what it brings.
    if "max_batch_size" in known:
        given |= {"max_batch_size": batch_size, "device": model.device, "dtype": model.dtype}
    return StaticCache(**given)


def position_arguments(
    model: Any, start: int, length: int, device: torch.device
) -> dict[str, torch.Tensor]:
    """Where in the sequence the tokens lie, for versions that cannot tell it from a static cache.

    Up to 4.5x the model asks the cache, and a static one answers by reading its tensors back to
    the host, which no generation does: `generate` passes the positions as here.
    """
    if not _takes_positions(type(model)):
        return {}
    return {"cache_position": torch.arange(start, start + length, device=device)}


@lru_cache(maxsize=8)
def _takes_positions(model_class: type[Any]) -> bool:
    return "cache_position" in inspect.signature(model_class.forward).parameters
