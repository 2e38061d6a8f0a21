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
from qwen3_profile.attribution.attribute import Attribution
from qwen3_profile.errors import TraceError
from qwen3_profile.passes.labelled import attribute_labels
from qwen3_profile.passes.nn_modules.read import attribute_modules
from qwen3_profile.passes.ranges import attribute_whole
from qwen3_profile.records.record import TimingRecord
from qwen3_profile.trace import read_trace
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


def read_shown_pass(path: Path, record: TimingRecord) -> ShownPass:
    """Reads the trace of `record` again, which came without its run.

    Args:
        path: the trace. record: of one forward pass in it.

    Raises:
        TraceError: the trace is not the one that the record is from.
    """
    # What is damaged was refused, or accepted, when the record was made.
    trace = read_trace(path, accept_damaged=True)
    if record.phase == labels.WHOLE_TRACE:
        attributed = attribute_whole(trace)
    elif record.phase_source == "label":
        attributed = attribute_labels(trace)
    else:
        attributed = attribute_modules(trace)
    if attributed is None:
        raise _not_its_trace(path)
    return shown_pass(path, record, *attributed)


def shown_pass(path: Path, record: TimingRecord, found: Attribution, ranges: int) -> ShownPass:
    """What the attribution that `record` is sums of says of its forward pass.

    Args:
        path: of the trace, as it is told.
        ranges: how many of the scopes, the first ones, lie on a time line.
    """
    starts = [step.start_ns for step in found.steps]
    if record.times.start_ns not in starts:
        raise _not_its_trace(path)
    step = starts.index(record.times.start_ns)
    paths = [row.path for row in part_tree(record.times.forward)]
    rows = find_rows(found, step, paths, inside=record.phase == labels.WHOLE_TRACE)
    events = np.flatnonzero(found.device_step == step)
    op = launching_ops(found, step, events)
    part, _ = owners(found, events, rows)
    timeline = make_timeline(found, step, events, op, rows, ranges)
    if len(events):
        kernels = kernel_stats(found, events, part, op, rows)
    else:
        kernels = operator_stats(found, step, rows)
    return ShownPass(kernels=kernels, timeline=downsample(timeline, MOST_BARS))


def _not_its_trace(path: Path) -> TraceError:
    return TraceError(str(path), "is not the trace of this record", "record the run again")
