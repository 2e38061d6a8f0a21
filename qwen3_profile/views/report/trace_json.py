"""The data of kernels and of the time line, as the page has it, which the raw trace alone tells.

Names of kernels and operators are in one list, and elsewhere their index.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from qwen3_profile.analysis.kernel_names import readable_names
from qwen3_profile.analysis.part_rows import PartPath
from qwen3_profile.trace.columns import Int64
from qwen3_profile.views.report.kernel_rows import KernelStats
from qwen3_profile.views.report.section_data import Config
from qwen3_profile.views.report.timeline import Bars, Lane, Timeline
from qwen3_profile.views.report.timeline_merge import downsample
from qwen3_profile.words import both

Json = dict[str, Any]

# Of each part the page has a row of these, and one for all others together.
_MOST_KERNELS = 12
_LONGEST_NAME = 1500
_LONGEST_END = 300  # of it, what two names may differ in that begin alike


class Names:
    """Texts that occur many times, under one number each."""

    def __init__(self) -> None:
        self._index: dict[str, int] = {}

    def __getitem__(self, text: str) -> int:
        return self._index.setdefault(text, len(self._index))

    @property
    def texts(self) -> list[str]:
        return [cut(text) for text in self._index]

    @property
    def short(self) -> list[str | None]:
        """The short name of each that has one."""
        found = readable_names(self._index)
        return [found[text] if found[text] != text else None for text in self._index]


def kernels(config: Config, row_of: dict[PartPath, int], names: Names) -> Json | None:
    """The kernels of each part, the longest first, and of each part the sum of those left out."""
    if config.trace is None or not config.trace.kernels:
        return None
    by_part: dict[PartPath, list[KernelStats]] = {}
    for each in config.trace.kernels:
        by_part.setdefault(each.part, []).append(each)
    shown = [each for mine in by_part.values() for each in mine[:_MOST_KERNELS]]
    shown.sort(key=lambda each: -each.total_ns)
    rest = [(part, mine[_MOST_KERNELS:]) for part, mine in by_part.items()]
    return {
        "noun": "kernel" if config.on_device else "operator",
        "rows": [
            [row_of.get(u.part, -1), names[u.name], names[u.op], u.calls, u.total_ns] for u in shown
        ],
        "rest": [
            [row_of.get(part, -1), len(left), sum(u.calls for u in left),
             sum(u.total_ns for u in left)]
            for part, left in rest
            if left
        ],
    }  # fmt: skip


def launched(config: Config, row_of: dict[PartPath, int], names: Names) -> list[list[int]]:
    """[row, layer, name, ns] of each kernel in each part of each layer."""
    if config.trace is None:
        return []
    return [
        [row_of.get(each.part, -1), each.layer, names[each.name], each.total_ns]
        for each in config.trace.by_layer
    ]


def timeline(found: Timeline, names: Names, bars: int) -> Json:
    joined = downsample(found, bars)
    index = [names[name] for name in joined.names]
    return {
        "span": joined.span_ns,
        "events": joined.events,
        "bars": joined.bars,
        "slower": joined.slower,
        "queue": {
            "step": np.diff(np.array(joined.queue.times_ns, np.int64), prepend=0).tolist(),
            "depth": joined.queue.depth,
            "joined": joined.queue.joined,
            "deepest": joined.queue.deepest,
            "empty": joined.queue.empty_ns,
        },
        "lanes": [_lane(lane, index) for lane in joined.lanes],
    }


def _lane(lane: Lane, index: Sequence[int]) -> Json:
    """A lane's columns. `start` counts from the start of the bar before it, `launch` backwards
    from the bar's own start; what all bars have alike is left out.
    """
    bars = lane.bars
    columns: dict[str, Any] = {
        "start": np.diff(bars.start_ns, prepend=0).tolist(),
        "dur": bars.dur_ns.tolist(),
        "part": bars.part.tolist(),
        "layer": bars.layer.tolist(),
        "name": [index[at] if at >= 0 else -1 for at in bars.name.tolist()],
        "op": [index[at] if at >= 0 else -1 for at in bars.op.tolist()],
        "launch": _before_start(bars),
        "count": bars.count.tolist(),
        "work": np.where(bars.count > 1, bars.work_ns, 0).tolist(),
    }
    usual = {"name": -1, "op": -1, "layer": -1, "launch": None, "count": 1, "work": 0}
    kept = {
        key: values
        for key, values in columns.items()
        if key not in usual or any(value != usual[key] for value in values)
    }
    return {"kind": lane.kind, "title": both(lane.title), **kept}


def _before_start(bars: Bars) -> list[int | None]:
    lead: Int64 = bars.start_ns - bars.launch_ns
    known = (bars.launch_ns >= 0).tolist()
    return [ns if is_known else None for ns, is_known in zip(lead.tolist(), known, strict=True)]


def cut(text: str) -> str:
    """A name of any length in the room that it deserves."""
    if len(text) <= _LONGEST_NAME:
        return text
    begin, end = text[: _LONGEST_NAME - _LONGEST_END], text[-_LONGEST_END:]
    return f"{begin} ... {end} ({len(text)} characters)"
