"""The times of each step of an attribution that holds a forward pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from typing import TYPE_CHECKING

import numpy as np

from qwen3_profile import labels
from qwen3_profile.attribution.attention_kernels import (
    AttentionKernel,
    find_attention,
    merge_attention,
)
from qwen3_profile.attribution.attribute import Attribution, Reason, find_steps_of, union_ns
from qwen3_profile.attribution.collectives import communication, summed
from qwen3_profile.attribution.fold import NO_GROUP, fold_groups
from qwen3_profile.attribution.idle import IdleTimes, sum_idle
from qwen3_profile.attribution.idle_stretches import IdleStretch, longest_idle, longest_of
from qwen3_profile.attribution.lost_events import lost_launches
from qwen3_profile.attribution.parts import Part, Times, make_part, merge_parts
from qwen3_profile.attribution.scopes import Step
from qwen3_profile.trace.columns import Bool, Int64

if TYPE_CHECKING:
    from qwen3_profile.passes.compiled.kernel_times import CompiledTimes
    from qwen3_profile.run_folder.bytes_moved import Traffic


@dataclass(frozen=True, slots=True)
class Unattributed:
    """Device time of a step that belongs to no label, and why."""

    reason: str
    ns: int
    events: int


@dataclass(frozen=True, slots=True)
class PassTimes:
    """What one step of a trace says.

    number: k of `ProfilerStep#k`. start_ns: of the step, in the trace's own time.
    forward: the forward pass's label with all its parts; its name is the phase.
    device_ns: the sum of all device events of the step. device_events: how many.
    busy_ns: the union of their intervals. idle: idle device time before them.
    cross_thread_ns, cross_thread_events: launched while their thread had no label open, and given
        to that of another thread.
    communication: who carried data between devices, and for how many ns; none where nobody did.
    lost_launches: calls that put work on the device which the trace does not have.
    attention: what ran as attention; None where the trace does not show it.
    compiled: what ran in compiled graphs; None where nothing was compiled.
    traffic: what the operators move, without those in compiled graphs, in the same pass when it was
        counted; None where it was not.
    has_clock: the times of the host are of a pass whose labels read its clock; else, as all others,
        of the traced pass, under the profiler.
    has_device: those of the device are of a pass in which its work alone was recorded.
    stretches: of the longest idle times of the traced pass, or of its whole trace, those in it.
    """

    number: int
    start_ns: int
    forward: Part
    device_ns: int
    device_events: int
    busy_ns: int
    idle: IdleTimes
    unattributed: tuple[Unattributed, ...]
    cross_thread_ns: int
    cross_thread_events: int
    communication: tuple[tuple[str, int], ...] = ()
    lost_launches: int = 0
    attention: AttentionKernel | None = None
    compiled: CompiledTimes | None = None
    traffic: Traffic | None = None
    has_clock: bool = False
    has_device: bool = False
    stretches: tuple[IdleStretch, ...] = ()

    @property
    def gap_ns(self) -> int:
        """Idle device time before the step's device events."""
        return self.idle.ns

    @property
    def unattributed_ns(self) -> int:
        return sum(item.ns for item in self.unattributed)

    @property
    def communication_ns(self) -> int:
        """Device time of all that carried data between devices."""
        return sum(ns for _, ns in self.communication)

    @property
    def balances(self) -> bool:
        """Labels and unattributed are the sum of all device events, to the nanosecond."""
        return self.forward.total.device_ns + self.unattributed_ns == self.device_ns


def read_steps(
    attribution: Attribution,
    compiled: Sequence[CompiledTimes] = (),
    traced: Attribution | None = None,
) -> tuple[PassTimes, ...]:
    """The times of each step that holds a labelled forward pass.

    Args:
        compiled: what ran in compiled graphs, one entry per step; empty where nothing was compiled.
        traced: the attribution with the times of the trace itself, where those of less disturbed
            passes were taken: what ran where, and what the host did, is seen there.
    """
    traced = attribution if traced is None else traced
    longest = longest_idle(traced)
    count = len(attribution.steps)
    group = np.where(_below_phases(attribution), attribution.scope_step, NO_GROUP)
    roots = fold_groups(attribution, group.astype(np.int32), count)
    attention = find_attention(traced)
    events, lost = _events_by_step(attribution), _lost_by_step(attribution)
    found = tuple(
        (
            index,
            replace(
                _times(attribution, step, root, events[index], attention[index], lost[index]),
                stretches=tuple(each for each in longest if each.step_ns == step.start_ns),
            ),
        )
        for index, step in enumerate(attribution.steps)
        for root in roots[index]
    )
    if not compiled:
        return tuple(step for _, step in found)
    return tuple(replace(step, compiled=compiled[index]) for index, step in found)


def merge_passes(steps: Sequence[PassTimes]) -> PassTimes:
    """The sums over several steps, at least one; number and start are the first one's."""
    rest_ns: Counter[str] = Counter()
    rest_events: Counter[str] = Counter()
    for step in steps:
        for item in step.unattributed:
            rest_ns[item.reason] += item.ns
            rest_events[item.reason] += item.events
    compiled = [step.compiled for step in steps if step.compiled is not None]
    traffic = [step.traffic for step in steps if step.traffic is not None]
    return PassTimes(
        number=steps[0].number,
        start_ns=steps[0].start_ns,
        forward=merge_parts([step.forward for step in steps]),
        device_ns=sum(step.device_ns for step in steps),
        device_events=sum(step.device_events for step in steps),
        busy_ns=sum(step.busy_ns for step in steps),
        idle=sum_idle(step.idle for step in steps),
        unattributed=tuple(Unattributed(r, rest_ns[r], rest_events[r]) for r in rest_ns),
        cross_thread_ns=sum(step.cross_thread_ns for step in steps),
        cross_thread_events=sum(step.cross_thread_events for step in steps),
        communication=summed(step.communication for step in steps),
        lost_launches=sum(step.lost_launches for step in steps),
        attention=merge_attention([step.attention for step in steps]),
        compiled=reduce(add, compiled) if compiled else None,
        traffic=reduce(add, traffic) if len(traffic) == len(steps) else None,
        has_clock=all(step.has_clock for step in steps),
        has_device=all(step.has_device for step in steps),
        stretches=longest_of(each for step in steps for each in step.stretches),
    )


def _below_phases(attribution: Attribution) -> Bool:
    """Which scopes are a forward pass's label, or lie in one."""
    scopes = attribution.scopes
    phases = (*labels.PHASES, labels.NEUTRAL_PHASE)
    is_phase: Bool = np.array([name in phases for name in scopes.names], bool)[scopes.name]
    return is_phase | scopes.below(is_phase)


def _events_by_step(attribution: Attribution) -> list[Int64]:
    """The positions of each step's device events, in order."""
    order = np.argsort(attribution.device_step, kind="stable")
    steps = np.arange(len(attribution.steps))
    step = attribution.device_step[order]
    begin = np.searchsorted(step, steps, side="left").tolist()
    end = np.searchsorted(step, steps, side="right").tolist()
    return [order[a:b] for a, b in zip(begin, end, strict=True)]


def _lost_by_step(attribution: Attribution) -> list[int]:
    """How many calls of each step lack the device events that they launched."""
    at_ns = attribution.trace.launches.start_ns[lost_launches(attribution)]
    step = find_steps_of(at_ns, attribution.steps)
    counts: list[int] = np.bincount(step[step >= 0], minlength=len(attribution.steps)).tolist()
    return counts


def whole_times(attribution: Attribution, forward: Part) -> PassTimes:
    """The times of a whole trace, as if it were one pass with the parts of `forward`."""
    span = attribution.trace.span
    first_ns = 0 if span is None else span.first_ns
    events = np.arange(len(attribution.trace.device))
    lost = len(lost_launches(attribution))
    found = _times(attribution, Step(0, first_ns, first_ns), forward, events, lost=lost)
    return replace(found, stretches=longest_idle(attribution))


def enclosing(name: str, parts: Sequence[Part]) -> Part:
    """A part that holds `parts` and nothing else."""
    # Of clocks that disagree no sum fits; numpy's do not mind.
    sums = np.array([part.total for part in parts], np.int64).reshape(-1, len(Times._fields))
    total = Times._make(sums.sum(axis=0).tolist())
    return make_part(name, total._replace(calls=1), Times(calls=1), parts)


def _times(
    attribution: Attribution,
    step: Step,
    forward: Part,
    mine: Int64,
    attention: AttentionKernel | None = None,
    lost: int = 0,
) -> PassTimes:
    """The times of `step`, whose labelled parts are `forward` and whose device events `mine`."""
    device = attribution.trace.device
    start_ns, dur_ns = device.start_ns[mine], device.dur_ns[mine]
    owner = attribution.owner[mine]
    unattributed = []
    for reason in Reason:
        events = owner == reason
        if events.any():
            unattributed.append(
                Unattributed(reason.text, int(dur_ns[events].sum()), int(events.sum()))
            )
    return PassTimes(
        number=step.number,
        start_ns=step.start_ns,
        forward=forward,
        device_ns=int(dur_ns.sum()),
        device_events=len(mine),
        busy_ns=union_ns(start_ns, start_ns + dur_ns),
        idle=IdleTimes(*attribution.idle[mine].sum(axis=0).tolist()),
        unattributed=tuple(unattributed),
        cross_thread_ns=int(dur_ns[attribution.cross_thread[mine]].sum()),
        cross_thread_events=int(attribution.cross_thread[mine].sum()),
        communication=communication(attribution.trace, mine),
        lost_launches=lost,
        attention=attention,
    )
