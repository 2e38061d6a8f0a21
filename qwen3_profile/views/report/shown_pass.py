"""What a report shows of the device events of one forward pass.

Records hold sums alone; kernels and the time line come from the raw trace, which is read again for
the one forward pass that a report shows of each config.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from qwen3_profile import labels
from qwen3_profile.analysis.part_rows import part_tree
from qwen3_profile.errors import TraceError
from qwen3_profile.passes.known import Known
from qwen3_profile.passes.read import Needs, read
from qwen3_profile.passes.reading import Reading
from qwen3_profile.records.record import TimingRecord
from qwen3_profile.views.report.kernel_rows import (
    KernelStats,
    find_rows,
    kernel_stats,
    launching_ops,
    operator_stats,
    owners,
)
from qwen3_profile.views.report.timeline import Timeline, make_timeline
from qwen3_profile.views.report.timeline_merge import downsample

# More bars than these no screen shows, and no page has room for.
MOST_BARS = 20_000


@dataclass(frozen=True, slots=True)
class ShownPass:
    """What the raw trace of one forward pass adds to its record.

    kernels: all kernels of the pass by part, name and launching operator, the longest first; of a
        pass without a device the operators.
    """

    kernels: tuple[KernelStats, ...]
    timeline: Timeline


def read_shown_pass(path: Path, record: TimingRecord, known: Known | None = None) -> ShownPass:
    """Reads the trace of `record` again.

    Args:
        path: the trace. record: of one forward pass in it. known: of the trace, by its run.

    Raises:
        TraceError: the trace is not the one that the record is from.
    """
    # What is damaged was refused, or accepted, when the record was made.
    return shown_pass(read(path, known, accept_damaged=True, needs=Needs.OPERATORS), record)


def shown_pass(reading: Reading, record: TimingRecord) -> ShownPass:
    """What the reading that `record` is of says of its forward pass.

    Raises:
        TraceError: the record is of another trace.
    """
    found = reading.attribution
    assert found is not None  # of a trace that was read with its operators
    starts = [step.start_ns for step in found.steps]
    if record.times.start_ns not in starts:
        raise TraceError(
            str(reading.path), "is not the trace of this record", "record the run again"
        )
    step = starts.index(record.times.start_ns)
    paths = [row.path for row in part_tree(record.times.forward)]
    rows = find_rows(found, step, paths, inside=record.phase == labels.WHOLE_TRACE)
    events = np.flatnonzero(found.device_step == step)
    op = launching_ops(found, step, events)
    part, _ = owners(found, events, rows)
    timeline = make_timeline(found, step, events, op, rows, reading.ranges)
    if len(events):
        kernels = kernel_stats(found, events, part, op, rows)
    else:
        kernels = operator_stats(found, step, rows)
    return ShownPass(kernels=kernels, timeline=downsample(timeline, MOST_BARS))
