"""The passes of a trace that were compiled: each kernel by the parts that it computes.

Kernels that were launched one by one are matched with the provenance by their calls on the host.
Those of a replayed CUDA graph have none: they are matched with a pass of the same graph that was
launched one by one (the reference), event by event, and so get the parts of its calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from qwen3_profile.attribution.attribute import Attribution, attribute
from qwen3_profile.attribution.build_scopes import build_scopes, select_labels
from qwen3_profile.attribution.checks import check_trace
from qwen3_profile.attribution.findings import WARNING, Finding, refuse_damage
from qwen3_profile.attribution.launches import is_graph_launch
from qwen3_profile.passes.compiled.kernel_times import (
    CompiledTimes,
    KernelTimes,
    compiled_times,
    steps_of,
    summed,
    times_of,
)
from qwen3_profile.passes.compiled.match import GraphCall, match_kernels
from qwen3_profile.passes.compiled.part_names import UNMATCHED
from qwen3_profile.passes.compiled.scopes import PlacedCall, place_kernels
from qwen3_profile.passes.cuda_graphs.assign import Replay, find_places, find_replays, label_each
from qwen3_profile.passes.cuda_graphs.reference import Reference, step_reference
from qwen3_profile.passes.labelled import split_reading
from qwen3_profile.passes.reading import Reading
from qwen3_profile.run_folder.provenance import CompiledGraph, read_provenance
from qwen3_profile.run_folder.run_json import Compiled
from qwen3_profile.trace import Trace, read_trace

_WHAT = "the same graph with its kernels launched one by one"


@dataclass(frozen=True, slots=True, eq=False)
class CompiledPass:
    """What is known beforehand of the compiled passes in a trace.

    graphs: what they were compiled to.
    reference: a pass with its kernels launched one by one; None where the traced ones are so too.
    """

    graphs: tuple[CompiledGraph, ...]
    reference: _Reference | None


@dataclass(frozen=True, slots=True, eq=False)
class _Reference:
    """The graph calls of a pass that was launched one by one, in order, and the work of each.

    calls: the kernel calls by their scope in the work's tree; those of other graphs too.
    """

    graphs: tuple[GraphCall, ...]
    work: tuple[Reference, ...]
    calls: dict[int, PlacedCall]


@dataclass(frozen=True, slots=True, eq=False)
class Matched:
    """What became of a trace of compiled passes.

    attribution: device events and kernel calls by their parts.
    ranges: how many of its scopes, the first ones, are ranges of the trace.
    times: what was compiled, of each step.
    findings: what did not match.
    """

    attribution: Attribution
    ranges: int
    times: tuple[CompiledTimes, ...]
    findings: tuple[Finding, ...]


def load_compiled(folder: Path, compiled: Compiled, phase: str, *, accept: bool) -> CompiledPass:
    """Reads the provenance of a config and, where its passes replay graphs, their reference.

    Args:
        folder: the run's.
        accept: read what is left of a damaged reference.

    Raises:
        TraceError: a file is missing, or not ours.
    """
    graphs = read_provenance(folder / compiled.provenance).graphs
    name = compiled.references.get(phase)
    reference = _read_reference(folder / name, graphs, accept) if name else None
    return CompiledPass(graphs, reference)


def read_compiled(
    path: Path, trace: Trace, compiled: CompiledPass, *, accept_damaged: bool = False
) -> Reading:
    """The compiled passes of a trace.

    Raises:
        DamagedTraceError: a trace whose figures would be wrong, unless that is accepted.
    """
    matched = attribute_compiled(trace, compiled)
    findings = (*check_trace(matched.attribution), *matched.findings)
    if not accept_damaged:
        refuse_damage(str(path), findings)
    return split_reading(
        path, "compiled", matched.attribution, matched.ranges, findings, compiled=matched.times
    )


def attribute_compiled(trace: Trace, compiled: CompiledPass) -> Matched:
    """The attribution of a trace, what was compiled in each step, and what did not match."""
    graphs = match_kernels(trace, compiled.graphs)
    reference = compiled.reference
    replayed = [
        number
        for number, graph in enumerate(graphs)
        if reference is not None and _launches_in(trace, graph)
    ]
    direct = [graph for number, graph in enumerate(graphs) if number not in replayed]
    placed = place_kernels(trace, build_scopes(trace, select_labels(trace)), direct)
    attribution = attribute(trace, placed.scopes)
    times = compiled_times(attribution, direct, placed.calls)
    findings = _unmatched(attribution, direct)
    ranges = len(attribution.scopes)
    if reference is None:
        return Matched(attribution, ranges, times, findings)
    findings += _skipped(len(direct), len(graphs))
    labelled, more, told = _replayed(attribution, graphs, replayed, reference)
    times = tuple(one + other for one, other in zip(times, more, strict=True))
    return Matched(labelled, ranges, times, (*findings, *told))


def _unmatched(attribution: Attribution, graphs: Sequence[GraphCall]) -> tuple[Finding, ...]:
    refused = [graph for graph in graphs if graph.refusal]
    if not refused:
        return ()
    host = attribution.trace.host
    message = (
        f"{len(refused)} of {len(graphs)} calls of compiled graphs could not be matched with what "
        f"was compiled, and are in the row {UNMATCHED}: {refused[0].refusal}"
    )
    ns = int(host.dur_ns[[graph.event for graph in refused]].sum())
    example = attribution.trace.names[host.name[refused[0].event]]
    return (Finding(WARNING, "graph-unmatched", message, len(refused), ns, example),)


def missing_graphs(compiled: CompiledTimes | None, expected: int) -> tuple[Finding, ...]:
    """Told where a pass that was to be compiled ran eagerly after all, or partly so."""
    if compiled is None or compiled.graphs >= expected:
        return ()
    graphs, missing = compiled.graphs, expected - compiled.graphs
    message = f"{graphs} compiled graphs were called, not {expected}: the rest of it ran eagerly"
    return (Finding(WARNING, "graphs-missing", message, missing, 0, ""),)


def _skipped(direct: int, graphs: int) -> tuple[Finding, ...]:
    if not direct:
        return ()
    message = (
        f"{direct} of {graphs} calls of compiled graphs replayed no CUDA graph, as this mode was "
        "to; torch's log says why (TORCH_LOGS=cudagraphs)"
    )
    return (Finding(WARNING, "graph-skipped", message, direct, 0, ""),)


def _read_reference(path: Path, graphs: Sequence[CompiledGraph], accept: bool) -> _Reference:
    trace = read_trace(path, accept_damaged=accept, launch_columns=True)
    calls = match_kernels(trace, graphs)
    placed = place_kernels(
        trace, build_scopes(trace, select_labels(trace)), calls, keep_graphs=True
    )
    attribution = attribute(trace, placed.scopes)
    work = tuple(step_reference(attribution, root, _WHAT) for root in placed.graphs)
    return _Reference(calls, work, {call.scope: call for call in placed.calls})


def _replayed(
    attribution: Attribution,
    graphs: Sequence[GraphCall],
    replayed: Sequence[int],
    reference: _Reference,
) -> tuple[Attribution, tuple[CompiledTimes, ...], tuple[Finding, ...]]:
    """The same with the parts of those of `graphs` that were replayed, by their number."""
    repeats = {number: _repeated(number, graphs[number], reference) for number in replayed}
    replays = {replay.launch: replay for replay in find_replays(attribution)}
    launches = {
        number: [at for at in _launches_in(attribution.trace, graphs[number]) if at in replays]
        for number in replayed
    }
    graph_of = {at: number for number, mine in launches.items() for at in mine}

    def references_of(replay: Replay) -> Sequence[Reference]:
        number = graph_of.get(replay.launch)
        same = repeats[number] if number is not None else None
        return () if same is None else (same,)

    labelled, findings = label_each(attribution, references_of)
    times = [CompiledTimes(0, 0, (), ()) for _ in attribution.steps]
    for number in replayed:
        mine = [replays[launch] for launch in launches[number]]
        rows, refusal = _rows(attribution, mine, repeats[number], reference)
        one = CompiledTimes(1, sum(row.calls for row in rows), summed(rows), refusal)
        (step,) = steps_of(attribution, [graphs[number].event])
        if step >= 0:
            times[step] += one
    return labelled, tuple(times), findings


def _repeated(number: int, graph: GraphCall, reference: _Reference) -> Reference | None:
    """What a graph call repeats: the call of the same place in the reference, if it is of the same
    graph and could be matched.
    """
    if number >= len(reference.graphs):
        return None
    same = reference.graphs[number]
    return reference.work[number] if same.region == graph.region and not same.refusal else None


def _launches_in(trace: Trace, graph: GraphCall) -> list[int]:
    """The launches of CUDA graphs during a call of a compiled graph."""
    launches, host, event = trace.launches, trace.host, graph.event
    inside = (launches.track == host.track[event]) & (launches.start_ns >= host.start_ns[event])
    inside &= launches.start_ns < host.end_ns[event]
    return [
        at
        for at in np.flatnonzero(inside).tolist()
        if is_graph_launch(trace.names[launches.name[at]])
    ]


def _rows(
    attribution: Attribution,
    replays: Sequence[Replay],
    repeated: Reference | None,
    reference: _Reference,
) -> tuple[tuple[KernelTimes, ...], tuple[str, ...]]:
    """The kernels of a graph call by what they compute; or why that cannot be said."""
    if repeated is None:
        return (), ("nothing is known of its kernels",)
    if len(replays) != 1:
        return (), (f"the graph was replayed in {len(replays)} pieces, not in one",)
    places, why = find_places(attribution, replays[0], repeated)
    if why:
        return (), (why,)
    rows = []
    seen: set[int] = set()
    for event, place in places.items():
        scope, ns = int(repeated.owner[place]), int(attribution.trace.device.dur_ns[event])
        call = reference.calls.get(scope)
        parts = call.parts if call is not None else ()
        moved = call.kernel.bytes if call is not None else None
        gap_ns, is_first = int(attribution.gap_ns[event]), scope not in seen
        seen.add(scope)
        # A call may launch several events, and moves its bytes once.
        rows.append(
            times_of(
                parts,
                calls=int(is_first), device_ns=ns, gap_ns=gap_ns, bytes=moved if is_first else 0,
            )
        )  # fmt: skip
    return tuple(rows), ()
