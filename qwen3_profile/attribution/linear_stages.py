"""The stages of a Linear of packed weights: what quantises, what multiplies, what dequantises.

Each library does it with operators of its own, or with those of torch, which say nothing by their
names: a product of unpacked weights is preceded by what unpacks them, and followed by what scales
it. The stages are scopes inside the Linear's, as far as they are operators of their own; a kernel
that unpacks and multiplies at once is a product.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from functools import lru_cache
from itertools import groupby

import numpy as np

from qwen3_profile import label_parts, labels
from qwen3_profile.attribution.scopes import NewScope, ScopeTree
from qwen3_profile.trace.columns import Category, Events, Trace, which

QUANTISE, GEMM, DEQUANTISE = label_parts.stages()
# What stands for one of the first or of the last, by where it stands.
_ANY = ""

# (stage, start, end), in ns.
Stretch = tuple[str, int, int]

_DEQUANTISES = re.compile(r"dequant")
_QUANTISES = re.compile(r"quant|qparams")
_MULTIPLIES = re.compile(r"(^|_)(mm|addmm|bmm|baddbmm|matmul|linear|gemm|gemv|igemm)(_|$|\d)")
# Products whose operands are both packed: what comes before them quantises.
_OF_PACKED = re.compile(r"_int_mm|_scaled_mm|int8\w*mm|int8\w*matmul|f8f8")
# Operators of torch that compute nothing; those that may copy do it in another one inside.
_NO_WORK = frozenset((
    "_unsafe_view", "add", "add_", "alias", "as_strided", "chunk", "contiguous", "detach", "empty",
    "empty_like", "empty_strided", "expand", "flatten", "permute", "reshape", "resolve_conj",
    "resolve_neg", "select", "slice", "split", "squeeze", "t", "to", "transpose", "unflatten",
    "unsqueeze", "view",
))  # fmt: skip
_HOLDS_WORK = frozenset(("contiguous", "flatten", "reshape", "to", "unflatten"))
_BIAS = ("add", "add_")


def with_stages(trace: Trace, tree: ScopeTree, linears: Collection[str]) -> ScopeTree:
    """`tree` with the stages of the labels `linears`, which may be those of every layer.

    Args:
        trace: with all of its operators.
    """
    chosen = which(tree.names, lambda name: {name, labels.every_layer(name)} & {*linears})
    scopes = np.flatnonzero(chosen[tree.name]) if linears else np.empty(0, np.int64)
    if not len(scopes):
        return tree
    rows = [
        NewScope(f"{tree.names[tree.name[scope]]}.{stage}", track, start, end, scope)
        for scope, ops in _operators(trace, tree, set(scopes.tolist()))
        for track in [int(tree.track[scope])]
        for stage, start, end in stretches(ops)
        if end > start
    ]
    return tree.insert(rows)[0] if rows else tree


def _operators(
    trace: Trace, tree: ScopeTree, scopes: set[int]
) -> Iterator[tuple[int, list[tuple[str, int, int]]]]:
    """Each of these scopes with the operators in it, the outer ones first."""
    ops = trace.host.take(trace.host.category == Category.CPU_OP)
    ops = ops.take(~which(trace.names, labels.parse)[ops.name])
    inside = tree.innermost(ops.track, ops.start_ns)
    rows = sorted(_rows(trace, ops, inside.tolist(), scopes))
    for scope, mine in groupby(rows, key=lambda row: row[0]):
        yield scope, [(name, start, -minus_end) for _, start, minus_end, name in mine]


def _rows(
    trace: Trace, ops: Events, inside: Sequence[int], scopes: set[int]
) -> Iterator[tuple[int, int, int, str]]:
    columns = (ops.start_ns.tolist(), ops.end_ns.tolist(), ops.name.tolist())
    for scope, start, end, name in zip(inside, *columns, strict=True):
        if scope in scopes:
            yield scope, start, -end, trace.names[name]


def stretches(ops: Sequence[tuple[str, int, int]]) -> list[Stretch]:
    """The stages of one call, one after the other; what lies between them is of none.

    Args:
        ops: (name, start, end) of the operators in it, each before those inside it.
    """
    found: list[Stretch] = []
    packed, until = False, 0
    for name, start, end in ops:
        stage = _stage_of(name)
        if start >= until and stage is not None:
            if stage == _ANY and name.removeprefix("aten::") in _HOLDS_WORK:
                continue
            packed = packed or _OF_PACKED.search(name) is not None or stage == QUANTISE
            until = end
            work = name.removeprefix("aten::") not in _NO_WORK or _before_product(name, found)
            found += [(stage, start, end)] if work else []
        elif found and found[-1][0] == GEMM and stage in (QUANTISE, DEQUANTISE):
            found[-1:] = _split(found[-1], (stage, start, end))
    return _merged(_told(found, QUANTISE if packed else DEQUANTISE))


def _before_product(name: str, found: Sequence[Stretch]) -> bool:
    """Whether an add is no bias: it shifts what is multiplied."""
    is_add = name.removeprefix("aten::") in _BIAS
    return is_add and all(stage != GEMM for stage, _, _ in found)


@lru_cache(maxsize=4096)
def _stage_of(name: str) -> str | None:
    """The stage of an operator of this name; "" where its place says it, None of no operator."""
    namespace, _, operator = name.rpartition("::")
    if not namespace:
        return None  # such as a function of autograd, which has operators in it
    if _DEQUANTISES.search(operator):
        return DEQUANTISE
    if _MULTIPLIES.search(operator):
        return GEMM
    if _QUANTISES.search(operator):
        return QUANTISE
    return _ANY if namespace in ("aten", "prim", "prims") else GEMM


def _split(outer: Stretch, inner: Stretch) -> list[Stretch]:
    """A product, and what it does first by another operator."""
    stage, start, end = outer
    if inner[1] < start or inner[2] > end:
        return [outer]
    return [(stage, start, inner[1]), inner, (stage, inner[2], end)]


def _told(found: Sequence[Stretch], before: str) -> list[Stretch]:
    """With stages for what has them by its place; none of a call without a product."""
    first = next((at for at, each in enumerate(found) if each[0] == GEMM), None)
    if first is None:
        return [each for each in found if each[0] != _ANY]
    return [
        (stage or (before if at < first else DEQUANTISE), start, end)
        for at, (stage, start, end) in enumerate(found)
    ]


def _merged(found: Sequence[Stretch]) -> list[Stretch]:
    """Neighbours of one stage as one."""
    merged: list[Stretch] = []
    for stage, start, end in found:
        if merged and merged[-1][0] == stage:
            merged[-1] = (stage, merged[-1][1], end)
        else:
            merged.append((stage, start, end))
    return merged
