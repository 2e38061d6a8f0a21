"""Some events of a file as columns, and the same held as small as their values allow.

What lies in one megabyte of a file began within some milliseconds, so the start of an event is four
bytes above its block's first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from qwen3_profile.trace.columns import Bool, Int64, Span


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Some events of a file, as parallel arrays; times as in `Events`.

    kind: int64[n], a number of `Kinds`. correlation: -1 for an event that has none.
    numbered: int64[m], which of the events autograd numbered or evaluated.
    sequence, forward_thread: int64[m], as in `AutogradOps`.
    """

    kind: Int64
    start_ns: Int64
    dur_ns: Int64
    correlation: Int64
    numbered: Int64
    sequence: Int64
    forward_thread: Int64


class Packed:
    """int64 values in the fewest bytes above their least."""

    __slots__ = ("_above", "_least")

    def __init__(self, values: Int64) -> None:
        self._least = int(values.min())
        above = (values - self._least).view(np.uint64)
        largest = int(above.max())
        width: Any = next(width for width, most in _WIDTHS if largest <= most)
        self._above: npt.NDArray[Any] = above.astype(width)

    def unpacked(self) -> Int64:
        return self._above.astype(np.int64) + self._least

    def __len__(self) -> int:
        return len(self._above)


_WIDTHS = tuple((t, np.iinfo(t).max) for t in (np.uint8, np.uint16, np.uint32, np.uint64))


@dataclass(frozen=True, slots=True, eq=False)
class PackedBlock:
    """Events of one table that stood near each other in the file."""

    kind: Packed
    start_ns: Packed
    dur_ns: Packed
    correlation: Packed
    span: Span

    def unpacked(self) -> tuple[Int64, Int64, Int64, Int64]:
        """Kind, start, duration, correlation."""
        return (
            self.kind.unpacked(), self.start_ns.unpacked(), self.dur_ns.unpacked(),
            self.correlation.unpacked(),
        )  # fmt: skip

    def take(self, wanted: Bool) -> PackedBlock | None:
        """The events of those kinds, told by a flag each; None if there are none."""
        kind = self.kind.unpacked()
        at = np.flatnonzero(wanted[kind])
        if not len(at):
            return None
        return PackedBlock(
            Packed(kind[at]),
            Packed(self.start_ns.unpacked()[at]),
            Packed(self.dur_ns.unpacked()[at]),
            Packed(self.correlation.unpacked()[at]),
            self.span,
        )


def span_of(start_ns: Int64, dur_ns: Int64) -> Span:
    """From the start of the first of some events, one at least, to the end of the last one."""
    return Span(int(start_ns.min()), int((start_ns + dur_ns).max()))
