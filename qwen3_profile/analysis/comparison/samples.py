"""The times of one config and phase on both sides: of each process, of each row, of each pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from qwen3_profile import labels
from qwen3_profile.analysis.median_pass import ns_of
from qwen3_profile.analysis.part_rows import PartPath, own_path, part_tree, place_of
from qwen3_profile.attribution.kernels import KernelRow
from qwen3_profile.attribution.parts import Part, Times
from qwen3_profile.attribution.pass_parts import layers
from qwen3_profile.records.process import Group, PassKernels, Process, ReadKernels
from qwen3_profile.records.quantiles import median
from qwen3_profile.records.record import TimingRecord

By = Literal["part", "layer", "kernel"]
UNATTRIBUTED = "unattributed"


@dataclass(frozen=True, slots=True)
class ProcessSamples:
    """What one process measured of one config and phase.

    bare_ns: the wall-clock of every bare pass; of a decode of every step. Empty of lone traces.
    rows: of each row, its time in every traced run; in ns, per pass.
    bare_mhz, rows_mhz: the SM clock in each of these; empty where it is not known, or the rows are
        times of the host.
    """

    process: Process
    records: Group
    bare_ns: tuple[float, ...]
    rows: dict[PartPath, tuple[float, ...]]
    bare_mhz: tuple[float, ...] = ()
    rows_mhz: tuple[float, ...] = ()

    @property
    def passes(self) -> int:
        """How many passes the medians of this process are over, the fewer of both kinds."""
        traced = len(self.records)
        return min(traced, len(self.bare_ns)) if self.bare_ns else traced


def samples_of(
    process: Process, records: Group, by: By, on_device: bool, kernels_of: ReadKernels
) -> ProcessSamples:
    """The times of one process, row by row.

    Args:
        by: rows are the parts of all layers together, each layer with its blocks, or kernels.
        on_device: whether times are those of the device; else of the host.
    """
    kept = tuple(each for each in records if not each.times.lost_launches) or records
    if by == "kernel":
        every = [_kernel_row(each) for each in kernels_of(process, kept)]
    else:
        every = [_row_times(each, by, on_device) for each in kept]
    paths = dict.fromkeys(path for each in every for path in each)
    rows = {path: tuple(each.get(path, 0.0) for each in every) for path in paths}
    bare_ns = bare_passes(kept)
    bare_mhz = _clocks((each, "bare", len(each.step_times_ns) or 1) for each in kept)
    # Kernels are seen in the traced passes alone.
    kinds = ((each, "traced" if by == "kernel" else each.idle_source, 1) for each in kept)
    rows_mhz = _clocks(kinds) if on_device and len(every) == len(kept) else ()
    known = bare_mhz if len(bare_mhz) == len(bare_ns) else ()
    return ProcessSamples(process, kept, bare_ns, rows, known, rows_mhz)


def _clocks(passes: Iterable[tuple[TimingRecord, str, int]]) -> tuple[float, ...]:
    """The SM clock in MHz of so many passes of one kind of each run; empty where one has none."""
    found = [[record.sm_clock.of(kind)] * count for record, kind, count in passes]
    mhz = [one for each in found for one in each]
    return tuple(one for one in mhz if one) if all(mhz) else ()


def bare_passes(records: Sequence[TimingRecord]) -> tuple[float, ...]:
    """The wall-clock of every bare pass, or step of a decode, in ns."""
    steps = [float(ns) for record in records for ns in record.step_times_ns]
    return tuple(steps or [each.total_ns for each in records if each.total_ns is not None])


def part_times(forward: Part) -> Iterator[tuple[PartPath, Times]]:
    """The rows of a pass; of a whole trace its ranges, as they are nested."""
    if forward.name != labels.WHOLE_TRACE:
        yield from ((row.path, row.times) for row in part_tree(forward))
        return
    for path, part in forward.walk():
        yield path, part.total
        if part.parts:
            yield (*path, labels.OTHER), part.own


def middle(values: Sequence[float]) -> float:
    """The median over the passes of a process; 0 where the row is in none."""
    return median(values) if values else 0.0


def kernel_parts(
    rows: Sequence[KernelRow], known: Sequence[PartPath]
) -> dict[tuple[PartPath, str], tuple[int, int]]:
    """(part, name) -> events and ns of the kernels that a part launched itself, all layers
    together.

    Args:
        known: the paths of the pass's rows.
    """
    paths = set(known)
    events: Counter[tuple[PartPath, str]] = Counter()
    spent_ns: Counter[tuple[PartPath, str]] = Counter()
    for row in rows:
        key = (_place(row.path, paths), row.name)
        events[key] += row.events
        spent_ns[key] += row.device_ns
    return {key: (events[key], spent_ns[key]) for key in events}


def _place(names: tuple[str, ...], known: set[PartPath]) -> PartPath:
    """The row of a kernel: that of its part, of the part's own time, or of the part around it."""
    if not names:
        return (UNATTRIBUTED,)
    path = names if names[0] == labels.WHOLE_TRACE else place_of(names)[0]
    if path in known:
        return own_path(path, known)
    while len(path) > 1 and path not in known:
        path = path[:-1]
    return path


def _kernel_row(kernels: PassKernels) -> dict[PartPath, float]:
    spent_ns: Counter[str] = Counter()
    for row in kernels.rows:
        spent_ns[row.name] += row.device_ns
    return {(name,): ns / kernels.passes for name, ns in spent_ns.items()}


def _row_times(record: TimingRecord, by: By, on_device: bool) -> dict[PartPath, float]:
    found = dict(_paths(record, by, on_device))
    if on_device and record.times.unattributed_ns:
        found[UNATTRIBUTED,] = record.times.unattributed_ns
    return {path: ns / record.steps for path, ns in found.items()}


def _paths(record: TimingRecord, by: By, on_device: bool) -> Iterator[tuple[PartPath, int]]:
    forward = record.times.forward
    if by == "part":
        yield from ((path, ns_of(times, on_device)) for path, times in part_times(forward))
        return
    for layer in layers(forward):
        yield (layer.name,), ns_of(layer.total, on_device)
        for part in layer.parts:
            yield (layer.name, part.name.rpartition(".")[2]), ns_of(part.total, on_device)
