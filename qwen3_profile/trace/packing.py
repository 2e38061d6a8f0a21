"""Some events of a file as columns, and the same packed as small as their values allow.

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

    key: int64[n], a number of `EventKeys`. correlation: -1 for an event that has none.
    numbered: int64[m], which of the events autograd numbered or evaluated.
    sequence, forward_thread: int64[m], as in `AutogradOps`.
    launch_config: int64[n], a number of `EventKeys.launch_configs`; None where not asked for.
    """

    key: Int64
    start_ns: Int64
    dur_ns: Int64
    correlation: Int64
    numbered: Int64
    sequence: Int64
    forward_thread: Int64
    launch_config: Int64 | None = None


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
    """Events of one table that stood near each other in the file.

    columns: key, start, duration, correlation; and the launch configuration, if that is asked for.
    """

    columns: tuple[Packed, ...]
    span: Span

    def unpacked(self) -> tuple[Int64, ...]:
        return tuple(column.unpacked() for column in self.columns)

    def take(self, wanted: Bool) -> PackedBlock | None:
        """The events of those keys, told by a flag each; None if there are none."""
        at = np.flatnonzero(wanted[self.columns[0].unpacked()])
        if not len(at):
            return None
        return PackedBlock(
            tuple(Packed(column.unpacked()[at]) for column in self.columns), self.span
        )

    def __len__(self) -> int:
        return len(self.columns[0])


def pack(block: Block, at: Int64) -> PackedBlock:
    """The events of a block at some positions, one at least."""
    start_ns, dur_ns = block.start_ns[at], block.dur_ns[at]
    columns = [block.key[at], start_ns, dur_ns, block.correlation[at]]
    if block.launch_config is not None:
        columns.append(block.launch_config[at])
    return PackedBlock(tuple(map(Packed, columns)), span_of(start_ns, dur_ns))


def span_of(start_ns: Int64, dur_ns: Int64) -> Span:
    """From the start of the first of some events, one at least, to the end of the last one."""
    return Span(int(start_ns.min()), int((start_ns + dur_ns).max()))
