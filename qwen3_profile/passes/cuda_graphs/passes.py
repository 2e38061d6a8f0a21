"""The passes of a trace of replays: those that replay graphs, and those that it shows by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from qwen3_profile import labels
from qwen3_profile.attribution.build_scopes import build_scopes, select_labels
from qwen3_profile.attribution.launches import is_graph_launch
from qwen3_profile.attribution.scopes import NO_SCOPE, NewScope, ScopeTree, Step, no_scopes
from qwen3_profile.errors import TraceError
from qwen3_profile.passes.cuda_graphs.reference import Reference
from qwen3_profile.passes.nn_modules.passes import NO_PHASE_SOURCE, read_phase
from qwen3_profile.passes.nn_modules.scopes import build_module_scopes
from qwen3_profile.passes.reading import Origin
from qwen3_profile.trace import Trace
from qwen3_profile.trace.columns import Bool, Category, Events, Int32


@dataclass(frozen=True, slots=True)
class FoundPass:
    """One forward pass: a range around launches of graphs, one launch, or one that ran eagerly.

    model_class: of an eager one; None where it is the captured model's.
    """

    track: int
    start_ns: int
    end_ns: int
    phase: str
    source: str
    model_class: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class FoundPasses:
    """The passes of a trace in time order, and their scopes with what ran eagerly in them."""

    found: tuple[FoundPass, ...]
    scopes: ScopeTree

    def steps(self, trace: Trace) -> tuple[Step, ...]:
        """The time of each pass: from its start up to the next one, of the last up to the end."""
        tables = (trace.host, trace.launches, trace.device)
        last = max(int(table.end_ns.max()) for table in tables if len(table)) + 1
        starts = [item.start_ns for item in self.found]
        return tuple(
            Step(number, start, end)
            for number, (start, end) in enumerate(zip(starts, [*starts[1:], last], strict=True))
        )

    def origins(self, captured: str | None) -> list[Origin]:
        """How each is known, and of which model it is.

        Args:
            captured: the class of the model whose graphs are replayed.
        """
        models = [each.model_class or captured for each in self.found]
        number = {model: at for at, model in enumerate(dict.fromkeys(models))}
        told = zip(self.found, models, strict=True)
        return [Origin(each.source, number[model], model) for each, model in told]


def find_passes(path: Path, trace: Trace, references: Sequence[Reference]) -> FoundPasses:
    """What the trace shows by its own labels or modules, and what replays graphs outside of that.

    Raises:
        TraceError: nothing in it is the replay of a graph.
    """
    ran = np.isin(trace.launches.correlation, trace.device.correlation)
    graphs = np.array([is_graph_launch(name) for name in trace.names], bool)
    launches = trace.launches.take(ran & graphs[trace.launches.name])
    if not len(launches):
        raise TraceError(
            str(path), "holds no launch of a graph with its kernels", "leave out --capture"
        )
    own, eager = _shown(trace)
    inside = own.innermost(launches.track, launches.start_ns)
    eager = _with_graphs(eager, own, inside)
    replayed = _replayed(trace, launches.take(inside == NO_SCOPE), references, own)
    scopes, _ = own.insert(
        [NewScope(p.phase, p.track, p.start_ns, p.end_ns, NO_SCOPE) for p in replayed]
    )
    return FoundPasses(tuple(sorted((*eager, *replayed), key=lambda p: p.start_ns)), scopes)


def _shown(trace: Trace) -> tuple[ScopeTree, tuple[FoundPass, ...]]:
    """The passes with layers of their own, by our labels, else by the modules."""
    tree = build_scopes(trace, select_labels(trace))
    parsed = [labels.parse(name) for name in tree.names]
    if any(label is not None and label.layer is not None for label in parsed):
        roots = np.flatnonzero(tree.parent == NO_SCOPE).tolist()
        return tree, tuple(
            FoundPass(int(tree.track[i]), int(tree.start_ns[i]), int(tree.end_ns[i]),
                      tree.names[tree.name[i]], "label")
            for i in roots
        )  # fmt: skip
    modules = build_module_scopes(trace)
    if modules is None:
        return no_scopes(), ()
    return modules.scopes, tuple(
        FoundPass(each.spans[0].track, each.start_ns, each.end_ns, each.phase, each.phase_source,
                  each.model[0])
        for each in modules.passes
    )  # fmt: skip


def _with_graphs(
    eager: Sequence[FoundPass], own: ScopeTree, inside: Int32
) -> tuple[FoundPass, ...]:
    """Those that launch graphs as passes of the captured model, whatever else they call."""
    starts = {int(own.start_ns[own.around(scope)[0]]) for scope in inside.tolist() if scope >= 0}
    return tuple(
        FoundPass(p.track, p.start_ns, p.end_ns, p.phase, p.source) if p.start_ns in starts else p
        for p in eager
    )


def _replayed(
    trace: Trace, launches: Events, references: Sequence[Reference], own: ScopeTree
) -> tuple[FoundPass, ...]:
    """Our labels or an engine's ranges around graphs, else each graph."""
    ranges = build_scopes(trace, _told(trace), name_gaps=False)
    around = ranges.innermost(launches.track, launches.start_ns)
    found: dict[tuple[int, int], FoundPass] = {}
    for at, scope in enumerate(around.tolist()):
        if scope != NO_SCOPE and not _overlaps(own, ranges, scope):
            text = ranges.names[ranges.name[scope]]
            track, start, end = ranges.track[scope], ranges.start_ns[scope], ranges.end_ns[scope]
            source = "label" if text in labels.PHASES else f"annotation: {text}"
            phase = read_phase(text) or labels.NEUTRAL_PHASE
        else:
            track, start, end = launches.track[at], launches.start_ns[at], launches.end_ns[at]
            phase, source = _captured_phase(references)
        item = FoundPass(int(track), int(start), int(end), phase, source)
        found.setdefault((item.track, item.start_ns), item)
    return tuple(found.values())


def _overlaps(own: ScopeTree, ranges: ScopeTree, scope: int) -> bool:
    """Whether a range shares time with what the trace shows by itself."""
    same = own.track == ranges.track[scope]
    same &= (own.start_ns < ranges.end_ns[scope]) & (own.end_ns > ranges.start_ns[scope])
    return bool(same.any())


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
