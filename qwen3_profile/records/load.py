"""A path that holds runs or a trace in, its records out, grouped by config and phase. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from qwen3_profile.errors import ConfigError, TraceError
from qwen3_profile.passes.lone import collect_trace
from qwen3_profile.records.record import TimingRecord
from qwen3_profile.run_folder.layout import RAW_FOLDER, RUN_FILE
from qwen3_profile.trace import read_trace


def read_saved(
    path: Path, config: int | None = None, accept: bool = False
) -> list[tuple[TimingRecord, ...]]:
    """The records that `path` holds, one group per config and phase.

    Args:
        path: a run's folder, a folder of runs, or a trace file, ours or not.
        config: only the config of this index; None for all.
        accept: read what is left of damaged traces.

    Raises:
        ConfigError: `config` of a lone trace.
        TraceError: there is no such file, or it is no trace, or holds none.
        DamagedTraceError: a trace whose figures would be wrong.
    """
    folder = path.resolve().parent.parent
    is_raw = path.resolve().parent.name == RAW_FOLDER and (folder / RUN_FILE).is_file()
    if path.is_dir() or is_raw:
        from qwen3_profile.records.from_run import collect_raw, collect_run  # for runs alone
    if path.is_dir():
        groups = [g for run in _runs_in(path) for g in collect_run(run, config, accept)]
        if not groups:
            raise TraceError(str(path), f"holds no finished config{_numbered(config)}")
        return groups
    if config is not None:
        raise ConfigError("--config", "goes with a run's folder, not with a trace file")
    if not path.exists():
        raise TraceError(str(path), "is not there", "give a run's folder or a trace file")
    records = collect_raw(path, accept) if is_raw else ()
    return by_config(records or collect_trace(path, accept_damaged=accept))


def read_replays(path: Path, capture: Path, accept: bool = False) -> list[tuple[TimingRecord, ...]]:
    """The records of a trace of graph replays, with the labels or modules of its capture.

    Raises:
        TraceError: a file is not there or not such a trace.
        DamagedTraceError: a trace whose figures would be wrong.
    """
    from qwen3_profile.passes.cuda_graphs.read import (  # for these alone
        collect_replays,
        read_captured,
    )

    for file in (path, capture):
        if not file.exists():
            raise TraceError(str(file), "is not there", "give the traces of replays and capture")
    captured = read_captured(capture, accept_damaged=accept)
    trace = read_trace(path, accept_damaged=accept)
    return by_config(collect_replays(path, trace, captured, accept_damaged=accept))


def find_runs(path: Path) -> list[Path]:
    """`path` if it is a run's folder, else the runs directly below it."""
    if (path / RUN_FILE).is_file():
        return [path]
    return sorted(
        (folder for folder in path.iterdir() if (folder / RUN_FILE).is_file()),
        key=lambda folder: (len(folder.name), folder.name),
    )


def by_config(records: Sequence[TimingRecord]) -> list[tuple[TimingRecord, ...]]:
    """Records of one trace by model and phase, in the order in which these first ran."""
    groups: dict[tuple[int, str], list[TimingRecord]] = {}
    for record in records:
        groups.setdefault((record.config_index, record.phase), []).append(record)
    return [tuple(group) for group in groups.values()]


def _runs_in(path: Path) -> list[Path]:
    runs = find_runs(path)
    if not runs:
        raise TraceError(
            str(path),
            f"holds no {RUN_FILE}, nor does a folder in it, and no trace",
            "give a run's folder, or a folder with the trace of each rank",
        )
    return runs


def _numbered(config: int | None) -> str:
    return "" if config is None else f" of index {config}"
