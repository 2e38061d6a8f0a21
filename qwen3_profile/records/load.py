"""What lies at a path - a run, runs, a trace, ranks, replays - as records, by config and phase.

No torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from qwen3_profile.errors import ConfigError, NoRangesError, TraceError, warn
from qwen3_profile.passes.known import Capture
from qwen3_profile.passes.read import read
from qwen3_profile.records.from_trace import records_of
from qwen3_profile.records.record import TimingRecord
from qwen3_profile.run_folder.layout import RUN_FILE, find_runs, may_be_trace, run_of_raw
from qwen3_profile.run_folder.run_json import read_run_and_left
from qwen3_profile.system.remote import files_at

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from qwen3_profile.records.ranks import RankTrace
    from qwen3_profile.run_folder.run_json import ConfigResult, Run


@dataclass(frozen=True, slots=True)
class Loaded:
    """What `load` found, one group of records per config and phase.

    ranks: of a folder with the trace of each rank, these; their records are the groups.
    run_ranks: of a run of several ranks, these; the groups are the records of rank 0.
    pair: the trace of replays and that of their capture, where there are such.
    """

    groups: list[tuple[TimingRecord, ...]]
    ranks: tuple[RankTrace, ...] = ()
    pair: tuple[Path, Path] | None = None
    run_ranks: tuple[RankTrace, ...] = ()

    @property
    def records(self) -> list[TimingRecord]:
        """All of them, each once."""
        ranks = (rank.records for rank in self.run_ranks)
        found = (record for group in (*ranks, *self.groups) for record in group)
        return list({record.id: record for record in found}.values())


def load(
    path: Path, *, config: int | None = None, capture: Path | None = None, accept: bool = False
) -> Loaded:
    """All that `path` holds.

    Args:
        path: a run's folder, a folder of runs, a trace file, ours or not, a folder with the trace
            of each rank, or with one of replays and one of their capture.
        config: only the config of this index; None for all.
        capture: of a trace of replays, the trace of their capture.
        accept: read what is left of damaged traces.

    Raises:
        ConfigError: `config` or `capture` of what has none.
        TraceError: there is no such file, or it is no trace, or holds none.
        DamagedTraceError: a trace whose figures would be wrong.
    """
    pair = find_pair(path, config=config, capture=capture)
    if pair is not None:
        return Loaded(by_config(_read_pair(*pair, accept)), pair=pair)
    ranks = _read_ranks(path, config, accept)
    if ranks:
        return Loaded([rank.records for rank in ranks if rank.records], ranks=ranks)
    return load_saved(path, config, accept)


def load_ranks(place: Path | str, executor: Executor, *, accept: bool = False) -> Loaded:
    """The traces of ranks in a folder, read by the workers of an executor.

    Args:
        place: the folder, or its URL.

    Raises:
        ConfigError: it is no folder, or its URL cannot be read.
        TraceError, DamagedTraceError: as `load`.
    """
    from qwen3_profile.records.ranks import collect_ranks, trace_files

    files: Sequence[Path | str]
    if isinstance(place, Path):
        files = trace_files(place) if place.is_dir() and not find_runs(place) else ()
    else:
        files = [url for url in files_at(place) if may_be_trace(url.rpartition("/")[2])]
    if not files:
        what = "holds no trace of a rank, and engines read nothing else"
        raise ConfigError(str(place), what, "give such a folder, or leave --engine out")
    ranks = collect_ranks(files, accept_damaged=accept, executor=executor)
    return Loaded([rank.records for rank in ranks if rank.records], ranks=ranks)


def load_saved(path: Path, config: int | None = None, accept: bool = False) -> Loaded:
    """As `load`, of a run's folder, a folder of runs, or a trace file."""
    is_raw = run_of_raw(path) is not None
    if path.is_dir() or is_raw:
        from qwen3_profile.records.from_run import collect_raw  # for runs alone
    if path.is_dir():
        found = _read_runs(_runs_in(path), config, accept)
        if not found.groups:
            raise TraceError(str(path), f"holds no finished config{_numbered(config)}")
        return found
    if config is not None:
        raise ConfigError("--config", "goes with a run's folder, not with a trace file")
    if not path.exists():
        raise TraceError(str(path), "is not there", "give a run's folder or a trace file")
    records = collect_raw(path, accept) if is_raw else ()
    return Loaded(by_config(records or collect_trace(path, accept_damaged=accept)))


def _read_runs(folders: Sequence[Path], config: int | None, accept: bool) -> Loaded:
    from qwen3_profile.records.from_run import collect_config

    groups: list[tuple[TimingRecord, ...]] = []
    ranks: list[RankTrace] = []
    for folder in folders:
        run, left = read_run_and_left(folder)
        for each in left:
            warn(
                f"{folder}: {each.config.worker}, {each.phase}: rank 0 was ended; this is what the "
                "ranks had kept by then"
            )
        for result in run.configs:
            if not result.measurements or config not in (None, result.index):
                continue
            several = collect_ranks_of(folder, run, result, accept_damaged=accept)
            ranks += several
            alone = () if several else collect_config(folder, run, result, accept_damaged=accept)
            groups.append(several[0].records if several else alone)
    return Loaded(groups, run_ranks=tuple(ranks))


def collect_ranks_of(
    folder: Path, run: Run, result: ConfigResult, *, accept_damaged: bool = False
) -> tuple[RankTrace, ...]:
    """What the ranks of one config and phase of a run did; nothing where there was one process.

    Raises:
        TraceError: a trace is missing, or not that of the run.
        DamagedTraceError: a trace whose figures would be wrong.
    """
    if result.rank is None:
        return ()
    from qwen3_profile.attribution.collective_times import joined
    from qwen3_profile.passes.reading import sum_totals
    from qwen3_profile.records.from_run import read_config
    from qwen3_profile.records.ranks import RankTrace, with_splits

    group = f"{run.name} {result.config.worker} {result.phase}"
    measured = [each for each in result.of_all_ranks if each.measurements]
    found = []
    for each in measured:
        reading = read_config(folder, run, each, measured, accept_damaged=accept_damaged)
        found.append(
            RankTrace(
                folder / each.measurements[0].trace,
                each.rank or 0,
                run.ranks,
                sum_totals(reading.totals),
                reading.records,
                group,
                joined(reading.collectives),
            )
        )
    return with_splits(found)


def collect_trace(path: Path, *, accept_damaged: bool = False) -> tuple[TimingRecord, ...]:
    """The records of a trace that came without its run: one per forward pass, or one of all of it.

    Raises:
        TraceError: not a trace, or one without a range.
        DamagedTraceError: a trace whose figures would be wrong.
    """
    found = records_of(read(path, accept_damaged=accept_damaged))
    if not found:
        raise NoRangesError(
            str(path),
            "holds no labels of qwen3_profile, no nn.Module ranges and no other ranges",
            "--ledger FILE accounts for its device time",
        )
    return found


def find_pair(
    path: Path, *, config: int | None = None, capture: Path | None = None
) -> tuple[Path, Path] | None:
    """The trace of replays and that of their capture, as the caller or a folder with both names
    them; None where `path` is something else.

    Raises:
        ConfigError: `capture` or `config` of a folder or file that has none.
    """
    if capture is not None:
        if path.is_dir():
            raise ConfigError("--capture", "goes with one trace file", "give that of the replays")
        if config is not None:
            raise ConfigError("--config", "goes with a run's folder, not with a trace file")
        return path, capture
    if not path.is_dir() or find_runs(path):
        return None
    from qwen3_profile.passes.cuda_graphs.read import capture_pair
    from qwen3_profile.records.ranks import trace_files

    return capture_pair(trace_files(path))


def by_config(records: Sequence[TimingRecord]) -> list[tuple[TimingRecord, ...]]:
    """Records of one trace by model and phase, in the order in which these first ran."""
    groups: dict[tuple[int, str], list[TimingRecord]] = {}
    for record in records:
        groups.setdefault((record.config_index, record.phase), []).append(record)
    return [tuple(group) for group in groups.values()]


def _read_pair(replay: Path, capture: Path, accept: bool) -> tuple[TimingRecord, ...]:
    for file in (replay, capture):
        if not file.exists():
            raise TraceError(str(file), "is not there", "give the traces of replays and capture")
    return records_of(read(replay, Capture(capture), accept_damaged=accept))


def _read_ranks(path: Path, config: int | None, accept: bool) -> tuple[RankTrace, ...]:
    """The ranks in a folder of traces that is no run of ours and holds none; else nothing."""
    if not path.is_dir() or find_runs(path):
        return ()
    from qwen3_profile.records.ranks import collect_ranks, trace_files

    files = trace_files(path)
    if files and config is not None:
        raise ConfigError("--config", "goes with a run's folder, not with traces of ranks")
    return collect_ranks(files, accept_damaged=accept) if files else ()


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
