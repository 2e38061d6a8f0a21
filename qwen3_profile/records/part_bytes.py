"""What the parts of a forward pass move; and their entry of `timing_records.json`.

What ran in compiled graphs is known from what it was compiled to, the rest was counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from qwen3_profile import labels
from qwen3_profile.attribution.parts import Part
from qwen3_profile.attribution.pass_parts import has_pieces, short_name
from qwen3_profile.passes.compiled.part_names import FUSED, UNMATCHED, part_name
from qwen3_profile.run_folder.bytes_moved import Moved, per_pass

if TYPE_CHECKING:
    from qwen3_profile.passes.pass_times import PassTimes


def moved_by_part(times: PassTimes) -> dict[str, Moved]:
    """What each part of all layers moves, a fused kernel counting to its anchor.

    A part in which something ran that no counted operation explains, as that of a kernel which
    bypasses torch's dispatcher, moves nobody knows how much.
    """
    found: dict[str, Moved] = {}
    for label, moved in _counted(times):
        name = part_name(label)
        found[name] = found.get(name, Moved()) + moved
    for kernel in times.compiled.kernels if times.compiled else ():
        name = part_name(kernel.anchor)
        found[name] = found.get(name, Moved()) + kernel.moved
    for part in times.forward.each():
        row = row_name(part, times.forward)
        if row is not None and row not in found and _moves_unseen(row, part):
            found[row] = Moved(bytes=None)
    return found


def _counted(times: PassTimes) -> Iterator[tuple[str, Moved]]:
    """What was counted under each label, on the way there and back."""
    if times.traffic is not None:
        yield from times.traffic.labels.items()
        yield from times.traffic.backward.items()


def total_bytes(times: PassTimes) -> int | None:
    """What the whole pass moves; None where that of some of it is not known."""
    if times.traffic is None:
        return None
    return sum(moved_by_part(times).values(), Moved()).bytes


def known_bytes(times: PassTimes) -> int | None:
    """What the whole pass moves at least: the sum over the parts of which it is known; None where
    nothing was counted.
    """
    if times.traffic is None:
        return None
    return sum(moved.bytes or 0 for moved in moved_by_part(times).values())


def row_name(part: Part, forward: Part) -> str | None:
    """The row that a part's own time stands in; None for a fused kernel's, which counts to others.

    Args:
        part: of `forward`.
    """
    if FUSED in short_name(part):
        return None
    if part is forward or (part.parts and not has_pieces(part)):
        return labels.OTHER
    return labels.part_of(part.name).rpartition(".")[2]


def traffic_json(times: PassTimes, steps: int) -> dict[str, Any]:
    """Bytes and operations per forward pass; `times` is the sum of `steps` of them."""
    return {
        "bytes": per_pass(total_bytes(times), steps),
        "known_bytes": per_pass(known_bytes(times), steps),
        "parts": {
            part: {"operations": moved.operations / steps, "bytes": per_pass(moved.bytes, steps)}
            for part, moved in moved_by_part(times).items()
        },
    }


def _moves_unseen(name: str, part: Part) -> bool:
    # The kernels of a replay without labels are known, though not where in it they are.
    if name == labels.GRAPH_REPLAY:
        return False
    return part.own.device_events > 0 or (name == UNMATCHED and part.own.cpu_ns > 0)
