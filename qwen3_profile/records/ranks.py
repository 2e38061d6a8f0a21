"""The traces of a distributed run, one of each process."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from qwen3_profile.errors import DamagedTraceError, TraceError, warn
from qwen3_profile.passes.read import read
from qwen3_profile.passes.reading import DeviceTotals
from qwen3_profile.records.record import TimingRecord, records_of
from qwen3_profile.system.processes import map_files
from qwen3_profile.trace import TraceInfo

# What launchers and profilers write into names: rank-3, rank_3, TP-3, worker3, and `_r3`.
_NAMED = tuple(
    re.compile(rf"(?:^|[^a-z]){word}[-_]?(\d{{1,6}})(?!\d)", re.IGNORECASE)
    for word in ("rank", "tp", "worker", "r")
)


@dataclass(frozen=True, slots=True)
class RankTrace:
    """The trace of one process.

    rank: as the file says it, else as its name does. world_size: of how many, if the file says so.
    totals: of all device events, in whatever part.
    records: of its forward passes; one of the whole trace where it shows none, by its ranges; none
        where it has no ranges either.
    """

    path: Path
    rank: int
    world_size: int | None
    totals: DeviceTotals
    records: tuple[TimingRecord, ...]


def trace_files(folder: Path) -> tuple[Path, ...]:
    """The files of a folder that may be traces, by name."""
    names = (path for path in folder.iterdir() if re.search(r"^[^.].*\.json(\.gz)?$", path.name))
    return tuple(sorted(path for path in names if path.is_file()))


def collect_ranks(files: Sequence[Path], *, accept_damaged: bool = False) -> tuple[RankTrace, ...]:
    """The ranks that the files hold, in order. What is no trace is told and left out.

    Raises:
        TraceError: there is no trace, or the ranks cannot be told from each other.
        DamagedTraceError: a trace whose figures would be wrong.
    """
    found: dict[int, RankTrace] = {}
    for each in map_files(partial(_read_file, accept_damaged), files, files):
        if isinstance(each, TraceError):
            raise each
        if isinstance(each, str):
            warn(f"left out: {each}")
            continue
        if each.rank in found:
            raise TraceError(
                str(each.path),
                f"is of rank {each.rank}, and so is {found[each.rank].path.name}",
                "give a folder with one trace of each rank, or one trace file",
            )
        found[each.rank] = each
    if not found:
        raise TraceError(str(files[0].parent), "holds no trace", "give a trace or a run's folder")
    return tuple(found[rank] for rank in sorted(found))


def _read_file(accept_damaged: bool, path: Path) -> RankTrace | TraceError | str:
    """The trace of one rank, or why there is none: an error, or a text where it is left out."""
    try:
        reading = read(path, accept_damaged=accept_damaged)
    except DamagedTraceError as error:
        return error
    except TraceError as error:
        return str(error)
    if reading.is_empty:
        return f"{path}: holds no events of a trace"
    try:
        rank = _rank(path, reading.info)
    except TraceError as error:
        return error
    totals, world_size = reading.totals, reading.info.world_size
    return RankTrace(path, rank, world_size, totals, records_of(reading, rank))


def _rank(path: Path, info: TraceInfo) -> int:
    if info.rank is not None:
        return info.rank
    for pattern in _NAMED:
        match = pattern.search(path.name)
        if match:
            return int(match[1])
    raise TraceError(
        str(path),
        "says its rank neither in distributedInfo nor in its name",
        "name it such as rank3.json.gz, or give one trace file",
    )
