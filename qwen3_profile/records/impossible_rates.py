"""Finds parts that were faster than what the device was measured to do at most.

Such a rate is told as a finding of the record, and shown nowhere as a figure.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from qwen3_profile.attribution.findings import NOTE, Finding, counted
from qwen3_profile.passes.compiled.part_names import part_name
from qwen3_profile.records.part_bytes import moved_by_part, row_name
from qwen3_profile.run_folder.ceilings import TOLERANCE, Ceilings

if TYPE_CHECKING:
    from qwen3_profile.passes.pass_times import PassTimes
    from qwen3_profile.records.flops import Flops

IMPOSSIBLE_RATE = "impossible-rate"
_NS_PER_S = 1e9


def check_rates(
    times: PassTimes, flops: Flops | None, ceilings: Ceilings | None
) -> tuple[Finding, ...]:
    """Holds each part's FLOP/s and bytes/s against the ceilings; of all layers together.

    Args:
        flops: of the same passes as `times`; None where they are not known.
    """
    if ceilings is None:
        return ()
    took_ns = _part_ns(times)
    computed = flops.by_part() if flops else {}
    moved = {name: each.bytes for name, each in moved_by_part(times).items()}
    kinds = (
        (computed, ceilings.flops_per_s, ceilings.clock_room, "FLOP/s"),
        (moved, ceilings.bytes_per_s, 1.0, "bytes/s"),
    )
    shares = [
        (count * _NS_PER_S / took_ns[name] / most, name, unit, room)
        for counts, most, room, unit in kinds
        for name, count in counts.items()
        if count and most and took_ns.get(name)
    ]
    over = sorted(
        (each[:3] for each in shares if each[0] > (1 + TOLERANCE) * each[3]), reverse=True
    )
    if not over:
        return ()
    named = ", ".join(f"{name} {share:.0%} of the {unit}" for share, name, unit in over)
    message = (
        f"{counted(len(over), 'rate')} faster than the ceiling, and so none to believe: {named}; "
        "data in a cache, fewer FLOPs or bytes than counted, or a ceiling measured while other "
        "work ran"
    )
    ns = sum(took_ns[name] for name in {name for _, name, _ in over})
    return (Finding(NOTE, IMPOSSIBLE_RATE, message, len(over), ns, over[0][1]),)


def _part_ns(times: PassTimes) -> Counter[str]:
    """Each part's own time in all layers: the device's; where none was recorded, the host's."""
    on_device = bool(times.device_events)
    found: Counter[str] = Counter()
    for part in times.forward.each():
        name = row_name(part, times.forward)
        if name is not None:
            found[name] += part.own.device_ns if on_device else part.own.cpu_ns
    for kernel in times.compiled.kernels if times.compiled else ():
        if kernel.is_fused:
            found[part_name(kernel.anchor)] += kernel.device_ns if on_device else kernel.cpu_ns
    return found
