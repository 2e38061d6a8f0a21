"""How a label gets into a trace: ranges of torch's profiler, and functions that run inside one.

Names are made beforehand: nothing is formatted on the way through a forward pass. While no
profiler runs a label costs two look-ups, and under torch.compile it does not exist.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any, Literal, Protocol

import torch
from torch.autograd import profiler as autograd_profiler
from torch.profiler import record_function

from qwen3_profile.labels import PHASES, STEP_PREFIX
from qwen3_profile.measure.patching import Function, Patches

Phase = Literal["prefill", "decode", "train_step"]
CallPhase = Literal["prefill", "decode"]

Range = Callable[[str], AbstractContextManager[object]]

# What models of transformers call the arguments by which a phase is known.
_INPUTS = ("input_ids", "inputs_embeds")
_CACHES = ("past_key_values", "past_key_value", "cache")

# Of a whole forward pass: an annotation, which other tools look for.
annotation_range: Range = record_function
# Of all labels inside one. Ten times cheaper, but private to torch, and an operator to other tools.
label_range: Range = getattr(torch._C._profiler, "_RecordFunctionFast", record_function)

# Part -> label, for the functions that may be called where this thread is now: layer 7's inside
# layer 7's attention; none inside such a function, so that one built on another is labelled once.
_NO_LABELS: Mapping[str, str] = MappingProxyType({})
_open_labels: ContextVar[Mapping[str, str]] = ContextVar("open_labels", default=_NO_LABELS)


def phase(name: Phase) -> AbstractContextManager[object]:
    """The label round one whole forward pass."""
    if name not in PHASES:
        raise ValueError(f"{name!r} is not one of {PHASES}")
    return annotation_range(name) if _recording() else nullcontext()


def step(index: int) -> AbstractContextManager[object]:
    """The range round one measured step, `ProfilerStep#0` onwards, by which viewers count."""
    return annotation_range(f"{STEP_PREFIX}{index}") if _recording() else nullcontext()


def leaf(name: str) -> AbstractContextManager[object]:
    """The label round a part that no module and no function of the model makes up."""
    return label_range(name) if _recording() else nullcontext()


def annotation(name: str) -> AbstractContextManager[object]:
    """The same as a range that viewers show on the device's track too."""
    return annotation_range(name) if _recording() else nullcontext()


class LabelMaker(Protocol):
    """What puts labels round the functions of a model; see `ProfilerRanges`."""

    def inside_range(self, original: Function, label: str, block: Patches) -> Function: ...

    def inside_phase(self, original: Function, block: Patches) -> Function: ...

    def inside_scope(
        self, original: Function, labels: Mapping[str, str], block: Patches
    ) -> Function: ...

    def part_of_scope(self, original: Function, part: str) -> Function: ...


class ProfilerRanges:
    """Labels that are ranges of torch's profiler, while one runs; else they do nothing."""

    def inside_range(self, original: Function, label: str, block: Patches) -> Function:
        """`original` inside the range `label`, while `block` is open."""

        @functools.wraps(original, updated=())
        def labelled(*args: Any, **kwargs: Any) -> Any:
            if not (_recording() and block.is_open):
                return original(*args, **kwargs)
            with label_range(label):
                return original(*args, **kwargs)

        return labelled

    def inside_phase(self, original: Function, block: Patches) -> Function:
        """`original`, a model's forward, inside the label of what it is called with."""

        @functools.wraps(original, updated=())
        def labelled(*args: Any, **kwargs: Any) -> Any:
            if not (_recording() and block.is_open):
                return original(*args, **kwargs)
            with annotation_range(phase_of(args, kwargs)):
                return original(*args, **kwargs)

        return labelled

    def inside_scope(
        self, original: Function, labels: Mapping[str, str], block: Patches
    ) -> Function:
        """`original`, in which the functions of the parts that `labels` names have these labels."""

        @functools.wraps(original, updated=())
        def scoped(*args: Any, **kwargs: Any) -> Any:
            if not (_recording() and block.is_open):
                return original(*args, **kwargs)
            token = _open_labels.set(labels)
            try:
                return original(*args, **kwargs)
            finally:
                _open_labels.reset(token)

        return scoped

    def part_of_scope(self, original: Function, part: str) -> Function:
        """`original` inside the label that `part` has where it is called, if it has one there."""

        @functools.wraps(original, updated=())
        def function(*args: Any, **kwargs: Any) -> Any:
            label = _open_labels.get().get(part) if _recording() else None
            if label is None:
                return original(*args, **kwargs)
            token = _open_labels.set(_NO_LABELS)
            try:
                with label_range(label):
                    return original(*args, **kwargs)
            finally:
                _open_labels.reset(token)

        return function


PROFILER_RANGES = ProfilerRanges()


def phase_of(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> CallPhase:
    """Whether a call is a decode step: one token of each sequence, with a KV cache of others.

    A prompt of one token comes with an empty cache. What an assistant has drafted comes as several
    tokens, and the logits of each of them are asked for: that is a step as well.
    """
    found, cache = input_of(args, kwargs), cache_of(kwargs)
    if found is None or cache is None or not _holds_tokens(cache):
        return "prefill"
    tokens = found.shape[1]
    return "decode" if tokens == 1 or kwargs.get("logits_to_keep") == tokens else "prefill"


def _holds_tokens(cache: Any) -> bool:
    """Whether a cache was written to; asks for no count, for which some wait for the device."""
    layers = getattr(cache, "layers", None)
    if isinstance(layers, list):
        return any(map(_is_written, layers))
    return bool(getattr(cache, "key_cache", True))


def _is_written(layer: Any) -> bool:
    """Whether a layer of a cache holds anything. That of a linear layer says so by its states."""
    written = getattr(layer, "is_initialized", None)
    if written is None:
        written = getattr(layer, "has_previous_state", True)
    return any(written.values()) if isinstance(written, dict) else bool(written)


def input_of(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> torch.Tensor | None:
    """The tensor [batch, tokens, ...] that a call gives a model, if there is one."""
    given = [kwargs.get(name) for name in _INPUTS] + list(args[:1])
    return next((x for x in given if isinstance(x, torch.Tensor) and x.ndim >= 2), None)


def cache_of(kwargs: Mapping[str, Any]) -> Any:
    """The KV cache that a call gives a model; None without one."""
    return next((kwargs[name] for name in _CACHES if kwargs.get(name) is not None), None)


@contextmanager
def redirect_ranges(mark: Range) -> Iterator[None]:
    """Inside, labels go to `mark` in place of the profiler, whether or not it runs."""
    global _recording, label_range, annotation_range
    before = _recording, label_range, annotation_range
    _recording, label_range, annotation_range = (lambda: True), mark, mark
    try:
        yield
    finally:
        _recording, label_range, annotation_range = before


def _recording() -> bool:
    # is_compiling comes first: Dynamo folds it, and so never guards on the profiler's state.
    return not torch.compiler.is_compiling() and autograd_profiler._is_profiler_enabled
