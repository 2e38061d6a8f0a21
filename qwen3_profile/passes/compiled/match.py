"""The parts of each kernel call in a trace, by the provenance of its graphs.

A call of a compiled graph looks so in a trace, on a GPU as on a CPU (times in ns):

    Torch-Compiled Region: 0/0                                         0 .. 900
      ## Call CompiledFxGraph None ##                                100 .. 800
        triton_per_fused_add_mean_mul_pow_rsqrt_4                    120 .. 160
        aten::mm                                                     170 .. 230
          aten::resolve_conj                                         180 .. 181

The events directly below the graph are its kernel calls, in the order in which they were compiled.
Either every name agrees with the provenance, one to one, or the whole call of the graph is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from qwen3_profile.run_folder.provenance import CompiledGraph, Kernel
from qwen3_profile.trace.columns import Category, Int64, Trace

_REGION = re.compile(r"Torch-Compiled Region: (\S+)")
_GRAPH = re.compile(r"## Call CompiledFxGraph .*")
# Inductor numbers its C++ graphs from 0 in each process.
_GRAPH_NUMBER = re.compile(r"graph_\d+_")
# What the code between the kernels calls for its buffers; it computes nothing.
_BUFFERS = frozenset(
    f"aten::{op}"
    for op in ("empty", "empty_strided", "empty_like", "as_strided", "set_", "resize_", "detach")
)


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a kernel: its event in `trace.host`, and what was compiled there."""

    event: int
    kernel: Kernel


@dataclass(frozen=True, slots=True)
class GraphCall:
    """One call of a compiled graph.

    event: its range in `trace.host`.
    calls: every kernel call in it; empty where it is refused.
    refusal: the first difference between the trace and the provenance; empty where there is none.
    """

    region: str
    event: int
    calls: tuple[Call, ...]
    refusal: str


def match_kernels(trace: Trace, graphs: Sequence[CompiledGraph]) -> tuple[GraphCall, ...]:
    """Every call of a compiled graph in the trace, in time order on each thread."""
    known = {graph.region: graph for graph in graphs}
    return tuple(
        _match(trace, known.get(region), region, event, children)
        for region, event, children in _graph_calls(trace)
    )


def _match(
    trace: Trace, graph: CompiledGraph | None, region: str, event: int, children: Sequence[int]
) -> GraphCall:
    if graph is None:
        refusal = f"region {region} was compiled when nobody watched"
        return GraphCall(region, event, (), refusal)
    names = [_GRAPH_NUMBER.sub("", trace.names[trace.host.name[i]], count=1) for i in children]
    seen = [(i, name) for i, name in zip(children, names, strict=True) if name not in _BUFFERS]
    refusal = _difference([name for _, name in seen], [k.name for k in graph.kernels])
    if refusal:
        return GraphCall(region, event, (), f"region {region}: {refusal}")
    calls = (Call(i, kernel) for (i, _), kernel in zip(seen, graph.kernels, strict=True))
    return GraphCall(region, event, tuple(calls), "")


def _difference(seen: Sequence[str], compiled: Sequence[str]) -> str:
    """The first one of two lists of names, in words; empty where they are the same."""
    for index, (there, expected) in enumerate(zip(seen, compiled, strict=False)):
        if there != expected:
            return f"call {index} is {there}, where {expected} was compiled"
    if len(seen) != len(compiled):
        return f"has {len(seen)} kernel calls, where {len(compiled)} were compiled"
    return ""


def _graph_calls(trace: Trace) -> Iterator[tuple[str, int, list[int]]]:
    """(region, the graph's event, the events directly below it) of each call of a graph."""
    region_of = {i: m[1] for i, n in enumerate(trace.names) if (m := _REGION.fullmatch(n))}
    is_graph = {i for i, name in enumerate(trace.names) if _GRAPH.fullmatch(name)}
    host = trace.host
    for track in np.unique(host.track[np.isin(host.name, list(region_of))]).tolist():
        mine = _nested(trace, track, [*region_of, *is_graph])
        names = host.name[mine].tolist()
        ends = host.end_ns[mine].tolist()
        starts = host.start_ns[mine].tolist()
        stack: list[tuple[int, str, list[int] | None]] = []
        found: list[tuple[str, int, list[int]]] = []
        for at, name in enumerate(names):
            while stack and ends[stack[-1][0]] <= starts[at]:
                stack.pop()
            region = region_of.get(name, stack[-1][1] if stack else "")
            children: list[int] | None = None
            if stack and stack[-1][2] is not None:
                stack[-1][2].append(int(mine[at]))
            if name in is_graph and region:
                children = []
                found.append((region, int(mine[at]), children))
            stack.append((at, region, children))
        yield from found


def _nested(trace: Trace, track: int, ranges: Sequence[int]) -> Int64:
    """The operators of one thread by start, those that hold others first, and the ranges round
    them, which torch 2.10 wrote as annotations.
    """
    host = trace.host
    wanted = (host.category == Category.CPU_OP) | np.isin(host.name, ranges)
    mine = np.flatnonzero((host.track == track) & wanted)
    order = np.lexsort((-host.dur_ns[mine], host.start_ns[mine]))
    found: Int64 = mine[order]
    return found
