"""Whose code runs as a part that transformers takes from other packages where these are there.

It decides that when a model's source file is imported, so that what is installed by now, or what
the function is called, says nothing: asked is the function itself, and noted is that it was called.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from qwen3_profile.label_parts import parts
from qwen3_profile.measure.patching import Function

# Whose code is what a part falls back to.
_OWN = ("transformers", "torch")
_ASKED = ("implementation", "original_func", "func")


class CalledFunctions:
    """Lines such as `linear_attn.delta_rule: fla.ops.gated_delta_rule.chunk_gated_delta_rule`.

    Args:
        always: those of compiled code, which calls nothing that could be noted.
    """

    def __init__(self, always: tuple[str, ...] = ()) -> None:
        self._always = always
        self._noted: dict[str, None] = {}

    def noting(self, function: Function, part: str) -> Function:
        """`function`, which says in each call that it is `part`."""
        line, noted = f"{part}: {implementation(function)}", self._noted

        @functools.wraps(function, updated=())
        def called(*args: Any, **kwargs: Any) -> Any:
            if not torch.compiler.is_compiling():
                noted[line] = None
            return function(*args, **kwargs)

        return called

    def take(self) -> tuple[str, ...]:
        """What was called since the last time."""
        found = self._always or tuple(self._noted)
        self._noted.clear()
        return found


def implementation(function: Any) -> str:
    """The dotted name of the code that runs where `function` is called."""
    function = getattr(function, "__func__", function)
    if isinstance(function, nn.Module):
        # What kernels of the hub are put into: theirs, or what was there before.
        return implementation(function.forward)
    if inspect.isfunction(function) and function.__closure__:
        inside = inspect.getclosurevars(function).nonlocals
        chosen = next((inside[name] for name in _ASKED if callable(inside.get(name))), None)
        if chosen is not None:
            return implementation(chosen)
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}.{named.__qualname__}"


def is_fallback(line: str) -> bool:
    """Whether a line tells of transformers' own code in place of a package's."""
    return line.rpartition(": ")[2].partition(".")[0] in _OWN


def compiled_functions(layers: nn.ModuleList) -> tuple[str, ...]:
    """The lines of all functions that the layers may call."""
    found: dict[str, None] = {}
    for layer in layers:
        for block in ("linear_attn",):
            mixer = getattr(layer, block, None)
            if isinstance(mixer, nn.Module):
                found.update(dict.fromkeys(_lines(block, mixer)))
    return tuple(found)


def _lines(block: str, module: nn.Module) -> Iterator[str]:
    names = vars(sys.modules[type(module).__module__])
    for part in parts(block):
        for name in part.functions if part.package else ():
            function = vars(module).get(name) or names.get(name)
            if callable(function):
                yield f"{part.path}: {implementation(function)}"
