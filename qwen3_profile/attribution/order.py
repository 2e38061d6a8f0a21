"""What the order of launches says of the times of device events.

One stream takes up what one thread launched on it in that order; and a call that waits for the
device does not return before the device has done all that was launched before.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from qwen3_profile.attribution.attribute import Attribution, device_number
from qwen3_profile.attribution.findings import WARNING, Finding, microseconds
from qwen3_profile.attribution.launches import NO_LAUNCH_EVENT, in_order
from qwen3_profile.trace.columns import Int32, Int64, Trace, occurring, which

_ROUNDED_NS = 1000
# The clocks of host and device disagree by this much on some machines.
_CLOCKS_NS = 200_000
_is_wait = frozenset({"cudaDeviceSynchronize", "hipDeviceSynchronize"}).__contains__


def check_stream_order(attribution: Attribution) -> Iterator[Finding]:
    """Device events that began before those that were launched before them."""
    trace, launch = attribution.trace, attribution.launch
    mine = np.flatnonzero((launch != NO_LAUNCH_EVENT) & ~attribution.in_graph)
    # Events without timestamps have a finding of their own.
    mine = mine[(trace.device.start_ns[mine] != 0) & (trace.launches.start_ns[launch[mine]] != 0)]
    if len(mine) < 2:
        return
    if _follows(trace, launch, mine):
        return
    start_ns, track = trace.device.start_ns[mine], trace.device.track[mine]
    thread = trace.launches.track[launch[mine]]
    launched_ns = trace.launches.start_ns[launch[mine]]
    order = np.lexsort((start_ns, launched_ns, thread, track))
    one, next_one = mine[order[:-1]], mine[order[1:]]
    odd = trace.device.start_ns[next_one] < trace.device.start_ns[one] - _ROUNDED_NS
    odd &= trace.device.track[next_one] == trace.device.track[one]
    odd &= thread[order[1:]] == thread[order[:-1]]
    odd &= launched_ns[order[1:]] > launched_ns[order[:-1]]
    if not odd.any():
        return
    first, second = int(one[odd][0]), int(next_one[odd][0])
    names, device = trace.names, trace.device
    yield Finding(
        WARNING,
        "stream-order",
        f"{int(odd.sum())} device events began before what was launched before them on their "
        f"stream, so that times of them are wrong: {names[device.name[second]]} at "
        f"{microseconds(int(device.start_ns[second]))}, {names[device.name[first]]} before it "
        f"at {microseconds(int(device.start_ns[first]))}",
        count=int(odd.sum()),
        ns=int(device.dur_ns[next_one[odd]].sum()),
        example=names[device.name[second]],
    )


def _follows(trace: Trace, launch: Int32, mine: Int64) -> bool:
    """Whether events, in order of their start, were launched in that order on each stream."""
    track = trace.device.track[mine]
    launched_ns = trace.launches.start_ns[launch[mine]]
    each = (launched_ns[track == number] for number in occurring(track))
    return all((found[1:] >= found[:-1]).all() for found in each)


def check_synchronised(attribution: Attribution) -> Iterator[Finding]:
    """Device events that end after a call which waited for them; of one device alone."""
    trace, launch = attribution.trace, attribution.launch
    waits = np.flatnonzero(which(trace.names, _is_wait)[trace.launches.name])
    mine = np.flatnonzero(launch != NO_LAUNCH_EVENT)
    if not len(waits) or not len(mine) or (np.diff(device_number(trace)) != 0).any():
        return
    mine = mine[in_order(trace.launches.start_ns[launch[mine]])]
    launched_ns = trace.launches.end_ns[launch[mine]]
    launched_ns = np.maximum.accumulate(launched_ns)
    reach_ns = np.maximum.accumulate(trace.device.end_ns[mine])
    before = np.searchsorted(launched_ns, trace.launches.start_ns[waits], side="right") - 1
    late = before >= 0
    late &= reach_ns[before] > trace.launches.end_ns[waits] + _CLOCKS_NS
    if not late.any():
        return
    wait, at = int(waits[late][0]), int(before[late][0])
    odd = int(mine[np.flatnonzero(trace.device.end_ns[mine[: at + 1]] == reach_ns[at])[0]])
    name = trace.names[trace.device.name[odd]]
    yield Finding(
        WARNING,
        "ends-after-wait",
        f"{int(late.sum())} calls returned before the device had done what they waited for: {name} "
        f"ends at {microseconds(int(trace.device.end_ns[odd]))}, and "
        f"{trace.names[trace.launches.name[wait]]} at "
        f"{microseconds(int(trace.launches.end_ns[wait]))}",
        count=int(late.sum()),
        ns=int(trace.device.dur_ns[odd]),
        example=name,
    )
