"""What speaks against the order of a replay's events, by the nameless launches of its capture.

CUDA's launch records do not name the kernel, so a match by order has only counts and kinds behind
it. What else can be checked is checked here. Against the match speak

    a kernel that two kinds of operators would have launched,
    a launch of a layer that is another kernel, or of another grid, than that of the other layers;

and an event is proven to be its launch where

    the kernel's name tells the operator, and no other one of the graph: `MulFunctor`, aten::mul,
    the same launch of at least three layers is the same kernel,
    or the proven events on both sides of it have the label that it would get.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import lru_cache

from qwen3_profile.passes.cuda_graphs.match import Work, short_kernel
from qwen3_profile.passes.cuda_graphs.reference import Call

_ENOUGH_LAYERS = 3
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")

# Words that the names of other operators' kernels have too count only together with their next one.
_WORDS = {
    "product": ("gemm", "sgemm", "gemv", "nvjet", "cutlass", "cublas", "xmma", "cijk", "splitk",
                "dot"),
    "attention": ("attention", "attn", "sdpa", "flash", "fmha"),
    "copy": ("copy_kernel",),
    "index": ("index_kernel",),
}  # fmt: skip
# Operators by what the names of their kernels have in common, where that is not their own name.
_FAMILIES = {
    "mm": "product", "bmm": "product", "addmm": "product", "baddbmm": "product",
    "matmul": "product", "linear": "product", "scaled_mm": "product", "grouped_mm": "product",
    "eq": "compare", "ne": "compare", "lt": "compare", "le": "compare", "gt": "compare",
    "ge": "compare", "sub": "add", "rsub": "add", "cumsum": "scan",
}  # fmt: skip


def contradiction(replay: Sequence[Work], calls: Sequence[Call]) -> str:
    """The first thing that speaks against the order, in a sentence; empty where nothing does.

    Args:
        replay: the events of a replay.
        calls: who launched each of them, if the order is right.
    """
    launcher: dict[str, Call] = {}
    seen: dict[tuple[str, int], Counter[Work]] = defaultdict(Counter)
    for index, (work, call) in enumerate(zip(replay, calls, strict=True)):
        if work.kind != "kernel":
            continue
        first = launcher.setdefault(work.name, call)
        if (first.function, family(first.operator)) != (call.function, family(call.operator)):
            return (
                f"event {index}, {short_kernel(work.name)}, would be a kernel of {_who(call)}, "
                f"and before it was one of {_who(first)}"
            )
        seen[call.place][_anywhere(work)] += 1
    for index, (work, call) in enumerate(zip(replay, calls, strict=True)):
        same = seen[call.place]
        if work.kind == "kernel" and same[_anywhere(work)] == 1 and same.total() > 1:
            other = next(each for each in same if each != _anywhere(work))
            return (
                f"event {index}, {_shown(work, other)}, would be launch {call.place[1]} of "
                f"{call.place[0]}, which is {_shown(other, work)} in another layer"
            )
    return ""


def _who(call: Call) -> str:
    return call.operator or call.function


def _anywhere(work: Work) -> Work:
    return replace(work, stream="")


def _shown(work: Work, other: Work) -> str:
    if work.name != other.name:
        return short_kernel(work.name, other.name)
    return f"{short_kernel(work.name)} with a grid of {work.grid} and a block of {work.block}"


def unproven(
    replay: Sequence[Work], calls: Sequence[Call], owner: Sequence[int]
) -> tuple[int, ...]:
    """The events of which nothing but their place in the order says what they are.

    Args:
        owner: the label that each event would get.
    """
    families = {family(call.operator) for call in calls}
    layers = Counter((call.place, work.name) for work, call in zip(replay, calls, strict=True))
    proven = [
        work.kind != "kernel"
        or layers[call.place, work.name] >= _ENOUGH_LAYERS
        or _tells(work.name, family(call.operator), families)
        for work, call in zip(replay, calls, strict=True)
    ]
    found: list[int] = []
    for start, end in _runs(proven):
        around = {owner[i] for i in (start - 1, end) if 0 <= i < len(owner)}
        inside = set(owner[start:end])
        if len(around | inside) > 1:
            found += range(start, end)
    return tuple(found)


@lru_cache(maxsize=4096)
def family(operator: str) -> str:
    """`add` of `aten::add_` and of `aten::sub`: what an operator's kernels are known by."""
    name = operator.rpartition("::")[2].strip("_")
    if "attention" in name:
        return "attention"
    return _FAMILIES.get(name, name)


def _tells(kernel: str, mine: str, families: Iterable[str]) -> bool:
    """Whether a kernel's name has the words of its operator, and of no other of the graph."""
    told = {each for each in families if each and _names(kernel, each)}
    return told == {mine}


@lru_cache(maxsize=65536)
def _names(kernel: str, family_name: str) -> bool:
    text = _words(kernel)
    choices = _WORDS.get(family_name, (family_name,))
    return any(f" {_words(choice).strip()} " in text for choice in choices)


@lru_cache(maxsize=4096)
def _words(name: str) -> str:
    """` index select small index ` of `indexSelectSmallIndex`."""
    return f" {' '.join(word.lower() for word in _WORD.findall(name))} "


def _runs(proven: Sequence[bool]) -> list[tuple[int, int]]:
    """(start, end) of each run of events that are not proven."""
    found: list[tuple[int, int]] = []
    for index, each in enumerate(proven):
        if each:
            continue
        if found and found[-1][1] == index:
            found[-1] = (found[-1][0], index + 1)
        else:
            found.append((index, index + 1))
    return found
