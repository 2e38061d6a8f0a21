"""The passes of a trace of graph replays, by the trace of their capture.

    export decode_replay.json.gz --capture decode_capture.json.gz

A serving engine captures its decode steps once and replays them for ever: the trace of the capture
has labels or modules and no kernels, that of the replays has kernels and nothing else. Each replay
becomes a pass with the parts of the capture. The trace of an eager pass does in place of the
capture, if it runs the same kernels.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from qwen3_profile import labels
from qwen3_profile.attribution.attribute import attribute
from qwen3_profile.attribution.build_scopes import build_scopes, select_labels
from qwen3_profile.attribution.checks import check_trace
from qwen3_profile.attribution.findings import refuse_damage
from qwen3_profile.attribution.launches import is_graph_launch
from qwen3_profile.attribution.scopes import NO_CROSSING, NO_SCOPE, ScopeTree, Step
from qwen3_profile.attribution.selection import select
from qwen3_profile.errors import DamagedTraceError, TraceError
from qwen3_profile.passes.cuda_graphs.assign import Reassign, label_replays
from qwen3_profile.passes.cuda_graphs.reference import (
    Reference,
    capture_references,
    is_capture_begin,
    step_reference,
)
from qwen3_profile.passes.nn_modules.passes import NO_PHASE_SOURCE, read_phase
from qwen3_profile.passes.nn_modules.read import outside_passes
from qwen3_profile.passes.nn_modules.scopes import build_module_scopes
from qwen3_profile.passes.pass_times import read_steps
from qwen3_profile.passes.reading import Origin, Reading, reading_of
from qwen3_profile.trace import Trace, read_compact, read_trace
from qwen3_profile.trace.columns import Bool, Category
from qwen3_profile.trace.text import stands_in

_REPLAY_NAME = re.compile("replay|exec", re.IGNORECASE)
_REPLAYS, _CAPTURES = "replays", "captures"


@dataclass(frozen=True, slots=True, eq=False)
class Captured:
    """What a capture says of its replays. model_class: where its modules name it."""

    references: tuple[Reference, ...]
    model_class: str | None = None


@dataclass(frozen=True, slots=True)
class _Pass:
    """One forward pass of a trace of replays: a range around launches of graphs, or one launch."""

    track: int
    start_ns: int
    end_ns: int
    phase: str
    source: str


def read_captured(path: Path, *, accept_damaged: bool = False) -> Captured:
    """What the trace of a capture launched, by our labels where it has them, else by its modules.

    Raises:
        TraceError: it cannot be read, has neither, or launches nothing.
        DamagedTraceError: it is cut off.
    """
    trace = read_trace(path, accept_damaged=accept_damaged, launch_columns=True)
    scopes, model = build_scopes(trace, select_labels(trace)), None
    if not any((label := labels.parse(name)) and label.kind == "layer" for name in scopes.names):
        modules = build_module_scopes(trace)
        if modules is not None:
            scopes, model = modules.scopes, modules.passes[0].model[0]
    if not len(scopes):
        raise TraceError(
            str(path),
            "holds neither labels of qwen3_profile nor nn.Module ranges, which the replays "
            "could be given",
            "record the capture with stacks, or with labels",
        )
    return Captured(references_in(path, trace, scopes), model)


def references_in(path: Path, trace: Trace, scopes: ScopeTree) -> tuple[Reference, ...]:
    """The captures of a trace, else its eager passes.

    Raises:
        TraceError: nothing is launched in it.
    """
    found = capture_references(trace, scopes)
    if not found:
        eager = attribute(trace, scopes)
        roots = np.flatnonzero(scopes.parent == NO_SCOPE).tolist()
        found = tuple(step_reference(eager, root) for root in roots)
    found = tuple(each for each in found if each.work)
    if not found:
        raise TraceError(
            str(path), "launches nothing that a graph could hold", "give the trace of a capture"
        )
    return found


def read_replays(
    path: Path, trace: Trace, captured: Captured, *, accept_damaged: bool = False
) -> Reading:
    """The forward passes in a trace of replays, with the parts of the capture.

    Raises:
        TraceError: nothing in it is the replay of a graph.
        DamagedTraceError: a trace whose figures would be wrong, unless that is accepted.
    """
    passes = _find_passes(path, trace, captured.references)
    attribution = attribute(trace, _scopes(passes), _steps(trace, passes))
    findings = check_trace(attribution)
    if not accept_damaged:
        refuse_damage(str(path), findings)
    labelled, told = label_replays(attribution, captured.references)
    times = read_steps(labelled)
    if len(times) != len(passes) or not all(each.balances for each in times):
        raise DamagedTraceError(
            str(path), "its replays give no forward passes", "account for it with --ledger"
        )
    outside = outside_passes(labelled)
    findings = (*findings, *told, *((outside,) if outside else ()))
    origins = [Origin(each.source, model_class=captured.model_class) for each in passes]
    return reading_of(path, "replay", labelled, len(attribution.scopes), times, findings, origins)


def ledger_of_replays(
    path: Path, trace: Trace, capture: Path, scopes: str, *, accept_damaged: bool = False
) -> Reassign:
    """What gives the replays of a ledger the scopes of their capture; see `make_ledger`."""
    captured = read_trace(capture, accept_damaged=accept_damaged, launch_columns=True)
    tree = build_scopes(captured, select(captured, scopes), name_gaps=False)
    references = references_in(capture, captured, tree)
    return lambda found: label_replays(found, references)


def _find_passes(path: Path, trace: Trace, references: Sequence[Reference]) -> tuple[_Pass, ...]:
    """The passes in time order: our labels or an engine's ranges around graphs, else each graph."""
    ran = np.isin(trace.launches.correlation, trace.device.correlation)
    graphs = np.array([is_graph_launch(name) for name in trace.names], bool)
    launches = trace.launches.take(ran & graphs[trace.launches.name])
    if not len(launches):
        raise TraceError(
            str(path), "holds no launch of a graph with its kernels", "leave out --capture"
        )
    ranges = build_scopes(trace, _told(trace), name_gaps=False)
    around = ranges.innermost(launches.track, launches.start_ns)
    found: dict[tuple[int, int], _Pass] = {}
    for at, scope in enumerate(around.tolist()):
        if scope != NO_SCOPE:
            text = ranges.names[ranges.name[scope]]
            track, start, end = ranges.track[scope], ranges.start_ns[scope], ranges.end_ns[scope]
            source = "label" if text in labels.PHASES else f"annotation: {text}"
            phase = read_phase(text) or labels.NEUTRAL_PHASE
        else:
            track, start, end = launches.track[at], launches.start_ns[at], launches.end_ns[at]
            phase, source = _captured_phase(references)
        item = _Pass(int(track), int(start), int(end), phase, source)
        found.setdefault((item.track, item.start_ns), item)
    return tuple(sorted(found.values(), key=lambda item: item.start_ns))


def _told(trace: Trace) -> Bool:
    """The ranges that say a phase: our labels, and those of serving engines."""
    phases = np.array([read_phase(name) is not None for name in trace.names], bool)
    mask: Bool = phases[trace.host.name] & (trace.host.category == Category.USER_ANNOTATION)
    return mask


def _captured_phase(references: Sequence[Reference]) -> tuple[str, str]:
    """The phase that the capture's own label says, and how it is known."""
    names = {
        each.scopes.names[each.scopes.name[each.root]] if each.root != NO_SCOPE else ""
        for each in references
    }
    name = names.pop() if len(names) == 1 else ""
    if name in labels.PHASES:
        return name, "label"
    return labels.NEUTRAL_PHASE, NO_PHASE_SOURCE


def _scopes(passes: Sequence[_Pass]) -> ScopeTree:
    """One scope per pass, in order of tracks and time."""
    order = sorted(passes, key=lambda item: (item.track, item.start_ns))
    names = tuple(dict.fromkeys(item.phase for item in order))
    return ScopeTree(
        names=names,
        name=np.array([names.index(item.phase) for item in order], np.int32),
        track=np.array([item.track for item in order], np.int32),
        start_ns=np.array([item.start_ns for item in order], np.int64),
        end_ns=np.array([item.end_ns for item in order], np.int64),
        parent=np.full(len(order), NO_SCOPE, np.int32),
        is_gap=np.zeros(len(order), bool),
        crossing=NO_CROSSING,
    )


def _steps(trace: Trace, passes: Sequence[_Pass]) -> tuple[Step, ...]:
    """The time of each pass: from its start up to the next one, of the last up to the end."""
    tables = (trace.host, trace.launches, trace.device)
    last = max(int(table.end_ns.max()) for table in tables if len(table)) + 1
    starts = [item.start_ns for item in passes]
    return tuple(
        Step(number, start, end)
        for number, (start, end) in enumerate(zip(starts, [*starts[1:], last], strict=True))
    )


def capture_pair(files: Sequence[Path]) -> tuple[Path, Path] | None:
    """(replay, capture) of a folder's two traces, if their names or their contents say so."""
    if len(files) != 2:
        return None
    for replay, capture in (files, files[::-1]):
        if "capture" in capture.name.lower() and _REPLAY_NAME.search(replay.name):
            return replay, capture
    launches = [_launches(path) for path in files]
    for (replay, capture), (ran, captured) in (
        (files, launches),
        (files[::-1], launches[::-1]),
    ):
        if ran == {_REPLAYS} and captured == {_CAPTURES}:
            return replay, capture
    return None


def _launches(path: Path) -> set[str]:
    """Whether a file tells of captures, of replays, or of both; of neither if it is no trace."""
    # What all such names have in common: most traces have neither, and may be long.
    if not stands_in(path, (b"GraphLaunch", b"BeginCapture")):
        return set()
    try:
        names = read_compact(path, keeps_op=lambda _: False).names
    except TraceError:
        return set()
    found = {_REPLAYS for name in names if is_graph_launch(name)}
    return found | {_CAPTURES for name in names if is_capture_begin(name)}
