"""What each part took on each rank: the table of parts by ranks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from qwen3_profile.analysis.part_rows import PartRow, part_times
from qwen3_profile.trace.columns import Int64
from qwen3_profile.views.report.timeline import Bars

if TYPE_CHECKING:
    from qwen3_profile.records.record import TimingRecord

# Columns of the table; more ranks stand in groups.
MOST_COLUMNS = 32


@dataclass(frozen=True, slots=True)
class Cell:
    """One part on the ranks of one column: means, and the most of any of them.

    work_ns: without waiting. most_rank: whose `most_ns` with waiting is.
    """

    work_ns: int
    waiting_ns: int
    most_ns: int
    most_rank: int


def device_ns(record: TimingRecord, parts: Sequence[PartRow]) -> Int64:
    """int64[parts + 1]: the device time of each part of a pass, and of no part."""
    of_path, rest_ns = part_times(record.times.forward), record.times.unattributed_ns
    mine = (of_path[row.path].device_ns if row.path in of_path else 0 for row in parts)
    return np.array([*mine, rest_ns], np.int64)


def summed(found: Bars, values_ns: Int64, count: int) -> Int64:
    """int64[count + 1]: the sum of each part, and of no part behind them."""
    sums = np.zeros(count + 1, np.int64)
    np.add.at(sums, found.part, values_ns)  # -1 is the last one
    return sums


def cells(
    numbers: Sequence[int], of_each_ns: Int64, waits_ns: Int64
) -> tuple[tuple[tuple[int, int], ...], tuple[tuple[Cell, ...], ...]]:
    """The columns, and a row of cells for each part, and for what is of no part."""
    wide = -(-len(numbers) // MOST_COLUMNS)
    groups = [range(at, min(at + wide, len(numbers))) for at in range(0, len(numbers), wide)]
    columns = tuple((numbers[group[0]], numbers[group[-1]]) for group in groups)
    # What is waited inside a part that has other times too, as on a CPU, is not its work.
    work_ns = np.maximum(of_each_ns - waits_ns, 0)
    rows = range(of_each_ns.shape[1])
    return columns, tuple(
        tuple(_cell(numbers, group, work_ns[:, at], waits_ns[:, at]) for group in groups)
        for at in rows
    )


def _cell(numbers: Sequence[int], group: range, work_ns: Int64, waits_ns: Int64) -> Cell:
    mine = slice(group.start, group.stop)
    all_ns = work_ns[mine] + waits_ns[mine]
    most = int(all_ns.argmax())
    work, waiting = round(float(work_ns[mine].mean())), round(float(waits_ns[mine].mean()))
    return Cell(work, waiting, int(all_ns[most]), numbers[group.start + most])
