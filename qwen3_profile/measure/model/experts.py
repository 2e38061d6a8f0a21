"""How a mixture of experts runs its experts, and where its tokens go: counted by hooks.

transformers 5 offers several implementations of the same experts; before it there was one, a loop
over them, which 5 calls eager. The counting is for forwards that nobody times.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from qwen3_profile.config import suggest
from qwen3_profile.errors import ModelError
from qwen3_profile.measure.model.structure import find_decoder, parts_of
from qwen3_profile.measure.model.transformers_compat import explained
from qwen3_profile.run_folder.routing import LayerRouting

_FLAG = "--experts-implementation"
_EAGER = "eager"
# Those that need nothing but torch. The others would fetch a kernel from a hub: never here.
_OF_TORCH = ("batched_mm", "grouped_mm")


def experts_names() -> list[str]:
    """The implementations of experts that this transformers offers."""
    try:
        from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS
    except ImportError:
        return [_EAGER]
    return [_EAGER, *(name for name in _OF_TORCH if name in ALL_EXPERTS_FUNCTIONS.valid_keys())]


def check_experts_name(name: str) -> None:
    """Refuses a name that is not offered, before anything is loaded.

    Raises:
        ModelError: with the names that are.
    """
    offered = experts_names()
    if name not in offered:
        raise ModelError(_FLAG, f"{name} is not offered", suggest(name, offered))


def experts_of(model: nn.Module) -> str:
    """The name of the implementation that `model` uses; empty where it has no experts."""
    if not _experts(model):
        return ""
    return str(getattr(model.config, "_experts_implementation", None) or _EAGER)


def set_experts(model: Any, name: str) -> None:
    """Makes `model` use the implementation `name` from its next forward on.

    Raises:
        ModelError: it is not offered, cannot work here, or the model has no experts.
    """
    check_experts_name(name)
    now = experts_of(model)
    if not now:
        raise ModelError(_FLAG, "the model has no mixture of experts", f"leave out {name}")
    if name == now:
        return
    with explained(_FLAG, f"{name} cannot be used"):
        if hasattr(model, "set_experts_implementation"):
            model.set_experts_implementation(name)
        else:
            model.config._experts_implementation = name


class RoutingCounter:
    """Tokens per expert of the forwards that ran since the last `take`, by layer."""

    def __init__(self) -> None:
        self._counts: dict[int, torch.Tensor] = {}

    def take(self) -> tuple[LayerRouting, ...]:
        """What was counted; the next forwards are counted from 0."""
        counts, self._counts = self._counts, {}
        return tuple(LayerRouting(n, tuple(counts[n].tolist())) for n in sorted(counts))

    def add(self, layer: int, counts: torch.Tensor) -> None:
        """Adds int64 [num_experts]."""
        self._counts[layer] = self._counts.get(layer, 0) + counts


@contextmanager
def counted_routing(model: nn.Module) -> Iterator[RoutingCounter]:
    """Counts, in every forward of this block, the tokens that each layer's experts are given.

    Counted is what the experts are called with, so that it is right however the router chose.
    A layer whose experts are not told who goes where, since each takes every token, is left out.
    """
    counter = RoutingCounter()
    with ExitStack() as undo:
        for layer, experts in _experts(model).items():
            if isinstance(experts, nn.ModuleList):
                hooks = [
                    _hook(each, partial(_count_rows, counter, layer, index, len(experts)))
                    for index, each in enumerate(experts)
                ]
            else:
                hooks = [_hook(experts, partial(_count_chosen, counter, layer))]
            for hook in hooks:
                undo.callback(hook.remove)
        yield counter


def _hook(module: nn.Module, count: Any) -> RemovableHandle:
    return module.register_forward_pre_hook(count, with_kwargs=True)


def _count_chosen(
    counter: RoutingCounter, layer: int, experts: Any, args: Any, kwargs: Any
) -> None:
    """Of transformers 5: all experts are one module, given the chosen ones, [tokens, top_k]."""
    for value in (*args, *kwargs.values()):
        if isinstance(value, torch.Tensor) and value.dtype in (torch.int64, torch.int32):
            counts = torch.bincount(value.reshape(-1), minlength=experts.num_experts)
            counter.add(layer, counts)
            return


def _count_rows(
    counter: RoutingCounter, layer: int, index: int, count: int, _: Any, args: Any, __: Any
) -> None:
    """Before: each expert is a module, given its tokens only, [tokens, hidden_size]."""
    counts = torch.zeros(count, dtype=torch.int64)
    counts[index] = args[0].shape[:-1].numel()
    counter.add(layer, counts)


def _experts(model: nn.Module) -> dict[int, nn.Module]:
    """Layer -> its experts; nothing for a dense layer."""
    found = {}
    for index, layer in enumerate(find_decoder(model).layers):
        for part in parts_of(layer, "layer"):
            experts = getattr(part.modules[0], "experts", None) if part.part == "ffn" else None
            if isinstance(experts, nn.Module):
                found[index] = experts
    return found
