"""The records of replays of a graph in, the table of what the graph saves, part by part, out."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from qwen3_profile.records.graph_savings import Saving, savings
from qwen3_profile.records.record import TimingRecord
from qwen3_profile.views.terminal.cells import milliseconds, wrap

_WIDTHS = (13, 13, 13, 13, 13)


def graph_table(records: Sequence[TimingRecord], shown: TimingRecord) -> str:
    """What each part took eagerly and takes in the graph; empty where nothing ran as a graph.

    Args:
        records: of one config and phase.
        shown: the one of them whose parts the tables show.
    """
    eager = shown.eager
    if eager is None:
        return ""
    lines = [
        wrap(_heading(records)),
        _columns("part, all layers", "eager cuda", "graph cuda", "eager idle", "graph idle",
                 "saved"),
    ]  # fmt: skip
    lines += [_row(each) for each in savings(eager.times.forward, shown.times.forward)]
    lines.append(
        wrap(
            "saved: cuda and idle together, both traced; the profiler slows the eager pass's "
            "launches down, so that only total_time says how much it is without"
        )
    )
    return "\n".join(lines)


def _heading(records: Sequence[TimingRecord]) -> str:
    eager = median(each.eager.bare_ns for each in records if each.eager is not None)
    graph = median(each.total_ns for each in records if each.total_ns is not None)
    return (
        f"eager and graph: a bare pass takes {milliseconds(eager)} ms eagerly and "
        f"{milliseconds(graph)} ms as a graph, {eager / graph:.2f} times as fast"
    )


def _row(each: Saving) -> str:
    name = each.part.removeprefix("layer.*.")
    indent = each.part.count(".") if each.part.startswith("layer.") else 1
    return _columns(
        "  " * indent + ("layers" if name == "layer.*" else name.rpartition(".")[2]),
        milliseconds(each.eager.device_ns),
        milliseconds(each.graph.device_ns),
        milliseconds(each.eager.gap_ns),
        milliseconds(each.graph.gap_ns),
        milliseconds(each.saved_ns),
    )


def _columns(*cells: str) -> str:
    head, *rest = cells
    tail = "".join(f"{cell:>{width}}" for cell, width in zip(rest, _WIDTHS, strict=True))
    return f"{head:<29}{tail}"
