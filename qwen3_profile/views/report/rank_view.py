"""One forward pass as all ranks ran it: a time line by layer, and what each part took on each rank.

The ranks are those of one group whose collectives are matched. All times are the pass's of the
trace, moved by how far the clock of the rank is ahead of the first one's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from qwen3_profile import labels
from qwen3_profile.analysis.median_pass import is_on_device, shown_record
from qwen3_profile.analysis.part_rows import PartPath, PartRow, inside_of, part_tree
from qwen3_profile.analysis.rank_imbalance import chosen_ranks
from qwen3_profile.analysis.rank_waiting import RankWaiting, part_of, rank_waiting
from qwen3_profile.attribution.collective_times import kind_of
from qwen3_profile.trace.columns import Int32, Int64
from qwen3_profile.views.report.kernel_rows import ScopeRows, find_rows, owners
from qwen3_profile.views.report.rank_cells import Cell, cells, device_ns, summed
from qwen3_profile.views.report.timeline import NO_NAME, NOT_LAUNCHED, Bars

if TYPE_CHECKING:
    from qwen3_profile.attribution.attribute import Attribution
    from qwen3_profile.passes.reading import Reading
    from qwen3_profile.records.ranks import RankTrace
    from qwen3_profile.records.record import TimingRecord

# The collectives of one pass of a rank, what of each is waiting or -1, and its kind.
_Exchanged = tuple[Bars, Int64, tuple[str, ...]]

# More lines than these nobody compares by eye, and each needs its trace read again.
MOST_LINES = 8


@dataclass(frozen=True, slots=True, eq=False)
class RankLine:
    """What one rank did, from the pass's first event on any rank.

    work: on its device, or in its labels; a bar's part is an index into `RankView.parts`, or -1.
    collectives: these lie over it.
    waiting_ns: int64[n], of each collective, from its start; -1 where it could not be told apart.
    kinds: of each collective.
    """

    rank: int
    work: Bars
    collectives: Bars
    waiting_ns: Int64
    kinds: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class RankPasses:
    """One pass of one phase on each rank of a group, as their records have it.

    passes: of each of `ranks`. parts: the leaves of the pass.
    lined: the places of the ranks that the time line shows; each needs its raw trace once more.
    waiting: the collectives of the phase.
    """

    ranks: tuple[RankTrace, ...]
    passes: tuple[TimingRecord, ...]
    parts: tuple[PartRow, ...]
    lined: tuple[int, ...]
    waiting: RankWaiting

    def lined_at(self, rank: RankTrace) -> int | None:
        """The place of a rank in the time line; None where it shows none of it."""
        return next((at for at in self.lined if self.ranks[at] is rank), None)

    def work(self, at: int, reading: Reading) -> Bars:
        """What the rank at this place did.

        Args:
            reading: of the raw trace of its pass.
        """
        return _work(reading, self.passes[at], self.parts)


@dataclass(frozen=True, slots=True)
class RankView:
    """One pass of one phase on the ranks of a group.

    ranks: how many there are. lines: of these, or of some. parts: of the pass, the leaves.
    columns: the first and the last rank of each; cells: of each part, one for each column.
    cell_ranks: how many ranks the columns hold.
    layers: the numbers of the layers. layer: which is shown first.
    waiting: the collectives of the phase.
    """

    ranks: int
    lines: tuple[RankLine, ...]
    parts: tuple[PartRow, ...]
    columns: tuple[tuple[int, int], ...]
    cells: tuple[tuple[Cell, ...], ...]
    cell_ranks: int
    layers: tuple[int, ...]
    layer: int
    on_device: bool
    waiting: RankWaiting


def passes_of_ranks(ranks: Sequence[RankTrace], phase: tuple[int, str]) -> RankPasses | None:
    """None where the ranks have no such pass in common, or no collectives in it.

    Args:
        ranks: of one group.
        phase: config and phase.
    """
    passes = _same_pass(ranks, phase)
    waiting = rank_waiting(ranks, phase) if len(passes) == len(ranks) > 1 else None
    if waiting is None:
        return None
    chosen = {each.rank for each in chosen_ranks(ranks, MOST_LINES)}
    return RankPasses(
        ranks=tuple(ranks),
        passes=tuple(passes),
        parts=tuple(row for row in part_tree(passes[0].times.forward) if row.is_leaf),
        lined=tuple(at for at, each in enumerate(ranks) if each.rank in chosen),
        waiting=waiting,
    )


def rank_view(found: RankPasses, works: Mapping[int, Bars]) -> RankView:
    """The view of a pass.

    Args:
        works: `found.work` of each of `found.lined`.
    """
    ranks, parts, lined = found.ranks, found.parts, found.lined
    on_device = is_on_device(found.passes)
    # Of the device the records hold the same of all ranks; of a CPU only the raw traces do.
    whose = range(len(ranks)) if on_device else lined
    exchanged = {at: _collectives(ranks, at, found.passes[at], parts) for at in whose}
    lines = _lines(ranks, lined, found.passes, works, exchanged)
    if on_device:
        of_each = [device_ns(each, parts) for each in found.passes]
    else:
        of_each = [summed(line.work, line.work.dur_ns, len(parts)) for line in lines]
    waits = [
        summed(mine, np.maximum(waiting_ns, 0), len(parts))
        for mine, waiting_ns, _ in exchanged.values()
    ]
    numbers = [ranks[at].rank for at in whose]
    columns, rows = cells(numbers, np.array(of_each), np.array(waits))
    layers = sorted({n for line in lines for n in line.work.layer.tolist() if n >= 0})
    return RankView(
        ranks=len(ranks),
        lines=lines,
        parts=parts,
        columns=columns,
        cells=rows,
        cell_ranks=len(whose),
        layers=tuple(layers),
        layer=_worst_layer(found.waiting, lines, layers),
        on_device=on_device,
        waiting=found.waiting,
    )


def _same_pass(ranks: Sequence[RankTrace], phase: tuple[int, str]) -> list[TimingRecord]:
    """The pass that is shown of the first rank, on each of them: counted from the last one."""
    found: list[TimingRecord] = []
    back = 0
    for at, rank in enumerate(ranks):
        mine = [r for r in rank.records if (r.config_index, r.phase) == phase]
        passes = [single for record in mine for single in record.one_by_one()]
        if not at and passes:
            shown = shown_record(mine)
            starts = [each.times.start_ns for each in passes]
            back = len(starts) - starts.index(shown.times.start_ns)
        if back and back <= len(passes):
            found.append(passes[-back])
    return found


# --- the time line --------------------------------------------------------------------------------


def _lines(
    ranks: Sequence[RankTrace],
    lined: Sequence[int],
    passes: Sequence[TimingRecord],
    works: Mapping[int, Bars],
    exchanged: Mapping[int, _Exchanged],
) -> tuple[RankLine, ...]:
    """The lines of the ranks at `lined`, from one zero on."""
    matched = ranks[0].matched
    assert matched is not None  # of ranks with collectives in common
    offsets = [matched.offset_ns[at].get(each.step_numbers[0], 0) for at, each in enumerate(passes)]
    aligned = [_moved(works[at], offsets[at]) for at in lined]
    found = [exchanged[at] for at in lined]
    shared = [_moved(each[0], offsets[at]) for at, each in zip(lined, found, strict=True)]
    starts = [int(each.start_ns.min()) for each in (*aligned, *shared) if len(each.start_ns)]
    zero = min(starts, default=0)
    return tuple(
        RankLine(ranks[at].rank, _moved(work, zero), _moved(mine, zero), waiting_ns, kinds)
        for at, work, mine, (_, waiting_ns, kinds) in zip(
            lined, aligned, shared, found, strict=True
        )
    )


def _moved(found: Bars, back_ns: int) -> Bars:
    return replace(found, start_ns=found.start_ns - back_ns)


def _bars(start_ns: Int64, dur_ns: Int64, part: Int32, layer: Int32) -> Bars:
    """Bars of which no more is known."""
    none = np.full(len(start_ns), NO_NAME, np.int32)
    launch_ns = np.full(len(start_ns), NOT_LAUNCHED, np.int64)
    count = np.ones(len(start_ns), np.int32)
    return Bars(start_ns, dur_ns, none, part, layer, none, launch_ns, count, dur_ns)


def _work(reading: Reading, record: TimingRecord, parts: Sequence[PartRow]) -> Bars:
    """The device events of a pass; on a CPU the labels that have none below them."""
    reading = dict(reading.processes).get(record.facts.process or "", reading)
    found = reading.attribution
    assert found is not None  # of a trace that was read with its operators
    step = [each.start_ns for each in found.steps].index(record.times.start_ns)
    paths = [row.path for row in part_tree(record.times.forward)]
    rows = find_rows(found, step, paths, inside=record.phase == labels.WHOLE_TRACE)
    leaf = _places(paths, [row.path for row in parts])
    events = np.flatnonzero(found.device_step == step)
    if not len(events):
        return _labels(reading.traced or found, rows, leaf, reading.ranges)
    part, layer = owners(found, events, rows)
    device = found.trace.device
    order = np.argsort(device.start_ns[events], kind="stable")
    mine = events[order]
    return _bars(device.start_ns[mine], device.dur_ns[mine], leaf[part[order]], layer[order])


def _places(paths: Sequence[PartPath], known: Sequence[PartPath]) -> Int32:
    """Of each row where it stands among the leaves, or -1; and behind them -1 for none."""
    place = {path: at for at, path in enumerate(known)}
    return np.array([*(place.get(path, -1) for path in paths), -1], np.int32)


def _labels(found: Attribution, rows: ScopeRows, leaf: Int32, ranges: int) -> Bars:
    scopes = found.scopes
    inside = np.flatnonzero(rows.has_row & (np.arange(len(rows.path)) < ranges))
    mine = inside[leaf[rows.path[inside]] >= 0]
    mine = mine[np.argsort(scopes.start_ns[mine], kind="stable")]
    dur_ns = scopes.end_ns[mine] - scopes.start_ns[mine]
    return _bars(scopes.start_ns[mine], dur_ns, leaf[rows.path[mine]], rows.layer[mine])


def _collectives(
    ranks: Sequence[RankTrace], at: int, record: TimingRecord, parts: Sequence[PartRow]
) -> _Exchanged:
    """Those of one pass of a rank."""
    found, matched = ranks[at].collectives, ranks[at].matched
    assert matched is not None
    split = matched.splits[at]
    mine = np.flatnonzero(found.step == record.step_numbers[0])
    waiting_ns = np.where(split.is_split[mine], found.dur_ns[mine] - split.transfer_ns[mine], -1)
    names = [found.labels[label] for label in found.label[mine].tolist()]
    kinds = [kind_of(found.messages[number].collective) for number in found.message[mine].tolist()]
    pairs = list(zip(names, kinds, strict=True))
    row = {pair: _row_of(*pair, parts) for pair in dict.fromkeys(pairs)}
    part = np.array([row[pair] for pair in pairs], np.int32)
    layer = np.array([_layer_of(name) for name in names], np.int32)
    stretches = _bars(found.start_ns[mine], found.dur_ns[mine], part, layer)
    return stretches, waiting_ns, tuple(kinds)


def _layer_of(label: str) -> int:
    parsed = labels.parse(".".join(label.split(".")[:2]))  # whatever the part is
    return -1 if parsed is None or parsed.layer is None else parsed.layer


def _row_of(label: str, kind: str, parts: Sequence[PartRow]) -> int:
    """The leaf that holds the collectives of a label: one of their own, or the label's.

    Without a label they may lie in a range that torch has written round them.
    """
    names = tuple(part_of(label).split(".")) if label else (f"nccl:{kind}",)
    inside = [inside_of(row.path) for row in parts]
    for own in (*labels.COLLECTIVES, labels.OTHER, ""):
        wanted = (*names, own) if own else names
        if wanted in inside:
            return inside.index(wanted)
    return -1


def _worst_layer(waiting: RankWaiting, lines: Sequence[RankLine], layers: Sequence[int]) -> int:
    """Where the rank that the others wait for lost most; else where is most waiting."""
    lost = waiting.straggler.lost_at if waiting.straggler else None
    if lost is not None and _layer_of(lost.label) in layers:
        return _layer_of(lost.label)
    waits: dict[int, int] = dict.fromkeys(layers, 0)
    for line in lines:
        for layer, ns in zip(line.collectives.layer.tolist(), line.waiting_ns.tolist(),
                             strict=True):  # fmt: skip
            if layer in waits:
                waits[layer] += max(0, ns)
    return max(waits, key=lambda layer: waits[layer], default=-1)


def groups_of(ranks: Sequence[RankTrace]) -> Iterator[tuple[RankTrace, ...]]:
    """The ranks that were measured together."""
    for name in dict.fromkeys(each.group for each in ranks):
        yield tuple(each for each in ranks if each.group == name)
