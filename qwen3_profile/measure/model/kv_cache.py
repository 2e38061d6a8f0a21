"""The KV caches of transformers 4.51 to 5.x, and what a forward pass must be told of them."""

from __future__ import annotations

import inspect
from typing import Any

import torch


def static_cache(model: Any, batch_size: int, length: int) -> Any:
    """A cache whose tensors have room for `length` tokens from the start, on the model's device."""
    from transformers import StaticCache

    given: dict[str, Any] = {"config": model.config, "max_cache_len": length}
    known = inspect.signature(StaticCache.__init__).parameters
    # Up to 4.5x the tensors are made here; later, at the first update, from what it brings.
    if "max_batch_size" in known:
        given |= {"max_batch_size": batch_size, "device": model.device, "dtype": model.dtype}
    return StaticCache(**given)


def counters(cache: Any) -> tuple[torch.Tensor, ...]:
    """The tensors in which a static cache counts its tokens; from 5.x each layer has its own."""
    owners = () if cache is None else (cache, *getattr(cache, "layers", ()))
    values = [value for owner in owners for value in vars(owner).values()]
    return tuple(
        value
        for value in values
        if isinstance(value, torch.Tensor) and not value.is_floating_point()
    )


def slides(cache: Any, length: int) -> bool:
    """Whether a static cache drops tokens before `length` of them, which it decides on the host."""
    layers = getattr(cache, "layers", ())
    return any(
        getattr(layer, "is_sliding", False) and layer.max_cache_len < length for layer in layers
    )


def filled_cache(model: Any, batch_size: int, length: int) -> Any:
    """As `static_cache`, with its tensors in place before the first forward, for ever at their
    address: what is compiled or captured before they are there would make new ones in each pass.
    """
    cache = static_cache(model, batch_size, length)
    make = getattr(cache, "early_initialization", None)
    if make is not None:
        config = model.config
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        make(batch_size, heads, size, model.dtype, model.device)
    return cache


def takes_positions(model: Any) -> bool:
    """Whether a forward pass wants to be told where in the sequence its tokens lie.

    Up to 4.5x the model otherwise asks the cache, and a static one answers by reading its tensors
    back to the host, which no generation does: `generate` passes `cache_position` too.
    """
    return "cache_position" in inspect.signature(model.forward).parameters
