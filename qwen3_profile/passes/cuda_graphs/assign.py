"""Gives the events of graph replays to the parts that were captured.

A replay's events belong to whatever label was open when the graph was launched. Here the labels of
the pass that the graph repeats are put below it, once per replay:

    decode                              open at cudaGraphLaunch
      layer.7.attn.q_proj               copied from the eager step, or from the capture
    or, where the replay could not be matched, and its finding says why,
      graph_replay
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from qwen3_profile import labels
from qwen3_profile.attribution.attribute import Attribution
from qwen3_profile.attribution.findings import WARNING, Finding, counted
from qwen3_profile.attribution.scopes import NO_SCOPE
from qwen3_profile.passes.cuda_graphs.match import Work, match, short_kernel
from qwen3_profile.passes.cuda_graphs.match_checks import contradiction, unproven
from qwen3_profile.passes.cuda_graphs.reference import Reference, work_of
from qwen3_profile.passes.cuda_graphs.scopes import ScopeCopies, append_copies, copy_scopes, one_row
from qwen3_profile.trace.columns import NO_NODE_ID, Int64

# Kernels of one stream start within this of each other's end; more is work side by side.
_JITTER_NS = 1000

# Gives device events to other scopes, and tells what is to be doubted of that.
Reassign = Callable[[Attribution], tuple[Attribution, tuple[Finding, ...]]]

_PARALLEL = "its kernels ran side by side, and the trace has no graph node ids to order them by"
REFUSED, UNPROVEN, CUT = "graph-refused", "graph-unproven", "graph-cut"
# Of a capture that names no kernels a replay has to have so much, for their count proves it.
_NAMELESS_SHARE = 0.9


@dataclass(frozen=True, slots=True, eq=False)
class Replay:
    """The events of one launch of a graph.

    launch: an index into `Trace.launches`.
    events: positions in `Trace.device`, by their start.
    by_node: the same in the order of their nodes; None where the trace does not tell their ids.
    parallel: whether events ran side by side on one stream, so that their start orders nothing.
    """

    launch: int
    events: Int64
    by_node: Int64 | None
    parallel: bool

    @property
    def orders(self) -> list[tuple[Int64, bool]]:
        """The events as they may be compared, and whether that is in the order of the nodes."""
        found = [] if self.by_node is None else [(self.by_node, True)]
        return found if self.parallel else [*found, (self.events, False)]


@dataclass(frozen=True, slots=True, eq=False)
class _Rest:
    """The events of one replay that keep no labels, and why; none where `why` is empty."""

    code: str
    why: str
    events: Int64


def find_replays(attribution: Attribution) -> tuple[Replay, ...]:
    """The launches of graphs in a trace that have events, in time order."""
    replays = []
    node = [config.node_id for config in attribution.trace.configs_of(attribution.trace.device)]
    inside = np.flatnonzero(attribution.in_graph)
    inside = inside[np.argsort(attribution.trace.device.start_ns[inside], kind="stable")]
    for launch in np.unique(attribution.launch[inside]).tolist():
        events = inside[attribution.launch[inside] == launch]
        nodes = np.array([node[i] for i in events.tolist()], np.int64)
        known = bool((nodes != NO_NODE_ID).all()) and len(np.unique(nodes)) == len(nodes)
        by_node = events[np.argsort(nodes, kind="stable")] if known else None
        replays.append(Replay(launch, events, by_node, _side_by_side(attribution, events)))
    return tuple(
        sorted(replays, key=lambda each: int(attribution.trace.launches.start_ns[each.launch]))
    )


def label_replays(
    attribution: Attribution,
    references: Sequence[Reference],
    nodes: Mapping[int, str] = MappingProxyType({}),
    *,
    accept_cut: bool = False,
) -> tuple[Attribution, tuple[Finding, ...]]:
    """Gives the events of each replay to copies of the scopes of the reference that it matches.

    Args:
        references: what the graphs repeat, the best first. Several that match must say the same.
        nodes: node id -> label, as torch annotates the nodes of a graph. What it says must be what
            the references say; where none of these matches, it decides alone.
        accept_cut: take a replay that lacks the last events of a reference for what it is, where
            nothing else fits.

    Returns:
        The attribution, and a finding for each replay that keeps no labels, or not all.
    """
    return label_each(attribution, lambda _: references, nodes, accept_cut=accept_cut)


def label_each(
    attribution: Attribution,
    references_of: Callable[[Replay], Sequence[Reference]],
    nodes: Mapping[int, str] = MappingProxyType({}),
    *,
    accept_cut: bool = False,
) -> tuple[Attribution, tuple[Finding, ...]]:
    """As `label_replays`, where each replay has references of its own."""
    replays: list[ScopeCopies] = []
    rest: dict[tuple[str, str], list[Int64]] = {}
    for replay in find_replays(attribution):
        references = references_of(replay)
        labelled, told = _label(attribution, replay, references, nodes, accept_cut=accept_cut)
        replays.append(labelled)
        if told.why:
            rest.setdefault((told.code, told.why), []).append(told.events)
    if not replays:
        return attribution, ()
    findings = (_finding(attribution, code, why, events) for (code, why), events in rest.items())
    return append_copies(attribution, replays), tuple(findings)


def find_places(
    attribution: Attribution, replay: Replay, reference: Reference
) -> tuple[dict[int, int], str]:
    """Which work of `reference` each event of a replay is; or none, and why that cannot be said."""
    if replay.parallel and replay.by_node is None:
        return {}, _PARALLEL
    fits, refusals = _fits(attribution, replay, [reference])
    if not fits:
        return {}, refusals[0]
    if any(other.labels() != fits[0].labels() for other in fits[1:]):
        return {}, f"it fits {reference.what} in more than one way, with other labels"
    return dict(zip(fits[0].events.tolist(), fits[0].places, strict=True)), ""


def _side_by_side(attribution: Attribution, events: Int64) -> bool:
    device = attribution.trace.device
    for track in np.unique(device.track[events]):
        mine = events[device.track[events] == track]
        mine = mine[np.argsort(device.start_ns[mine], kind="stable")]
        reach = np.maximum.accumulate(device.end_ns[mine])
        if (device.start_ns[mine[1:]] < reach[:-1] - _JITTER_NS).any():
            return True
    return False


@dataclass(frozen=True, slots=True, eq=False)
class _Fit:
    """A reference that a replay matches. doubtful: which of `events` nothing proves.

    missing: how many of the last launches have no event.
    """

    events: Int64
    reference: Reference
    places: tuple[int, ...]
    doubtful: tuple[int, ...]
    missing: int = 0

    def unlike(self, marked: Mapping[int, str]) -> int | None:
        """The first event that is marked with a label which is not around it here."""
        scopes, root = self.reference.scopes, self.reference.root
        whole = scopes.names[scopes.name[root]] if root != NO_SCOPE else ""
        told = self.labels()
        around = ((event, (whole, *told[event])) for event in marked)
        return next((event for event, path in around if marked[event] not in path), None)

    def labels(self) -> dict[int, tuple[str, ...]]:
        """The label of each event with all around it, without the whole pass's."""
        owner = self.reference.owner.tolist()
        path_of = {each: _path(self.reference, each) for each in set(owner)}
        places = zip(self.events.tolist(), self.places, strict=True)
        return {event: path_of[owner[place]] for event, place in places}


def _label(
    attribution: Attribution,
    replay: Replay,
    references: Sequence[Reference],
    nodes: Mapping[int, str],
    *,
    accept_cut: bool,
) -> tuple[ScopeCopies, _Rest]:
    parent = max(int(attribution.owner[replay.events[0]]), NO_SCOPE)
    configs = attribution.trace.configs_of(attribution.trace.device.take(replay.events))
    marked = {
        event: nodes[config.node_id]
        for event, config in zip(replay.events.tolist(), configs, strict=True)
        if config.node_id in nodes
    }
    if replay.parallel and replay.by_node is None:
        return _refused(replay, parent, [_PARALLEL])
    fits, refusals = _fits(attribution, replay, references)
    if not fits and accept_cut:
        fits = _cut_fits(attribution, replay, references)
    if not fits and marked and references:
        return _by_marks(replay, marked, references[0], parent)
    if not fits:
        return _refused(replay, parent, refusals or ["nothing is known of its capture"])
    first = fits[0]
    odd = first.unlike(marked)
    if odd is not None:
        kernel = short_kernel(attribution.trace.names[attribution.trace.device.name[odd]])
        why = f"{first.reference.what} gives {kernel} another label than its node, {marked[odd]}"
        return _refused(replay, parent, [why])
    if any(other.labels() != first.labels() for other in fits[1:]):
        names = ", ".join(dict.fromkeys(fit.reference.what for fit in fits))
        why = f"it fits {names} in more than one way, with other labels"
        return _refused(replay, parent, [why])
    reference = first.reference
    owner = reference.owner[list(first.places)]
    cut = _cut(first) if first.missing else ""
    doubtful = list(first.doubtful)
    owners = copy_scopes(
        first.events, owner, reference.scopes, reference.root, parent, first.doubtful
    )
    if not doubtful:
        return owners, _Rest(CUT, cut, first.events)
    doubt = _doubt(work_of(attribution.trace, first.events), first.doubtful)
    why = "; and ".join(filter(None, (doubt, cut)))
    return owners, _Rest(UNPROVEN, why, first.events[doubtful])


def _cut(fit: _Fit) -> str:
    """That a replay ends before its reference does."""
    lost = fit.reference.work[len(fit.events)]
    last = f", {short_kernel(lost.name)}" if lost.name else ""
    count, whole = f"{fit.missing} last", len(fit.reference.work)
    return (
        f"of the {whole} launches of {fit.reference.what} the {count} have no event{last}; "
        "those before them fit one by one and have their parts"
    )


def _by_marks(
    replay: Replay, marked: Mapping[int, str], reference: Reference, parent: int
) -> tuple[ScopeCopies, _Rest]:
    """The events that torch has annotated in their labels, the others in one row."""
    scopes = reference.scopes
    scope_of: dict[str, int] = {}
    for scope in range(len(scopes)):
        scope_of.setdefault(scopes.names[scopes.name[scope]], scope)
    events = replay.events.tolist()
    owner = [scope_of.get(marked.get(event, ""), NO_SCOPE) for event in events]
    left = tuple(at for at, scope in enumerate(owner) if scope == NO_SCOPE)
    owners = copy_scopes(
        replay.events, np.array(owner, np.int32), scopes, reference.root, parent, left
    )
    why = "the nodes of the graph have no annotation of these" if left else ""
    return owners, _Rest(UNPROVEN, why, replay.events[list(left)])


def _fits(
    attribution: Attribution, replay: Replay, references: Sequence[Reference]
) -> tuple[list[_Fit], list[str]]:
    """The references that a replay matches, in the order of its nodes or of its start, and why
    the others are none.
    """
    fits: list[_Fit] = []
    refusals: list[str] = []
    for reference in references:
        for events, ordered in replay.orders:
            work = work_of(attribution.trace, events)
            why, places, doubtful = _compare(work, reference, ordered)
            if why:
                refusals.append(why)
            else:
                fits.append(_Fit(events, reference, places, doubtful))
    return fits, refusals


def _cut_fits(
    attribution: Attribution, replay: Replay, references: Sequence[Reference]
) -> list[_Fit]:
    """The references of which a replay lacks the last events."""
    found = (
        _cut_fit(attribution, events, ordered, reference)
        for reference in references
        for events, ordered in replay.orders
    )
    return [each for each in found if each is not None]


def _cut_fit(
    attribution: Attribution, events: Int64, ordered: bool, reference: Reference
) -> _Fit | None:
    """The reference of which a replay has all but the last events; None where it is not so, or
    where they may as well be all but the first ones.
    """
    count, whole = len(events), len(reference.work)
    named = all(each.name for each in reference.work)
    if not 0 < count < whole or not (named or count >= _NAMELESS_SHARE * whole):
        return None
    work = work_of(attribution.trace, events)
    first = reference.part(slice(count))
    why, places, doubtful = _compare(work, first, ordered)
    if why:
        return None
    fit = _Fit(events, first, places, doubtful)
    last = reference.part(slice(whole - count, whole))
    why, places, _ = _compare(work, last, ordered)
    if not why and _Fit(events, last, places, ()).labels() != fit.labels():
        return None
    return _Fit(events, reference, fit.places, doubtful, whole - count)


def _doubt(work: Sequence[Work], doubtful: Sequence[int]) -> str:
    first = doubtful[0]
    return (
        "the capture names no kernels, and their own names do not tell the operator; "
        f"the first is event {first}, {short_kernel(work[first].name)}"
    )


def _compare(
    work: Sequence[Work], reference: Reference, ordered: bool
) -> tuple[str, tuple[int, ...], tuple[int, ...]]:
    """Why a replay is not what the reference launched, or its places and those in doubt."""
    found = match(work, reference.work, reference.what, ordered=ordered)
    if found.difference or all(each.name for each in reference.work):
        return found.difference, found.places, ()
    against = contradiction(work, reference.calls)
    if against:
        return against, (), ()
    return "", found.places, unproven(work, reference.calls, reference.owner.tolist())


def _path(reference: Reference, owner: int) -> tuple[str, ...]:
    """The scope's name with those around it, without the whole pass's; of none, none."""
    scopes, root = reference.scopes, reference.root
    around = scopes.around(max(owner, NO_SCOPE))
    inside = around[around.index(root) + 1 :] if root in around else around
    return tuple(scopes.names[scopes.name[each]] for each in inside)


def _refused(replay: Replay, parent: int, why: Sequence[str]) -> tuple[ScopeCopies, _Rest]:
    """All the time of a replay as one row."""
    events = replay.events
    return one_row(events, parent), _Rest(REFUSED, "; ".join(dict.fromkeys(why)), events)


def _finding(attribution: Attribution, code: str, why: str, replays: Sequence[Int64]) -> Finding:
    """One sentence for all replays of which the same is to be said."""
    device = attribution.trace.device
    events = np.concatenate(replays)
    ns = int(device.dur_ns[events].sum())
    which = f"{counted(len(events), 'device event')} ({ns} ns)"
    graphs = "a graph replay" if len(replays) == 1 else f"{len(replays)} graph replays"
    told = f"could not be given to parts and went into the row {labels.GRAPH_REPLAY}: {why}"
    if code == CUT:
        told = f"are not all that was captured: {why}"
    return Finding(
        WARNING,
        code,
        f"{which} of {graphs} {told}",
        count=len(events),
        ns=ns,
        example=attribution.trace.names[device.name[events[0]]],
    )
