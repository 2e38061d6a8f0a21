"""Finds the collectives of a trace.

On a device a collective is a kernel. On the CPU it is what gloo writes of itself, on a thread of
its own: `gloo:all_reduce`; that belongs to the label that was open on the one thread with labels.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import replace

import numpy as np

from qwen3_profile import labels
from qwen3_profile.attribution.attribute import (
    NO_STEP,
    Attribution,
    device_number,
    find_steps_of,
    open_elsewhere,
)
from qwen3_profile.attribution.collective_times import Collectives, kind_of, no_collectives
from qwen3_profile.attribution.collectives import is_collective
from qwen3_profile.attribution.launches import NO_LAUNCH_EVENT, find_launches
from qwen3_profile.attribution.scopes import NO_SCOPE, ScopeTree
from qwen3_profile.trace.columns import Bool, Category, Events, Int32, Int64, Trace, which
from qwen3_profile.trace.messages import Message

_GLOO = "gloo:"
# What torch writes round a call, with a colon or, where it is a part, as a part's name.
_RANGES = ("nccl:", "nccl_")
# gloo's own, and what keeps ranks together before a pass.
_NO_DATA = ("barrier", "send_recv")


def find_collectives(attribution: Attribution, traced: Attribution, ranges: int) -> Collectives:
    """All collectives of a trace.

    Args:
        attribution: with collectives as scopes of their own, and the times that count.
        traced: with the times of the trace itself, which those of the host are compared by.
        ranges: how many of the scopes, the first ones, are ranges of the trace.
    """
    chosen = np.flatnonzero(is_collective(attribution.trace))
    if len(chosen):
        return _on_device(attribution, traced.trace, chosen)
    mine = _said_by_gloo(traced.trace)
    return _on_host(traced, np.flatnonzero(mine), ranges) if mine.any() else no_collectives()


# --- on a device ----------------------------------------------------------------------------------


def _on_device(found: Attribution, traced: Trace, chosen: Int64) -> Collectives:
    device = found.trace.device
    chosen = chosen[np.lexsort((device.end_ns[chosen], device.start_ns[chosen]))]
    owner = _label_of(found, found.owner)
    texts, numbers = _texts(found.scopes, owner)
    said = _messages(traced, device.take(chosen))
    messages = tuple(dict.fromkeys(said))
    place = {message: at for at, message in enumerate(messages)}
    start_ns, dur_ns = device.start_ns[chosen], device.dur_ns[chosen]
    return Collectives(
        labels=texts,
        messages=messages,
        label=numbers[chosen],
        message=np.array([place[message] for message in said], np.int32),
        step=_step_numbers(found, found.device_step[chosen]),
        start_ns=start_ns,
        dur_ns=dur_ns,
        overlapped_ns=_overlapped(found, chosen),
        before=_kernels_before(found, chosen, numbers),
        on_device=True,
    )


def _label_of(found: Attribution, owner: Int32) -> Int32:
    """The scope that launched each event: that around those which a collective has of its own."""
    scopes = found.scopes
    is_own = np.append(which(scopes.names, _is_own_scope)[scopes.name], False)
    parent = np.append(scopes.parent, NO_SCOPE)
    owner = np.maximum(owner, NO_SCOPE)
    while is_own[owner].any():
        owner = np.where(is_own[owner], parent[owner], owner)
    return owner.astype(np.int32)


def _is_own_scope(name: str) -> bool:
    return name.rpartition(".")[2] in labels.COLLECTIVES or name.startswith(_RANGES)


def _texts(scopes: ScopeTree, owner: Int32) -> tuple[tuple[str, ...], Int32]:
    """The names of the scopes that own something, and which of them each owner has."""
    if not len(scopes):
        return ("",), np.zeros(len(owner), np.int32)
    names = ("", *scopes.names)
    number = np.where(owner >= 0, scopes.name[owner] + 1, 0)
    used, place = np.unique(number, return_inverse=True)
    return tuple(names[at] for at in used.tolist()), place.astype(np.int32)


def _messages(traced: Trace, kernels: Events) -> list[Message]:
    """What each kernel carries: as it says itself, or else the call that launched it."""
    launch = find_launches(kernels, traced.launches).tolist()
    columns = (kernels.name, kernels.track, kernels.correlation)
    links = zip(*(column.tolist() for column in columns), strict=True)
    return [
        traced.messages.get(link)
        or _called(traced, call)
        or Message(kind_of(traced.names[link[0]]), 0, 0, "", 0)
        for link, call in zip(links, launch, strict=True)
    ]


def _called(traced: Trace, launch: int) -> Message | None:
    """What the call carries that a launch lies in; None without one."""
    if launch == NO_LAUNCH_EVENT:
        return None
    launched_ns = int(traced.launches.start_ns[launch])
    calls = traced.message_calls.get(int(traced.launches.track[launch]), ())
    at = bisect_right(calls, launched_ns, key=lambda call: call.start_ns)
    return calls[at - 1].message if at and launched_ns < calls[at - 1].end_ns else None


def _step_numbers(found: Attribution, step: Int32) -> Int64:
    numbers = np.array([*(each.number for each in found.steps), NO_STEP], np.int64)
    return numbers[step]


def _overlapped(found: Attribution, chosen: Int64) -> Int64:
    """How much of each collective lies within other kernels, copies or fills of its device."""
    device, number = found.trace.device, device_number(found.trace)
    others = np.setdiff1d(np.arange(len(device)), chosen)
    others = others[~is_collective(found.trace)[others]]
    result = np.zeros(len(chosen), np.int64)
    for each in np.unique(number[chosen]).tolist():
        mine, theirs = number[chosen] == each, others[number[others] == each]
        start_ns, end_ns = _merged(device.start_ns[theirs], device.end_ns[theirs])
        at = chosen[mine]
        result[mine] = _covered(start_ns, end_ns, device.end_ns[at])
        result[mine] -= _covered(start_ns, end_ns, device.start_ns[at])
    return result


def _merged(start_ns: Int64, end_ns: Int64) -> tuple[Int64, Int64]:
    """The union of intervals, as such that are apart, in order."""
    order = np.argsort(start_ns, kind="stable")
    start, reach = start_ns[order], np.maximum.accumulate(end_ns[order])
    first = np.flatnonzero(np.append(True, start[1:] > reach[:-1])[: len(start)])
    return start[first], reach[np.append(first[1:], len(start))[: len(first)] - 1]


def _covered(start_ns: Int64, end_ns: Int64, until_ns: Int64) -> Int64:
    """How much of intervals that are apart lies before each of these times."""
    before = np.append(0, np.cumsum(end_ns - start_ns))
    at = np.searchsorted(start_ns, until_ns, side="right")
    inside = np.append(0, end_ns)[at] - until_ns
    covered: Int64 = before[at] - np.where(at > 0, np.maximum(inside, 0), 0)
    return covered


def _kernels_before(found: Attribution, chosen: Int64, label: Int32) -> Int64:
    """`Collectives.before`: the kernels between two collectives, with the idle time before each."""
    device = found.trace.device
    busy_ns = np.where(is_collective(found.trace), 0, device.dur_ns)
    which_one = np.searchsorted(device.start_ns[chosen], device.start_ns, side="left")
    inside = (which_one < len(chosen)) & (busy_ns + found.gap_ns > 0)
    step = np.append(found.device_step[chosen], NO_STEP)
    inside &= step[which_one] == found.device_step
    spent = np.stack((busy_ns, found.gap_ns))[:, inside]
    return _summed(which_one[inside], label[inside], spent)


def _summed(collective: Int64, label: Int32, spent_ns: Int64) -> Int64:
    """int64[4, m]: the sums for each pair of a collective and a label.

    Args:
        spent_ns: int64[2, k], busy and idle.
    """
    width = int(label.max(initial=0)) + 1
    pairs, place = np.unique(collective * width + label, return_inverse=True)
    sums = np.zeros((2, len(pairs)), np.int64)
    for row, ns in zip(sums, spent_ns, strict=True):
        np.add.at(row, place, ns)
    return np.stack((pairs // width, pairs % width, *sums))


# --- on the host ----------------------------------------------------------------------------------


def _said_by_gloo(trace: Trace) -> Bool:
    named = which(trace.names, _is_gloo)
    mask: Bool = named[trace.host.name] & (trace.host.category == Category.USER_ANNOTATION)
    return mask


def _is_gloo(name: str) -> bool:
    return name.startswith(_GLOO) and kind_of(name) not in _NO_DATA


def _on_host(found: Attribution, chosen: Int64, ranges: int) -> Collectives:
    """Those of gloo that run while a label is open; what others wrote is none of a pass."""
    scopes = _first(found.scopes, ranges)
    calls = found.trace.host.take(chosen)
    calls = calls.take(np.argsort(calls.start_ns, kind="stable"))
    owner = open_elsewhere(scopes, calls)
    calls, owner = calls.take(owner != NO_SCOPE), owner[owner != NO_SCOPE]
    if not len(calls):
        return no_collectives()
    moments = _own_times(found, scopes, int(scopes.track[owner[0]]), calls)
    texts, numbers = _texts(scopes, np.concatenate((owner, moments[1])).astype(np.int32))
    kinds = [kind_of(found.trace.names[name]) for name in calls.name.tolist()]
    messages = tuple(dict.fromkeys(Message(kind, 0, 0, "", 0) for kind in kinds))
    place = {message.collective: at for at, message in enumerate(messages)}
    return Collectives(
        labels=texts,
        messages=messages,
        label=numbers[: len(calls)],
        message=np.array([place[kind] for kind in kinds], np.int32),
        step=_step_numbers(found, find_steps_of(calls.start_ns, found.steps)),
        start_ns=calls.start_ns,
        dur_ns=calls.dur_ns,
        overlapped_ns=np.zeros(len(calls), np.int64),
        before=_summed(moments[0], numbers[len(calls) :], _busy(moments[2])),
        on_device=False,
    )


def _first(scopes: ScopeTree, count: int) -> ScopeTree:
    """The ranges of the trace, without the scopes that were made to hold sums."""
    arrays = ("name", "track", "start_ns", "end_ns", "parent", "is_gap", "is_rest")
    return replace(scopes, **{name: getattr(scopes, name)[:count] for name in arrays})


def _busy(ns: Int64) -> Int64:
    return np.stack((ns, np.zeros(len(ns), np.int64)))


def _own_times(
    found: Attribution, scopes: ScopeTree, track: int, calls: Events
) -> tuple[Int64, Int32, Int64]:
    """Which collective comes next, the innermost scope, and for how long; stretch by stretch of a
    thread, without those in which a collective runs.
    """
    start_ns, end_ns = calls.start_ns, calls.end_ns
    mine = scopes.track == track
    edges = np.concatenate((scopes.start_ns[mine], scopes.end_ns[mine], start_ns, end_ns))
    edges = np.unique(edges)
    begin, length = edges[:-1], np.diff(edges)
    after = np.searchsorted(start_ns, begin, side="right")
    runs = (after > 0) & (np.maximum.accumulate(end_ns)[np.maximum(after - 1, 0)] > begin)
    innermost = scopes.innermost(np.full(len(begin), track, np.int32), begin)
    step = np.append(find_steps_of(start_ns, found.steps), NO_STEP)
    wanted = ~runs & (after < len(start_ns)) & (innermost != NO_SCOPE)
    wanted &= step[after] == find_steps_of(begin, found.steps)
    return after[wanted], innermost[wanted], length[wanted]
