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
from qwen3_profile.attribution.scopes import NO_SCOPE, ScopeTree
from qwen3_profile.attribution.selection import select
from qwen3_profile.errors import DamagedTraceError, TraceError
from qwen3_profile.passes.cuda_graphs.assign import Reassign, label_replays
from qwen3_profile.passes.cuda_graphs.passes import find_passes
from qwen3_profile.passes.cuda_graphs.reference import (
    Reference,
    capture_references,
    is_capture_begin,
    step_reference,
)
from qwen3_profile.passes.nn_modules.read import outside_passes
from qwen3_profile.passes.nn_modules.scopes import build_module_scopes
from qwen3_profile.passes.pass_times import read_steps
from qwen3_profile.passes.reading import Reading, reading_of
from qwen3_profile.trace import Trace, read_compact, read_trace
from qwen3_profile.trace.text import stands_in

_REPLAY_NAME = re.compile("replay|exec", re.IGNORECASE)
_REPLAYS, _CAPTURES = "replays", "captures"


@dataclass(frozen=True, slots=True, eq=False)
class Captured:
    """What a capture says of its replays. model_class: where its modules name it."""

    references: tuple[Reference, ...]
    model_class: str | None = None


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
    passes = find_passes(path, trace, captured.references)
    scopes = passes.scopes
    attribution = attribute(trace, scopes, passes.steps(trace))
    findings = check_trace(attribution)
    if not accept_damaged:
        refuse_damage(str(path), findings)
    labelled, told = label_replays(attribution, captured.references, accept_cut=True)
    times = read_steps(labelled)
    if len(times) != len(passes.found) or not all(each.balances for each in times):
        raise DamagedTraceError(
            str(path), "its replays give no forward passes", "account for it with --ledger"
        )
    outside = outside_passes(labelled)
    findings = (*findings, *told, *((outside,) if outside else ()))
    origins = passes.origins(captured.model_class)
    return reading_of(path, "replay", labelled, len(attribution.scopes), times, findings, origins)


def ledger_of_replays(
    path: Path, trace: Trace, capture: Path, scopes: str, *, accept_damaged: bool = False
) -> Reassign:
    """What gives the replays of a ledger the scopes of their capture; see `make_ledger`."""
    captured = read_trace(capture, accept_damaged=accept_damaged, launch_columns=True)
    tree = build_scopes(captured, select(captured, scopes), name_gaps=False)
    references = references_in(capture, captured, tree)
    return lambda found: label_replays(found, references, accept_cut=True)


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
