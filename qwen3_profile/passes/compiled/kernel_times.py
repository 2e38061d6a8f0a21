"""What each set of parts took in the kernel calls of compiled graphs.

A kernel that computes one part is that part's own. One that computes several is nobody's alone: it
is a row of its own, and each of its parts had at least nothing and at most all of it. Its anchor is
the part with most operations in it, the norm where a residual is added on the way.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from qwen3_profile.attribution.attribute import Attribution, count_by_scope, sum_by_scope
from qwen3_profile.attribution.launches import NO_LAUNCH_EVENT
from qwen3_profile.attribution.scopes import NO_SCOPE, NewScope, ScopeTree, no_scopes
from qwen3_profile.passes.compiled.match import GraphCall
from qwen3_profile.passes.compiled.part_names import part_name
from qwen3_profile.passes.compiled.scopes import PlacedCall
from qwen3_profile.run_folder.bytes_moved import Moved
from qwen3_profile.run_folder.provenance import PartShare
from qwen3_profile.trace.columns import Int32, Int64


@dataclass(frozen=True, slots=True)
class KernelTimes:
    """The calls of kernels that compute the same labels, summed. Times in ns.

    labels: what they compute, in that order; of a container what has no name in it.
    anchor: the one of them with most operations.
    cpu_ns: wall-clock on the host; on a CPU the computation itself.
    gap_ns: idle time of the device that ended with one of their events.
    bytes: that they read and write together; None where that of one call is not known.
    """

    labels: tuple[str, ...]
    anchor: str
    calls: int
    cpu_ns: int
    device_ns: int
    device_events: int
    gap_ns: int = 0
    bytes: int | None = None

    @property
    def moved(self) -> Moved:
        """What the calls move together."""
        return Moved(self.calls, self.bytes)

    @property
    def is_fused(self) -> bool:
        """Whether they compute more than one part; the same part of several layers is one."""
        return len({part_name(label) for label in self.labels}) > 1


@dataclass(frozen=True, slots=True)
class CompiledTimes:
    """What of a forward pass ran in compiled graphs.

    graphs, calls: how many calls of graphs there were, and of kernels in those that matched.
    kernels: by their labels, in the order of their first call.
    refusals: of each graph call that could not be matched, the first difference.
    """

    graphs: int
    calls: int
    kernels: tuple[KernelTimes, ...]
    refusals: tuple[str, ...]

    def __add__(self, other: CompiledTimes) -> CompiledTimes:
        """The sums over the steps of both."""
        return CompiledTimes(
            graphs=self.graphs + other.graphs,
            calls=self.calls + other.calls,
            kernels=summed((*self.kernels, *other.kernels)),
            refusals=self.refusals + other.refusals,
        )

    @property
    def bounds(self) -> tuple[Bounds, ...]:
        """Each part that a kernel computes, in the order of the first one that does."""
        sums: dict[str, Counter[str]] = {}
        moved: dict[tuple[str, str], Moved] = {}
        for kernel in self.kernels:
            parts = dict.fromkeys(part_name(label) for label in kernel.labels)
            for part in parts:
                mine = sums.setdefault(part, Counter())
                held = ["most"]
                held += ["least"] if len(parts) == 1 else []
                held += ["anchored"] if part_name(kernel.anchor) == part else []
                for kind in held:
                    mine[f"{kind}_cpu_ns"] += kernel.cpu_ns
                    mine[f"{kind}_device_ns"] += kernel.device_ns
                    moved[part, kind] = moved.get((part, kind), Moved()) + kernel.moved
        return tuple(
            Bounds(
                part,
                **mine,
                least_bytes=moved.get((part, "least"), Moved()).bytes,
                anchored_bytes=moved.get((part, "anchored"), Moved()).bytes,
                most_bytes=moved.get((part, "most"), Moved()).bytes,
            )
            for part, mine in sums.items()
        )


@dataclass(frozen=True, slots=True)
class Bounds:
    """One part over all layers: what its own kernels took, with those that it anchors, and with all
    that it has a share in. Times in ns; bytes as of `KernelTimes`.
    """

    part: str
    least_cpu_ns: int = 0
    anchored_cpu_ns: int = 0
    most_cpu_ns: int = 0
    least_device_ns: int = 0
    anchored_device_ns: int = 0
    most_device_ns: int = 0
    least_bytes: int | None = 0
    anchored_bytes: int | None = 0
    most_bytes: int | None = 0


def kernel_times(attribution: Attribution, placed: Sequence[PlacedCall]) -> tuple[KernelTimes, ...]:
    """Each call by itself, in the order of `placed`."""
    events = np.array([call.event for call in placed], np.int64)
    cpu_ns = attribution.trace.host.dur_ns[events]
    device = _device(attribution, events)
    rows = zip(placed, cpu_ns.tolist(), *(column.tolist() for column in device), strict=True)
    return tuple(
        times_of(
            call.parts,
            cpu_ns=cpu, device_ns=ns, device_events=events, gap_ns=gap, bytes=call.kernel.bytes,
        )
        for call, cpu, ns, events, gap in rows
    )  # fmt: skip


def compiled_times(
    attribution: Attribution, graph_calls: Sequence[GraphCall], placed: Sequence[PlacedCall]
) -> tuple[CompiledTimes, ...]:
    """What ran in compiled graphs in each of `attribution.steps`."""
    rows = kernel_times(attribution, placed)
    kernel_step = steps_of(attribution, [call.event for call in placed])
    graph_step = steps_of(attribution, [graph.event for graph in graph_calls])
    times = []
    for step in range(len(attribution.steps)):
        mine = [row for row, at in zip(rows, kernel_step, strict=True) if at == step]
        inside = [g for g, at in zip(graph_calls, graph_step, strict=True) if at == step]
        refusals = tuple(graph.refusal for graph in inside if graph.refusal)
        times.append(CompiledTimes(len(inside), len(mine), summed(mine), refusals))
    return tuple(times)


def steps_of(attribution: Attribution, events: Sequence[int]) -> list[int]:
    """The step in which each host event begins; -1 for none."""
    start_ns = attribution.trace.host.start_ns[np.array(events, np.int64)]
    at = np.full(len(start_ns), -1, np.int64)
    for index, step in enumerate(attribution.steps):
        at[(start_ns >= step.start_ns) & (start_ns < step.end_ns)] = index
    return [int(each) for each in at]


def times_of(
    parts: Sequence[PartShare],
    *,
    calls: int = 1,
    cpu_ns: int = 0,
    device_ns: int = 0,
    device_events: int = 1,
    gap_ns: int = 0,
    bytes: int | None = None,
) -> KernelTimes:
    """A row of a kernel that computes `parts`; one of which nothing is known is the pass's own."""
    nodes: Counter[str] = Counter()
    for part in parts:
        nodes[part.label] += part.nodes
    labels = tuple(nodes) or ("",)
    anchor = max(labels, key=lambda label: nodes[label])
    return KernelTimes(labels, anchor, calls, cpu_ns, device_ns, device_events, gap_ns, bytes)


def summed(rows: Iterable[KernelTimes]) -> tuple[KernelTimes, ...]:
    """The rows of the same labels together, in the order of the first of each."""
    sums: dict[tuple[tuple[str, ...], str], KernelTimes] = {}
    for row in rows:
        key = (row.labels, row.anchor)
        sums[key] = _both(sums[key], row) if key in sums else row
    return tuple(sums.values())


def _both(one: KernelTimes, other: KernelTimes) -> KernelTimes:
    return replace(
        one,
        calls=one.calls + other.calls,
        cpu_ns=one.cpu_ns + other.cpu_ns,
        device_ns=one.device_ns + other.device_ns,
        device_events=one.device_events + other.device_events,
        gap_ns=one.gap_ns + other.gap_ns,
        bytes=(one.moved + other.moved).bytes,
    )


def _device(attribution: Attribution, events: Int64) -> tuple[Int64, Int64, Int64]:
    """Device time, events launched and idle time that they ended during each of `events`, which
    lie apart from each other.
    """
    calls, place = _flat(attribution, events)
    launches, device = attribution.trace.launches, attribution.trace.device
    linked = np.flatnonzero(attribution.launch != NO_LAUNCH_EVENT)
    launch = attribution.launch[linked]
    owner = calls.innermost(launches.track[launch], launches.start_ns[launch])
    time_ns = sum_by_scope(owner, device.dur_ns[linked], len(calls))
    count = count_by_scope(owner, len(calls))
    gap_ns = sum_by_scope(owner, attribution.gap_ns[linked], len(calls))
    return time_ns[place], count[place], gap_ns[place]


def _flat(attribution: Attribution, events: Int64) -> tuple[ScopeTree, Int32]:
    """A tree of nothing but these host events, and the place of each."""
    host = attribution.trace.host.take(events)
    rows = zip(host.track.tolist(), host.start_ns.tolist(), host.end_ns.tolist(), strict=True)
    return no_scopes().insert([NewScope("", *row, parent=NO_SCOPE) for row in rows])
