"""Linears whose weights are packed: which they are, what they hold, and what it takes.

Each library keeps them elsewhere. torchao has a tensor subclass for a weight; bitsandbytes a
parameter with its scales beside it, which are neither parameters nor buffers; GPTQ and AWQ have
buffers, and no weight at all. A number of elements times their size is wrong for all of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

# What modules without a weight keep it in.
_PACKED = ("qweight", "weight_packed")


def quantised_kind(module: nn.Module) -> str:
    """Whose and what a Linear of packed weights is, such as "torchao Int8Tensor"; else ""."""
    if isinstance(getattr(module, "base_layer", None), nn.Module):
        return ""  # adapters round one, which is counted by itself
    weight: Any = getattr(module, "weight", None)
    if isinstance(weight, torch.Tensor) and _is_foreign(weight):
        return _name_of(weight if hasattr(weight, "__tensor_flatten__") else module)
    if isinstance(weight, torch.Tensor) and weight.ndim == 2 and weight.element_size() == 1:
        return _name_of(module)
    return _name_of(module) if any(name in vars_of(module) for name in _PACKED) else ""


def quantised_linears(model: nn.Module) -> dict[str, int]:
    """Kind -> how many Linears there are of it."""
    found = Counter(map(quantised_kind, model.modules()))
    del found[""]
    return dict(found)


def parameter_count(model: nn.Module) -> int:
    """The parameters of a model as if nothing were packed; a tied head is counted once."""
    return sum(map(_own_parameters, model.modules())) - _tied(model)


def stored_bytes(model: nn.Module) -> int | None:
    """What parameters and buffers take, with all that belongs to packed ones; None where some of
    them do not tell.
    """
    sizes = [_size(tensor) for tensor in _tensors(model)]
    if any(hasattr(module, "_packed_params") for module in model.modules()):
        return None
    known = [size for size in sizes if size is not None]
    return sum(known) if len(known) == len(sizes) else None


def vars_of(module: nn.Module) -> dict[str, Any]:
    """The parameters and buffers of a module itself."""
    return {**module._parameters, **module._buffers}


def _is_foreign(weight: torch.Tensor) -> bool:
    """Whether it is a kind of tensor that neither torch nor torch's parallelism made."""
    return type(weight).__module__.partition(".")[0] != "torch"


def _name_of(what: object) -> str:
    kind = type(what)
    return f"{kind.__module__.partition('.')[0]} {kind.__name__}"


def _own_parameters(module: nn.Module) -> int:
    if quantised_kind(module):
        width, height = (getattr(module, name, None) for name in ("in_features", "out_features"))
        bias = getattr(module, "bias", None)
        if isinstance(width, int) and isinstance(height, int):
            return width * height + (bias.numel() if isinstance(bias, torch.Tensor) else 0)
    own = sum(each.numel() for each in module.parameters(recurse=False))
    return own + _packed_by_torch(module)


def _packed_by_torch(module: nn.Module) -> int:
    """Those that torch's own quantised modules hold in packed form, as no parameters."""
    if not hasattr(module, "_packed_params") or not callable(getattr(module, "weight", None)):
        return 0
    held = (getattr(module, name)() for name in ("weight", "bias"))
    return sum(each.numel() for each in held if each is not None)


def _tied(model: nn.Module) -> int:
    """The parameters that several modules have, each but once."""
    seen: set[int] = set()
    twice = 0
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            twice += parameter.numel() if id(parameter) in seen else 0
            seen.add(id(parameter))
    return twice


def _tensors(model: nn.Module) -> Iterator[torch.Tensor]:
    """Each tensor that the model holds, once."""
    found = {id(each): each for each in (*model.parameters(), *model.buffers())}
    for module in model.modules():
        found |= {id(each): each for each in _beside(module)}
    yield from found.values()


def _beside(module: nn.Module) -> Iterator[torch.Tensor]:
    """What bitsandbytes has beside a weight: of 4 bits the scales, of 8 bits those of the rows."""
    weight = getattr(module, "weight", None)
    state = getattr(weight, "quant_state", None)
    while state is not None:
        held = (getattr(state, name, None) for name in ("absmax", "code", "offset"))
        yield from (each for each in held if isinstance(each, torch.Tensor))
        state = getattr(state, "state2", None)
    # Where they are depends on whether the module has run.
    scales = (getattr(each, "SCB", None) for each in (weight, getattr(module, "state", None)))
    yield from (each for each in scales if isinstance(each, torch.Tensor))


def _size(tensor: Any) -> int | None:
    if is_traceable_wrapper_subclass(tensor):
        names, _ = tensor.__tensor_flatten__()
        parts = [_size(getattr(tensor, name)) for name in names]
        known = [part for part in parts if part is not None]
        return sum(known) if len(known) == len(parts) else None
    if tensor.layout != torch.strided or tensor.is_quantized:
        return None
    return int(tensor.numel() * tensor.element_size())
