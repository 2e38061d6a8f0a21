"""The data of the pictures of ranks, as the page has it."""

from __future__ import annotations

from typing import Any

import numpy as np

from qwen3_profile.analysis.part_rows import FAMILIES, inside_of
from qwen3_profile.analysis.rank_waiting import Straggler
from qwen3_profile.views.report.rank_view import RankLine, RankView
from qwen3_profile.views.report.timeline import NO_QUEUE, STREAM, Bars, Lane, Timeline
from qwen3_profile.views.report.timeline_merge import downsample

Json = dict[str, Any]


def rank_json(view: RankView, bars: int) -> Json:
    """The view as data.

    Args:
        bars: of all its lines together, at most about so many; those that have more are joined.
    """
    waiting = view.waiting
    works = _joined(view.lines, bars)
    return {
        "ranks": view.ranks,
        "on_device": view.on_device,
        "parts": [
            {"name": " / ".join(inside_of(row.path)), "family": FAMILIES.index(row.family)}
            for row in view.parts
        ],
        "columns": view.columns,
        "cell_ranks": view.cell_ranks,
        "cells": [
            [(c.work_ns, c.waiting_ns, c.most_ns, c.most_rank) for c in row] for row in view.cells
        ],
        "layers": view.layers,
        "layer": view.layer,
        "lines": [
            {
                "rank": line.rank,
                "work": {**_bars(work), "count": work.count.tolist()},
                "collectives": {
                    **_bars(line.collectives),
                    "waiting": line.waiting_ns.tolist(),
                    "kind": line.kinds,
                },
            }
            for line, work in zip(view.lines, works, strict=True)
        ],
        "passes": waiting.passes,
        "residual": waiting.residual_ns,
        "straggler": _straggler(waiting.straggler),
        "differences": waiting.differences,
    }


def _straggler(late: Straggler | None) -> Json | None:
    if late is None:
        return None
    return {
        "rank": late.rank,
        "last": late.last,
        "of": late.of,
        "held": late.held_ns,
        "label": late.lost_at.label if late.lost_at else None,
        "lost": late.lost_at.ns if late.lost_at else 0,
    }


def _joined(lines: tuple[RankLine, ...], bars: int) -> list[Bars]:
    """The work of each line, close neighbours of one part joined where they are too many."""
    lanes = tuple(Lane(STREAM, str(line.rank), line.work) for line in lines)
    ends = [int((b.start_ns + b.dur_ns).max()) for b in (line.work for line in lines) if len(b)]
    events = sum(len(line.work) for line in lines)
    timeline = Timeline(max(ends, default=0), (), lanes, NO_QUEUE, events)
    return [lane.bars for lane in downsample(timeline, bars).lanes]


def _bars(bars: Bars) -> Json:
    """`start` counts from the start of the bar before it."""
    return {
        "start": np.diff(bars.start_ns, prepend=0).tolist(),
        "dur": bars.dur_ns.tolist(),
        "part": bars.part.tolist(),
        "layer": bars.layer.tolist(),
    }
