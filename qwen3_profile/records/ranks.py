"""A folder of traces in, one of each process of a distributed run; each rank's records out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from qwen3_profile.attribution.attribute import union_ns
from qwen3_profile.attribution.collectives import is_collective
from qwen3_profile.attribution.selection import read_for_records
from qwen3_profile.errors import DamagedTraceError, TraceError, warn
from qwen3_profile.passes.label_records import collect_windows
from qwen3_profile.passes.lone import collect_read_trace
from qwen3_profile.passes.windows import map_windows
from qwen3_profile.records.record import TimingRecord
from qwen3_profile.system.processes import map_files
from qwen3_profile.trace import Recording, Trace, TraceInfo

# What launchers and profilers write into names: rank-3, rank_3, TP-3, worker3, and `_r3`.
_NAMED = tuple(
    re.compile(rf"(?:^|[^a-z]){word}[-_]?(\d{{1,6}})(?!\d)", re.IGNORECASE)
    for word in ("rank", "tp", "worker", "r")
)


@dataclass(frozen=True, slots=True)
class RankTrace:
    """The trace of one process.

    rank: as the file says it, else as its name does. world_size: of how many, if the file says so.
    device_ns, device_events: of all device events, in whatever part. busy_ns: the union of them.
    nccl_ns: of the kernels of NCCL and RCCL among them.
    records: of its forward passes; one of the whole trace where it shows none, by its ranges; none
        where it has no ranges either.
    """

    path: Path
    rank: int
    world_size: int | None
    device_ns: int
    device_events: int
    busy_ns: int
    nccl_ns: int
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
        recording = read_for_records(path, accept_damaged=accept_damaged)
    except DamagedTraceError as error:
        return error
    except TraceError as error:
        return str(error)
    if recording.span is None:
        return f"{path}: holds no events of a trace"
    try:
        return _read(path, _rank(path, recording.info), recording, accept_damaged)
    except TraceError as error:
        return error


def _read(path: Path, rank: int, recording: Recording, accept_damaged: bool) -> RankTrace:
    records = collect_windows(path, recording, rank=rank, accept_damaged=accept_damaged)
    if records:
        sums = map_windows(recording, lambda trace, _: _device_sums(trace))
    else:
        trace = recording.trace()
        records = collect_read_trace(
            path, trace, rank=rank, whole=True, accept_damaged=accept_damaged
        )
        sums = [_device_sums(trace)]
    device_ns, device_events, busy_ns, nccl_ns = map(sum, zip(*sums, strict=True))
    return RankTrace(
        path=path,
        rank=rank,
        world_size=recording.info.world_size,
        device_ns=device_ns,
        device_events=device_events,
        busy_ns=busy_ns,
        nccl_ns=nccl_ns,
        records=records,
    )


def _device_sums(trace: Trace) -> tuple[int, int, int, int]:
    """Duration and number of the device events, the union of them, and the duration of NCCL's."""
    device = trace.device
    return (
        int(device.dur_ns.sum()),
        len(device),
        union_ns(device.start_ns, device.end_ns),
        int(device.dur_ns[is_collective(trace)].sum()),
    )


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
