"""What a report shows of the device events of one forward pass.

Records hold sums alone; kernels and the time line come from the raw trace, which is read again for
the one forward pass that a report shows of each config.
"""

from __future__ import annotations

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
    find_rows,
    kernel_stats,
    kernels_by_layer,
    launching_ops,
    operator_stats,
    owners,
)
from qwen3_profile.views.report.section_data import ShownPass
from qwen3_profile.views.report.timeline import make_timeline
from qwen3_profile.views.report.timeline_merge import downsample
from qwen3_profile.views.report.two_passes import lay_under_labels

# More bars than these no screen shows, and no page has room for.
MOST_BARS = 20_000


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
    reading = dict(reading.processes).get(record.facts.process or "", reading)
    attribution = reading.attribution
    assert attribution is not None  # of a trace that was read with its operators
    starts = [step.start_ns for step in attribution.steps]
    if record.times.start_ns not in starts:
        raise TraceError(
            str(reading.path), "is not the trace of this record", "record the run again"
        )
    step = starts.index(record.times.start_ns)
    # Operators lie on the traced pass's own time line.
    traced = reading.traced or attribution
    paths = [row.path for row in part_tree(record.times.forward)]
    rows = find_rows(attribution, step, paths, inside=record.phase == labels.WHOLE_TRACE)
    events = np.flatnonzero(attribution.device_step == step)
    op = launching_ops(traced, step, events)
    part, _ = owners(attribution, events, rows)
    slower = _slower(record) if len(events) else None
    drawn = attribution if not len(events) else traced
    if slower is not None:
        drawn = lay_under_labels(attribution, traced, events)
    timeline = make_timeline(drawn, step, events, op, rows, reading.ranges, slower)
    if len(events):
        kernels = kernel_stats(attribution, events, part, op, rows)
    else:
        kernels = operator_stats(traced, step, rows)
    by_layer = kernels_by_layer(attribution, events, rows) if len(events) else ()
    return ShownPass(kernels, downsample(timeline, MOST_BARS), by_layer)


def _slower(record: TimingRecord) -> float | None:
    """How many times as long the device pass took as the clock pass; None without these two."""
    if record.cpu_source == "traced" or record.idle_source == "traced" or not record.walls:
        return None
    walls = record.walls[0]
    return walls.device_ns / walls.clock_ns if walls.device_ns and walls.clock_ns else None
