"""The KV caches of transformers 4.51 to 5.x, and what a forward pass must be told of them."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from typing import Any

import torch

from qwen3_profile.errors import RunError
from qwen3_profile.measure.model.other_decoders import linear_layers
from qwen3_profile.run_folder.model_shape import LinearLayers


def static_cache(model: Any, batch_size: int, length: int) -> Any:
    """A cache whose tensors have room for `length` tokens from the start, on the model's device.

    Raises:
        RunError: this transformers has none for a model with linear layers.
    """
    from transformers import StaticCache

    given: dict[str, Any] = {"config": model.config, "max_cache_len": length}
    known = inspect.signature(StaticCache.__init__).parameters
    # Up to 4.5x the tensors are made here; later, at the first update, from what it brings.
    if "max_batch_size" in known:
        given |= {"max_batch_size": batch_size, "device": model.device, "dtype": model.dtype}
    cache = StaticCache(**given)
    if linear_layers(model.config) is not None and not _linear_layers(cache):
        what = "this transformers has no static cache for linear layers"
        do = "leave out --cache static, or install transformers 5.17 or newer"
        raise RunError(type(model).__name__, what, do)
    return cache


def counters(cache: Any) -> tuple[torch.Tensor, ...]:
    """The tensors in which a static cache counts its tokens; from 5.x each layer has its own."""
    owners = () if cache is None else (cache, *getattr(cache, "layers", ()))
    values = [value for owner in owners for value in vars(owner).values()]
    return tuple(
        value
        for value in values
        if isinstance(value, torch.Tensor) and not value.is_floating_point()
    )


def states(cache: Any) -> tuple[torch.Tensor, ...]:
    """What the linear layers of a cache keep of all tokens before, which no position rewinds."""
    found: list[Any] = []
    for layer in _linear_layers(cache):
        for held in (layer.conv_states, layer.recurrent_states):
            found += held.values() if isinstance(held, dict) else [held]
    return tuple(each for each in found if isinstance(each, torch.Tensor))


def forget_states(cache: Any) -> None:
    """Makes the linear layers of a cache begin anew, with their tensors in their place."""
    for layer in _linear_layers(cache):
        before = layer.has_previous_state
        layer.has_previous_state = (
            dict.fromkeys(before, False) if isinstance(before, dict) else False
        )


def _linear_layers(cache: Any) -> list[Any]:
    layers = getattr(cache, "layers", ())
    return [layer for layer in layers if hasattr(layer, "has_previous_state")]


def rewinding(cache: Any) -> Callable[[], None]:
    """Brings a cache back, whenever it is called, to the tokens that it holds now.

    What a layer replaces, as a dynamic one does its tensors, is put back; what it counts or adds
    up in its place is copied back. Of a static one, tokens beyond the counted ones are not seen.
    """
    owners = getattr(cache, "layers", None) or [cache]
    held = [(vars(owner), _copied(vars(owner))) for owner in owners]
    values = [(each, each.clone()) for each in (*counters(cache), *states(cache))]

    @torch.inference_mode()
    def rewind() -> None:
        for attributes, before in held:
            attributes.update(_copied(before))
        for tensor, value in values:
            tensor.copy_(value)

    return rewind


def _copied(attributes: dict[str, Any]) -> dict[str, Any]:
    """The same, with lists and dicts of their own: a layer may put others into these."""
    return {
        key: copy.copy(value) if isinstance(value, (list, dict)) else value
        for key, value in attributes.items()
    }


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
    linear = linear_layers(model.config)
    if linear is not None:
        conv, recurrent = _first_states(model, batch_size, linear)
        for layer in _linear_layers(cache):
            layer.lazy_initialization(conv_states=conv, recurrent_states=recurrent)
    return cache


def _first_states(
    model: Any, batch_size: int, linear: LinearLayers
) -> tuple[torch.Tensor, torch.Tensor]:
    """Tensors of the sizes that linear layers keep; the recurrent state is float32."""
    heads, keys = linear.linear_num_value_heads, linear.linear_key_head_dim
    width = 2 * linear.linear_num_key_heads * keys + heads * linear.linear_value_head_dim
    conv = torch.zeros(
        batch_size, width, linear.linear_conv_kernel_dim, dtype=model.dtype, device=model.device
    )
    recurrent = torch.zeros(
        batch_size, heads, keys, linear.linear_value_head_dim, device=model.device
    )
    return conv, recurrent


def cache_keyword(model: Any) -> str:
    """What a forward pass calls the cache that it is given; from 5.24 on it has another name."""
    known = inspect.signature(model.forward).parameters
    return "cache" if "cache" in known else "past_key_values"


def takes_positions(model: Any) -> bool:
    """Whether a forward pass wants to be told where in the sequence its tokens lie.

    Up to 4.5x the model otherwise asks the cache, and a static one answers by reading its tensors
    back to the host, which no generation does: `generate` passes `cache_position` too.
    """
    return "cache_position" in inspect.signature(model.forward).parameters
