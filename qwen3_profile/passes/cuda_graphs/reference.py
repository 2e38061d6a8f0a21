"""The work of a labelled pass that ran or was captured, in the order of its launches.

That is what the replays of a graph are matched with. Two things can be such a reference: an eager
step, whose kernels are in its trace; or the capture itself, of which a trace has the launches only,
with names on HIP and without them on CUDA.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np

from qwen3_profile import labels
from qwen3_profile.attribution.attribute import NO_STEP, Attribution, attribute
from qwen3_profile.attribution.build_scopes import build_scopes, label_scopes, select_labels
from qwen3_profile.attribution.launches import NO_LAUNCH_EVENT, is_outer
from qwen3_profile.attribution.scopes import NO_SCOPE, ScopeTree
from qwen3_profile.passes.cuda_graphs.match import Work
from qwen3_profile.trace.columns import Category, Int32, Int64, LaunchConfig, Trace

_KINDS = {
    Category.KERNEL: "kernel",
    Category.GPU_MEMCPY: "copy",
    Category.GPU_MEMSET: "fill",
}
_HIP_KERNELS = {"__amd_rocclr_fillBuffer": "fill", "__amd_rocclr_copyBuffer": "copy"}
_UNKNOWN_MEMORY = re.compile(r"Mem(set|cpy) .*\bUnknown\b.*")
# The calls that put a node with work of its own into the graph that is being captured.
_WORK_CALLS = (
    ("kernel", re.compile(r"(cuda|cu|hip)(Ext|Module|ExtModule)?Launch(Cooperative)?Kernel\w*")),
    ("copy", re.compile(r"(cuda|cu|hip)Memcpy\w+")),
    ("fill", re.compile(r"(cuda|cu|hip)Memset\w+")),
)
_BEGIN = re.compile(r"(cuda|cu|hip)StreamBeginCapture\w*")
_END = re.compile(r"(cuda|cu|hip)StreamEndCapture\w*")


@dataclass(frozen=True, slots=True)
class Call:
    """Who launched: the call of the runtime, and the operator around it ("" where there is none).

    place: the label around it without the number of its layer, and which launch in it this is.
    """

    function: str
    operator: str
    place: tuple[str, int]


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """The work of one labelled pass, in the order of its launches.

    what: its name in a sentence, such as "the eager step".
    work: one entry per event.
    owner: int32, a scope's index in `scopes` for each; -1 where it has none.
    root: the scope of the whole pass, or -1 where the scopes have no such.
    calls: of a capture, who launched each; empty of a step, whose kernels have names.
    """

    what: str
    work: tuple[Work, ...]
    owner: Int32
    scopes: ScopeTree
    root: int
    calls: tuple[Call, ...] = ()

    def part(self, some: slice) -> Reference:
        """The same with some of the work only."""
        return replace(self, work=self.work[some], owner=self.owner[some], calls=self.calls[some])


def is_capture_begin(name: str) -> bool:
    """Whether a call of this name begins the capture of a graph."""
    return _BEGIN.fullmatch(name) is not None


def work_of(trace: Trace, events: Int64) -> tuple[Work, ...]:
    """The device events at `events` as what they are matched by."""
    device = trace.device
    found = []
    for i, config in zip(events.tolist(), trace.configs_of(device.take(events)), strict=True):
        name = trace.names[device.name[i]]
        kind = _hip_kind(name) or _KINDS[Category(int(device.category[i]))]
        stream = trace.tracks[device.track[i]]
        where = f"{stream.pid}/{stream.tid}"
        found.append(Work(kind, _told_name(name), config.grid, config.block, where))
    return tuple(found)


def _told_name(name: str) -> str:
    """The name, or none where CUPTI does not know the memory: `Memset (Unknown)` is of any."""
    return "" if _UNKNOWN_MEMORY.fullmatch(name) else name


def find_step_reference(
    trace: Trace, number: int, phase: str, what: str, quantised: Collection[str] = ()
) -> Reference | None:
    """The pass `phase` in `ProfilerStep#number` of a trace of ours; None where it has no such."""
    attribution = attribute(trace, label_scopes(trace, quantised))
    scopes = attribution.scopes
    for root in np.flatnonzero(scopes.parent == NO_SCOPE).tolist():
        step = int(attribution.scope_step[root])
        is_phase = scopes.names[scopes.name[root]] == phase
        if is_phase and step != NO_STEP and attribution.steps[step].number == number:
            return step_reference(attribution, root, what)
    return None


def step_reference(attribution: Attribution, root: int, what: str = "the eager step") -> Reference:
    """The device events that belong to the scope `root` or to one in it, by their launches."""
    is_root = np.arange(len(attribution.scopes)) == root
    inside = is_root | attribution.scopes.below(is_root)
    mine = (attribution.owner >= 0) & inside[np.maximum(attribution.owner, 0)]
    events = np.flatnonzero(mine & (attribution.launch != NO_LAUNCH_EVENT))
    launched = attribution.trace.launches.start_ns[attribution.launch[events]]
    # A launch that makes two events makes them one after the other.
    events = events[np.lexsort((attribution.trace.device.start_ns[events], launched))]
    work = work_of(attribution.trace, events)
    return Reference(what, work, attribution.owner[events], attribution.scopes, root)


def capture_references(trace: Trace, scopes: ScopeTree) -> tuple[Reference, ...]:
    """What each capture in a trace launched, in time order; captures of nothing are left out.

    A trace without the records that a capture begins and ends with is taken as one capture.
    """
    calls = trace.launches.take(is_outer(trace.launches))
    calls = calls.take(np.lexsort((calls.start_ns,)).astype(np.int64))
    told = zip(trace.launches.correlation.tolist(), trace.configs_of(trace.launches), strict=True)
    config_of = {correlation: config for correlation, config in told if config.kernel}
    ran = set(trace.device.correlation.tolist())
    kinds = {name: _kind_of_call(trace.names[name]) for name in np.unique(calls.name).tolist()}
    found: list[Reference] = []
    sections = _sections(trace)
    for number, (track, start_ns, end_ns) in enumerate(sections):
        inside = (calls.start_ns >= start_ns) & (calls.start_ns < end_ns)
        inside &= (calls.track == track) | (track < 0)
        chosen = [
            i
            for i in np.flatnonzero(inside).tolist()
            if kinds[int(calls.name[i])] and int(calls.correlation[i]) not in ran
        ]
        if not chosen:
            continue
        index = np.array(chosen, np.int64)
        mine = calls.take(index)
        owner = scopes.innermost(mine.track, mine.start_ns)
        configs = [config_of.get(each, LaunchConfig()) for each in mine.correlation.tolist()]
        work = tuple(
            Work("kernel" if each.kernel else kinds[name], each.kernel, each.grid, each.block)
            for name, each in zip(mine.name.tolist(), configs, strict=True)
        )
        what = "the capture" if len(sections) == 1 else f"capture {number}"
        root = _common_root(scopes, owner)
        who = _calls(trace, mine.name, mine.track, mine.start_ns, scopes, owner)
        found.append(Reference(what, work, owner, scopes, root, who))
    return tuple(found)


def _hip_kind(name: str) -> str:
    """HIP fills and copies with kernels of its own, where the launch was that of a fill or copy."""
    return next((kind for prefix, kind in _HIP_KERNELS.items() if name.startswith(prefix)), "")


def _kind_of_call(name: str) -> str:
    return next((kind for kind, pattern in _WORK_CALLS if pattern.fullmatch(name)), "")


def _sections(trace: Trace) -> list[tuple[int, int, int]]:
    """(track, start, end) of each capture; one of everything, on any track, where none is told."""
    launches = trace.launches
    begins = [i for i in range(len(launches)) if is_capture_begin(trace.names[launches.name[i]])]
    ends = [i for i in range(len(launches)) if _END.fullmatch(trace.names[launches.name[i]])]
    found = []
    for begin in begins:
        track, start_ns = int(launches.track[begin]), int(launches.start_ns[begin])
        after = [
            int(launches.start_ns[end])
            for end in ends
            if launches.track[end] == track and launches.start_ns[end] > start_ns
        ]
        if after:
            found.append((track, start_ns, min(after)))
    if found:
        return found
    if not len(launches):
        return []
    return [(-1, int(launches.start_ns.min()), int(launches.end_ns.max()) + 1)]


def _common_root(scopes: ScopeTree, owner: Int32) -> int:
    """The outermost scope that holds all of `owner`; -1 where they lie in several, or in none."""
    roots = {(scopes.around(scope) or [NO_SCOPE])[0] for scope in set(owner.tolist())}
    return roots.pop() if len(roots) == 1 else NO_SCOPE


def _calls(
    trace: Trace, name: Int32, track: Int32, time_ns: Int64, scopes: ScopeTree, owner: Int32
) -> tuple[Call, ...]:
    operators = (trace.host.category == Category.CPU_OP) & ~select_labels(trace)
    tree = build_scopes(trace, operators, name_gaps=False)
    around = tree.innermost(track, time_ns)
    count: dict[int, int] = {}
    found = []
    for call, operator, scope in zip(name.tolist(), around.tolist(), owner.tolist(), strict=True):
        nth = count[scope] = count.get(scope, -1) + 1
        label = scopes.names[scopes.name[scope]] if scope != NO_SCOPE else ""
        told = tree.names[tree.name[operator]] if operator != NO_SCOPE else ""
        found.append(Call(trace.names[call], told, (labels.every_layer(label), nth)))
    return tuple(found)
