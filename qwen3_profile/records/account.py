"""A trace in, what its ledger sums up out; and the sums of several traces that follow each other.

Where these have nothing to do with each other (`windows.py`), every sum of the whole is the sum of
their sums.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qwen3_profile.attribution.attribute import (
    NO_LAUNCH_EVENT,
    Attribution,
    Reason,
    attribute,
    attribute_again,
    device_number,
    union_ns,
)
from qwen3_profile.attribution.checks import check_trace
from qwen3_profile.attribution.findings import Finding
from qwen3_profile.attribution.fold import fold, fold_groups
from qwen3_profile.attribution.kernels import KernelRow, kernel_rows
from qwen3_profile.attribution.parts import Part, merge_parts
from qwen3_profile.attribution.scopes import ScopeTree, Step
from qwen3_profile.passes.windows import Outline, outline, stand_apart
from qwen3_profile.trace.columns import Trace, occurring

if TYPE_CHECKING:
    from qwen3_profile.passes.cuda_graphs.assign import Relabel


@dataclass(frozen=True, slots=True)
class Account:
    """The sums of a trace; times in ns.

    busy_ns: the union of device intervals, by the device's number and name.
    unattributed: (ns, events) of what belongs to no scope.
    roots, framework: by track, the sums of its scopes and of what frameworks wrote of themselves.
    outline: of the trace; of the first one where it is of several.
    kernels: which kernels it is; of one trace alone, and where somebody asked.
    """

    device_ns: int
    device_events: int
    device_busy_ns: int
    busy_ns: dict[tuple[int, str], int]
    linked_ns: int
    linked_events: int
    unattributed: dict[Reason, tuple[int, int]]
    cross_thread_events: int
    findings: tuple[Finding, ...]
    roots: dict[int, tuple[Part, ...]]
    framework: dict[int, tuple[Part, ...]]
    steps: tuple[Step, ...]
    outline: Outline
    kernels: tuple[KernelRow, ...] | None = None


def make_account(
    trace: Trace,
    scopes: ScopeTree,
    framework: ScopeTree,
    steps: tuple[Step, ...],
    relabel: Relabel | None = None,
    *,
    kernels: bool = False,
) -> Account:
    """The sums of one trace.

    Args:
        framework: scopes of what frameworks wrote of themselves; they take nothing from `scopes`.
        relabel: gives device events to other scopes, and tells what is to be doubted of that.
        kernels: also which kernels the device time is.
    """
    found = attribute(trace, scopes, steps)
    findings = check_trace(found)
    noise = attribute_again(found, framework)
    if relabel is not None:
        found, told = relabel(found)
        findings += told
    device = trace.device
    linked = found.launch != NO_LAUNCH_EVENT
    return Account(
        device_ns=int(device.dur_ns.sum()),
        device_events=len(device),
        device_busy_ns=union_ns(device.start_ns, device.end_ns),
        busy_ns=_busy(trace),
        linked_ns=int(device.dur_ns[linked].sum()),
        linked_events=int(linked.sum()),
        unattributed=_unattributed(found),
        cross_thread_events=int(found.cross_thread.sum()),
        findings=findings,
        # A graph's labels may be another thread's than that of the call that replays it.
        roots=_by_track(found) if relabel is None else {0: fold(found)},
        framework=_by_track(noise),
        steps=found.steps,
        outline=outline(found, findings),
        kernels=kernel_rows(found) if kernels else None,
    )


def add_accounts(accounts: Sequence[Account]) -> Account | None:
    """The sums over traces that follow each other; None if one of them reaches into another."""
    first = accounts[0]
    if not stand_apart([each.outline for each in accounts]):
        return None
    busy_ns: Counter[tuple[int, str]] = Counter()
    unattributed: dict[Reason, tuple[int, int]] = {}
    for each in accounts:
        busy_ns.update(each.busy_ns)
        for reason, (ns, events) in each.unattributed.items():
            before_ns, before = unattributed.get(reason, (0, 0))
            unattributed[reason] = (before_ns + ns, before + events)
    return Account(
        device_ns=sum(each.device_ns for each in accounts),
        device_events=sum(each.device_events for each in accounts),
        device_busy_ns=sum(each.device_busy_ns for each in accounts),
        busy_ns=dict(sorted(busy_ns.items())),
        linked_ns=sum(each.linked_ns for each in accounts),
        linked_events=sum(each.linked_events for each in accounts),
        unattributed=unattributed,
        cross_thread_events=sum(each.cross_thread_events for each in accounts),
        findings=first.findings,
        roots=_merged(each.roots for each in accounts),
        framework=_merged(each.framework for each in accounts),
        steps=tuple(step for each in accounts for step in each.steps),
        outline=first.outline,
    )


def all_roots(by_track: dict[int, tuple[Part, ...]]) -> tuple[Part, ...]:
    """The sums over all tracks, name by name."""
    named: dict[str, list[Part]] = {}
    for track in sorted(by_track):
        for root in by_track[track]:
            named.setdefault(root.name, []).append(root)
    return tuple(merge_parts(same) for same in named.values())


def _by_track(found: Attribution) -> dict[int, tuple[Part, ...]]:
    roots = fold_groups(found, found.scopes.track, len(found.trace.tracks))
    return {track: parts for track, parts in enumerate(roots) if parts}


def _merged(several: Iterable[dict[int, tuple[Part, ...]]]) -> dict[int, tuple[Part, ...]]:
    found: dict[int, dict[str, list[Part]]] = {}
    for by_track in several:
        for track, roots in by_track.items():
            names = found.setdefault(track, {})
            for root in roots:
                names.setdefault(root.name, []).append(root)
    return {
        track: tuple(merge_parts(same) for same in names.values()) for track, names in found.items()
    }


def _busy(trace: Trace) -> dict[tuple[int, str], int]:
    device, number = trace.device, device_number(trace)
    found = {}
    for each in occurring(number).tolist():
        mine = device.take(number == each)
        found[each, trace.tracks[mine.track[0]].pid] = union_ns(mine.start_ns, mine.end_ns)
    return found


def _unattributed(found: Attribution) -> dict[Reason, tuple[int, int]]:
    dur_ns = found.trace.device.dur_ns
    rest = {}
    for reason in Reason:
        mine = found.owner == reason
        if mine.any():
            rest[reason] = (int(dur_ns[mine].sum()), int(mine.sum()))
    return rest
