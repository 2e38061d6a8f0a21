"""The ledger of one trace: every nanosecond of device time in one row, or with its reason.

Works on any Kineto trace. Scopes are the trace's own: `labels` are record_function ranges,
`modules` the `nn.Module: X_n` ranges of a profiler that recorded stacks, `both` nests the two.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from typing import TYPE_CHECKING, Any

import msgspec

from qwen3_profile import labels
from qwen3_profile.attribution.attribute import (
    Attribution,
    Reason,
    attribute,
    attribute_again,
    device_number,
    union_ns,
)
from qwen3_profile.attribution.build_scopes import build_scopes
from qwen3_profile.attribution.checks import check_trace
from qwen3_profile.attribution.findings import Finding
from qwen3_profile.attribution.fold import fold, fold_groups
from qwen3_profile.attribution.idle_stretches import IdleStretch
from qwen3_profile.attribution.kernels import KernelRow, kernel_rows
from qwen3_profile.attribution.launches import NO_LAUNCH_EVENT
from qwen3_profile.attribution.parts import Part, merge_parts
from qwen3_profile.attribution.processes import split_processes
from qwen3_profile.attribution.scopes import Step, find_steps
from qwen3_profile.attribution.selection import select, select_framework
from qwen3_profile.passes.pass_times import PassTimes, enclosing, merge_passes, whole_times
from qwen3_profile.passes.windows import Outline, is_long, map_windows, outline, stand_apart
from qwen3_profile.records.whole_calls import WholeCalls, whole_calls
from qwen3_profile.system.files import path_text
from qwen3_profile.trace import CompactTrace, TraceInfo
from qwen3_profile.trace.columns import Span, Trace, occurring

if TYPE_CHECKING:
    from qwen3_profile.passes.cuda_graphs.assign import Reassign

SCHEMA_VERSION = 1

# Graphs with less of the device time than this are not worth another trace.
_MUCH = 0.1
_ALL_TRACKS, _NO_TRACK = "whole trace", "0"

Row = tuple[tuple[str, ...], Part]


@dataclass(frozen=True, slots=True)
class Ledger:
    """The whole account of a trace.

    times: of the whole trace; the parts of its forward are the tracks, by their number, and theirs
        the scopes. What these and `unattributed` sum up to is all device time, exactly.
    framework: in the same way, what frameworks wrote of themselves; its time is in `times` as well.
    busy_ns: the union of device intervals, by the device's number and name.
    linked_ns, linked_events: of device events whose launch is in the trace.
    span_ns: from the first event of the trace, of the host or of a device, to the last.
    apart_ns, apart_events: of device events of an impossible duration, which nothing else has.
    What `times` has as given across threads is also what came so to the rows of frameworks.
    whole_calls: by path, of scopes that lost device events, what the calls that did not have.
    kernels: which kernels, copies and fills the device time is; None where nobody asked.
    suggestions: sentences on what would say more of this trace; not in the file.
    """

    info: TraceInfo
    scopes: str
    times: PassTimes
    framework: Part
    busy_ns: dict[tuple[int, str], int]
    linked_ns: int
    linked_events: int
    apart_ns: int
    apart_events: int
    findings: tuple[Finding, ...]
    steps: tuple[Step, ...]
    span_ns: int
    kernels: tuple[KernelRow, ...] | None = None
    whole_calls: dict[tuple[str, ...], WholeCalls] = field(default_factory=dict)
    suggestions: tuple[str, ...] = ()

    @property
    def rows(self) -> tuple[Row, ...]:
        """What belongs to each path of scope names."""
        return _rows(self.times.forward)

    @property
    def framework_rows(self) -> tuple[Row, ...]:
        return _rows(self.framework)

    def to_json(self) -> dict[str, Any]:
        """The ledger as its file holds it."""
        times, info = self.times, self.info
        found = {
            "schema_version": SCHEMA_VERSION,
            "trace": _trace_json(info),
            "device_busy_ns": {"all": times.busy_ns}
            | {name: ns for (_, name), ns in self.busy_ns.items()},
            "scopes": self.scopes,
            "device_time_ns": times.device_ns,
            "device_events": times.device_events,
            "linked_ns": self.linked_ns,
            "linked_events": self.linked_events,
            "apart_ns": self.apart_ns,
            "apart_events": self.apart_events,
            "unattributed": [asdict(item) for item in times.unattributed],
            "cross_thread_ns": times.cross_thread_ns,
            "cross_thread_events": times.cross_thread_events,
            "findings": [asdict(finding) for finding in self.findings],
            "steps": [asdict(step) for step in self.steps],
            "span_ns": self.span_ns,
            "idle_ns": times.idle._asdict(),
            "idle_stretches": [stretch_json(each) for each in times.stretches],
            "rows": [_row_json(*row) | self._whole_json(row[0]) for row in self.rows],
            "framework": [_row_json(*row) for row in self.framework_rows],
        }
        if self.kernels is not None:
            found["kernels"] = [asdict(row) for row in self.kernels]
        return found

    def _whole_json(self, path: tuple[str, ...]) -> dict[str, Any]:
        whole = self.whole_calls.get(path)
        if whole is None:
            return {}
        return {"calls_lost": whole.lost, "device_mean_ns": whole.mean_ns}

    def to_bytes(self) -> bytes:
        """The text of the ledger's file, one row to a line."""
        found = self.to_json()
        lists = ("rows", "framework", "kernels")
        rows = {key: found.pop(key) for key in lists if key in found}
        head = msgspec.json.format(msgspec.json.encode(found), indent=2).removesuffix(b"\n}")
        for key, values in rows.items():
            lines = b",\n    ".join(msgspec.json.encode(value) for value in values)
            head += b',\n  "%s": [\n    %s\n  ]' % (key.encode(), lines)
        return head + b"\n}\n"


def make_ledger(
    trace: Trace,
    scopes: str = "labels",
    reassign: Reassign | None = None,
    *,
    kernels: bool = False,
) -> Ledger:
    """Accounts for every nanosecond of device time in `trace`.

    Args:
        trace: any Kineto trace.
        scopes: one of `SCOPES`.
        kernels: also which kernels it is.
        reassign: gives device events to other scopes, and tells what is to be doubted of that.
    """
    processes, told = ((), None) if reassign is not None else split_processes(trace)
    if not processes:
        whole = _ledger(trace, scopes, find_steps(trace), reassign, kernels=kernels)[0]
        return whole if told is None else replace(whole, findings=(told, *whole.findings))
    each = [
        _ledger(process.trace, scopes, find_steps(process.trace), kernels=kernels)[0]
        for process in processes
    ]
    return _join_processes(trace, told, each)


def make_long_ledger(
    recording: CompactTrace, scopes: str = "labels", *, kernels: bool = False
) -> Ledger:
    """As `make_ledger`, of a trace that may be too long to be looked at in one piece."""
    if is_long(recording) and not kernels:
        windows = map_windows(recording, lambda trace, steps: _ledger(trace, scopes, steps))
        if len(windows) > 1 and stand_apart([outlined for _, outlined in windows]):
            merged = _merge_ledgers([each for each, _ in windows])
            return replace(merged, span_ns=_length(recording.span))
    return make_ledger(recording.trace(), scopes, kernels=kernels)


def _ledger(
    trace: Trace,
    scopes: str,
    steps: tuple[Step, ...],
    reassign: Reassign | None = None,
    *,
    kernels: bool = False,
) -> tuple[Ledger, Outline]:
    """The ledger of a trace, and what tells whether it may be summed with others."""
    tree = build_scopes(trace, select(trace, scopes), name_gaps=False)
    attribution = attribute(trace, tree, steps)
    findings = check_trace(attribution)
    # What frameworks wrote takes nothing from the scopes.
    noise = build_scopes(trace, select_framework(trace), name_gaps=False)
    framework = attribute_again(attribution, noise)
    if reassign is not None:
        attribution, doubts = reassign(attribution)
        findings += doubts
    linked = attribution.launch != NO_LAUNCH_EVENT
    crossed = attribution.cross_thread | framework.cross_thread
    device_ns = attribution.trace.device.dur_ns
    # A graph's labels may be another thread's than that of the call that replays it.
    parts = (
        _by_track(attribution) if reassign is None else [enclosing(_NO_TRACK, fold(attribution))]
    )
    ledger = Ledger(
        info=trace.info,
        scopes=scopes,
        times=replace(
            whole_times(attribution, enclosing(_ALL_TRACKS, parts)),
            cross_thread_ns=int(device_ns[crossed].sum()),
            cross_thread_events=int(crossed.sum()),
        ),
        framework=enclosing(_ALL_TRACKS, _by_track(framework)),
        busy_ns=_busy(attribution.trace),
        linked_ns=int(device_ns[linked].sum()),
        linked_events=int(linked.sum()),
        apart_ns=int(attribution.apart.dur_ns.sum()),
        apart_events=len(attribution.apart),
        findings=findings,
        steps=attribution.steps,
        span_ns=_length(attribution.trace.span),
        kernels=kernel_rows(attribution) if kernels else None,
        whole_calls=whole_calls(attribution),
        suggestions=_suggestions(attribution, scopes, is_relabelled=reassign is not None),
    )
    return ledger, outline(attribution, findings)


def _join_processes(trace: Trace, told: Finding | None, several: Sequence[Ledger]) -> Ledger:
    """The sums over the processes of a file, which may have run at the same time."""
    found = _merge_ledgers(several)
    device = trace.device
    if not found.apart_events:
        busy_ns = union_ns(device.start_ns, device.end_ns)
        found = replace(found, times=replace(found.times, busy_ns=busy_ns), busy_ns=_busy(trace))
    findings = dict.fromkeys(finding for each in several for finding in each.findings)
    kernels = [each.kernels for each in several if each.kernels is not None]
    return replace(
        found,
        info=trace.info,
        findings=(*([told] if told else []), *findings),
        whole_calls={},
        kernels=tuple(chain.from_iterable(kernels)) if kernels else None,
    )


def _merge_ledgers(several: Sequence[Ledger]) -> Ledger:
    """The sums over stretches of a trace that follow each other and have nothing in common."""
    times = merge_passes([each.times for each in several])
    order = [reason.text for reason in Reason]
    rest = sorted(times.unattributed, key=lambda item: order.index(item.reason))
    busy_ns: Counter[tuple[int, str]] = Counter()
    for each in several:
        busy_ns.update(each.busy_ns)
    return replace(
        several[0],
        times=replace(times, unattributed=tuple(rest)),
        framework=merge_parts([each.framework for each in several]),
        busy_ns=dict(sorted(busy_ns.items())),
        linked_ns=sum(each.linked_ns for each in several),
        linked_events=sum(each.linked_events for each in several),
        apart_ns=sum(each.apart_ns for each in several),
        apart_events=sum(each.apart_events for each in several),
        steps=tuple(step for each in several for step in each.steps),
        suggestions=tuple(dict.fromkeys(text for each in several for text in each.suggestions)),
    )


def _suggestions(attribution: Attribution, scopes: str, *, is_relabelled: bool) -> tuple[str, ...]:
    """What else could be asked of a trace, where that would split its device time further."""
    trace, texts = attribution.trace, []
    has_layers = any(map(_is_of_layer, attribution.scopes.names))
    if scopes == "labels" and not has_layers and select(trace, "modules").any():
        texts.append(
            "the trace has calls of nn.Modules: --scopes modules tells whose the device time is, "
            "--scopes both nests them with the ranges"
        )
    graph_ns = int(trace.device.dur_ns[attribution.in_graph].sum())
    if not is_relabelled and graph_ns > _MUCH * int(trace.device.dur_ns.sum()):
        texts.append(
            "much of the device time is of replayed graphs, whose kernels have no ranges: "
            "--capture FILE gives them those of the trace of their capture, or of an eager pass"
        )
    return tuple(texts)


def _is_of_layer(name: str) -> bool:
    label = labels.parse(name)
    return label is not None and label.layer is not None


def _by_track(attribution: Attribution) -> list[Part]:
    """The sums of each track's scopes, under the track's number."""
    roots = fold_groups(attribution, attribution.scopes.track, len(attribution.trace.tracks))
    return [enclosing(str(track), parts) for track, parts in enumerate(roots) if parts]


def _busy(trace: Trace) -> dict[tuple[int, str], int]:
    device, number = trace.device, device_number(trace)
    found = {}
    for each in occurring(number).tolist():
        mine = device.take(number == each)
        found[each, trace.tracks[mine.track[0]].pid] = union_ns(mine.start_ns, mine.end_ns)
    return found


def _length(span: Span | None) -> int:
    return 0 if span is None else span.last_ns - span.first_ns


def stretch_json(stretch: IdleStretch) -> dict[str, Any]:
    """One of the longest idle times, in ns; the host is told as far as the trace has it."""
    return {
        "start_ns": stretch.start_ns,
        "gap_ns": stretch.idle.ns,
        **stretch.idle._asdict(),
        "before": stretch.before,
        "kernel": stretch.kernel,
        "host": stretch.host,
    }


def _rows(tracks: Part) -> tuple[Row, ...]:
    """The sums over all tracks, path by path."""
    named: dict[str, list[Part]] = {}
    for track in sorted(tracks.parts, key=lambda part: int(part.name)):
        for root in track.parts:
            named.setdefault(root.name, []).append(root)
    return tuple(row for same in named.values() for row in merge_parts(same).walk())


def _trace_json(info: TraceInfo) -> dict[str, Any]:
    return {
        "name": path_text(info.path),
        "base_time_ns": info.base_time_ns,
        "devices": info.devices,
        "rank": info.rank,
        "world_size": info.world_size,
        # Of CUDA or HIP, as the file has them; Kineto does not write torch's.
        "versions": dict(info.versions),
    }


def _row_json(path: tuple[str, ...], part: Part) -> dict[str, Any]:
    """Times in ns; all but the self ones with children.

    graph_events: of `device_events`, those that were launched as part of a graph.
    """
    total = part.total
    return {
        "path": path,
        "calls": total.calls,
        "cpu_ns": total.cpu_ns,
        "cpu_self_ns": part.own.cpu_ns,
        "device_ns": total.device_ns,
        "device_self_ns": part.own.device_ns,
        "device_events": total.device_events,
        "graph_events": total.graph_events,
        "gap_ns": total.gap_ns,
        "starved_ns": total.starved_ns,
        "launching_ns": total.launching_ns,
        "queued_ns": total.queued_ns,
        "blocked_ns": total.blocked_ns,
        "launch_ns": total.launch_ns,
    }
