"""The times of each part in every pass, and what is odd in them; and sweeps as grids of sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from qwen3_profile.analysis.distribution import shape_sentences
from qwen3_profile.analysis.median_pass import ns_of
from qwen3_profile.analysis.part_rows import PartRow, part_times
from qwen3_profile.analysis.scaling.sweep import Sweep
from qwen3_profile.records.record import TimingRecord

# Of all configs of a page together; what has more shows the times of whole passes alone.
_MOST_TIMES = 400_000


@dataclass(frozen=True, slots=True)
class PartTimes:
    """One part in every pass, in their order; shape: what is odd in that, in sentences."""

    ns: tuple[int, ...]
    shape: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Distribution:
    """Times of one kind. source: of which passes they are, clock, device or traced.

    rows: one for each row of the config; of all layers together.
    """

    source: str
    rows: tuple[PartTimes, ...]


@dataclass(frozen=True, slots=True)
class Grid:
    """A sweep as the page shows it: its sizes, and the time of each row in each of them.

    configs: of each size which config of the page it is.
    """

    configs: tuple[int, ...]
    batches: tuple[int, ...]
    lengths: tuple[int, ...]
    rates: tuple[float, ...]
    busy: tuple[float | None, ...]
    names: tuple[tuple[str, ...], ...]
    times_ns: tuple[tuple[float, ...], ...]


def distributions(
    passes: Sequence[TimingRecord], rows: Sequence[PartRow], on_device: bool, pages: int
) -> dict[str, Distribution]:
    """The times of the host, `cpu`, and those of the device, `cuda`; none where they are too many.

    Args:
        passes: one forward pass each. rows: of the pass that is shown.
        pages: how many configs share the page.
    """
    if len(passes) * len(rows) * (1 + on_device) * pages > _MOST_TIMES:
        return {}
    trees = [part_times(each.times.forward) for each in passes]
    runs = [each.run_index for each in passes]
    found = {}
    for kind in ("cpu", "cuda")[: 1 + on_device]:
        columns = [
            tuple(
                ns_of(tree[row.path], kind == "cuda") if row.path in tree else 0 for tree in trees
            )
            for row in rows
        ]
        source = passes[0].idle_source if kind == "cuda" else passes[0].cpu_source
        shown = tuple(PartTimes(ns, tuple(shape_sentences(_by_run(ns, runs)))) for ns in columns)
        found[kind] = Distribution(source, shown)
    return found


def _by_run(times: Sequence[int], runs: Sequence[int]) -> list[list[float]]:
    """The times of each run by themselves."""
    pairs = groupby(zip(runs, times, strict=True), key=lambda pair: pair[0])
    return [[ns for _, ns in group] for _, group in pairs]


def grid_of(sweep: Sweep, groups: Sequence[Sequence[TimingRecord]]) -> Grid:
    """A sweep over the configs of a page.

    Args:
        groups: the records of each config of the page.
    """
    place = {
        (records[0].config.batch_size, records[0].config.input_len): at
        for at, records in enumerate(groups)
        if records[0].config is not None and sweep.holds(records[0])
    }
    sizes = sweep.sizes
    return Grid(
        configs=tuple(place[size.batch, size.length] for size in sizes),
        batches=tuple(size.batch for size in sizes),
        lengths=tuple(size.length for size in sizes),
        rates=tuple(size.rate for size in sizes),
        busy=tuple(size.busy for size in sizes),
        names=tuple(row.path for row in sweep.rows),
        times_ns=tuple(row.times_ns for row in sweep.rows),
    )
