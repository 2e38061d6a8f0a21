"""Builds the report on records, from them and the place that they were read from.

    page = build_report(Path("traces/run1"), load(Path("traces/run1")))

A run that is being measured adds its configs one by one, and asks for the page after each:

    configs.append(measured_config(folder, run, records))
    page = render_page(configs)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from qwen3_profile.analysis.median_pass import shown_record
from qwen3_profile.analysis.rank_imbalance import chosen_ranks
from qwen3_profile.errors import OutputError, TraceError
from qwen3_profile.passes.known import Capture, MeasuredConfig
from qwen3_profile.passes.read import Needs, read
from qwen3_profile.passes.reading import Reading
from qwen3_profile.records.load import Loaded, by_config
from qwen3_profile.records.ranks import RankTrace
from qwen3_profile.records.record import TimingRecord
from qwen3_profile.run_folder.layout import (
    REPORT_FILE,
    find_runs,
    run_of_raw,
    without_suffix,
)
from qwen3_profile.run_folder.run_json import ConfigResult, Measurement, Run, read_run
from qwen3_profile.views.report.page import fill_page
from qwen3_profile.views.report.page_json import document
from qwen3_profile.views.report.rank_view import RankPasses, groups_of, passes_of_ranks, rank_view
from qwen3_profile.views.report.section_data import Config, gather
from qwen3_profile.views.report.shown_pass import read_shown_pass, shown_pass
from qwen3_profile.views.report.timeline import Bars
from qwen3_profile.words import asked_language

Group = Sequence[TimingRecord]
# A config's index, and what it ran.
Phase = tuple[int, str]

MOST_BYTES = 6_000_000
_MOST_RANKS = 8
# Tried one after the other until the page is small enough.
_BARS = (60_000, 24_000, 8_000, 2_000)


def build_report(path: Path, loaded: Loaded) -> str:
    """The page on what `load(path)` gave; ranks can be chosen one by one, of many some.

    Raises:
        TraceError: a raw trace is no longer what it was when the records were made.
        OutputError: there are too many configs for one page.
    """
    if loaded.pair is not None:
        return render_page(_replayed_configs(*loaded.pair, loaded.groups))
    if loaded.ranks:
        return render_page(_rank_configs(loaded.ranks))
    runs = [(folder, read_run(folder)) for folder in _runs_of(path)]
    return render_page([_config(path, runs, group, loaded.run_ranks) for group in loaded.groups])


def _config(
    path: Path,
    runs: Sequence[tuple[Path, Run]],
    group: Group,
    ranks: Sequence[RankTrace],
) -> Config:
    """What the page shows of a group of records, which may be of one of the runs."""
    shown = shown_record(group)
    for folder, run in runs:
        if shown.id.startswith(f"{run.id}-c"):
            mine = [rank for rank in ranks if rank.records[0].id.startswith(f"{run.id}-c")]
            return measured_config(folder, run, group, mine)
    return gather(group, read_shown_pass(path, shown))


def _rank_configs(ranks: Sequence[RankTrace]) -> list[Config]:
    shown = chosen_ranks(ranks, _MOST_RANKS)
    told: tuple[str, ...] = ()
    if len(shown) < len(ranks):
        told = (
            f"this page shows {len(shown)} of {len(ranks)} traces of ranks, from the least to the "
            "most time in collectives; the tables in the terminal and the records are of all",
        )
    passes = _passes_of_groups(ranks)
    found: list[tuple[tuple[str, Phase], Config]] = []
    works: dict[tuple[str, Phase], dict[int, Bars]] = {key: {} for key in passes}
    for rank in ranks:
        needed = [(key, each.lined_at(rank)) for key, each in passes.items()]
        lined = [(key, at) for key, at in needed if at is not None]
        if not lined and rank not in shown:
            continue
        # Once for all that is shown of it, and no longer there when the next one is read.
        reading = _read_again(rank.path)
        for key, at in lined:
            works[key][at] = passes[key].work(at, reading)
        for group in by_config(rank.records) if rank in shown else ():
            trace = shown_pass(reading, shown_record(group))
            key = (rank.group, _phase_of(group[0]))
            found.append((key, gather(_told(group, told), trace)))
    views = {key: rank_view(each, works[key]) for key, each in passes.items()}
    return [replace(config, ranks=views.get(key)) for key, config in found]


def _passes_of_groups(ranks: Sequence[RankTrace]) -> dict[tuple[str, Phase], RankPasses]:
    """Of each group and phase the same pass on all of its ranks."""
    found = {
        (mine[0].group, phase): passes_of_ranks(mine, phase)
        for mine in groups_of(ranks)
        for phase in dict.fromkeys(_phase_of(each) for one in mine for each in one.records)
    }
    return {key: each for key, each in found.items() if each is not None}


def _phase_of(record: TimingRecord) -> Phase:
    return record.config_index, record.phase


def _read_again(path: Path, known: MeasuredConfig | None = None) -> Reading:
    # What is damaged was refused, or accepted, when the records were made.
    return read(path, known, accept_damaged=True, needs=Needs.OPERATORS)


def _told(group: Group, lines: tuple[str, ...]) -> Group:
    """The records with more warnings."""
    return [
        replace(each, facts=replace(each.facts, warnings=(*lines, *each.facts.warnings)))
        for each in group
    ]


def _replayed_configs(path: Path, capture: Path, groups: Sequence[Group]) -> list[Config]:
    # What is damaged was refused, or accepted, when the records were made.
    reading = read(path, Capture(capture), accept_damaged=True, needs=Needs.OPERATORS)
    return [gather(group, shown_pass(reading, shown_record(group))) for group in groups]


def measured_config(
    folder: Path, run: Run, records: Group, ranks: Sequence[RankTrace] = ()
) -> Config:
    """One config of a run, with what the raw trace of the pass that is shown adds.

    Args:
        ranks: what each rank did, where there are several.
    """
    shown = shown_record(records)
    result, measurement = _measurement_of(run, shown)
    path = folder / measurement.trace
    reading = _read_again(path, MeasuredConfig(folder, result))
    config = gather(records, shown_pass(reading, shown))
    mine = [each for each in ranks if _phase_of(each.records[0]) == _phase_of(shown)]
    passes = passes_of_ranks(mine, _phase_of(shown)) if len(mine) > 1 else None
    if passes is None:
        return config
    works = {}
    for at in passes.lined:
        result, measurement = _measurement_of(run, passes.passes[at], passes.ranks[at].rank)
        trace = folder / measurement.trace
        known = MeasuredConfig(folder, result)
        works[at] = passes.work(at, reading if trace == path else _read_again(trace, known))
    return replace(config, ranks=rank_view(passes, works))


def render_page(configs: Sequence[Config], start: str = "") -> str:
    """The whole page.

    Args:
        configs: in the order in which they can be chosen, at least one.
        start: the section that is shown first.

    Raises:
        OutputError: they are too many for one page.
    """
    for bars in _BARS:
        page = fill_page(document(configs, bars), start, asked_language())
        if len(page.encode()) < MOST_BYTES:
            return page
    raise OutputError(
        "the report", f"of {len(configs)} configs does not fit one page",
        "give one run's folder, or one config with --config",
    )  # fmt: skip


def report_path(path: Path, folder: Path) -> Path:
    """Where the report on what lies at `path` goes, where nobody says it: next to the traces of a
    folder, and of a standalone file into `folder`.
    """
    if path.is_dir():
        return path / REPORT_FILE
    runs = _runs_of(path)
    if runs:
        return runs[0] / REPORT_FILE
    return folder / f"{without_suffix(path.name)}.{REPORT_FILE}"


def _runs_of(path: Path) -> list[Path]:
    """The runs that records from `path` may be of: of a raw trace, the run that it lies in."""
    if path.is_dir():
        return find_runs(path)
    folder = run_of_raw(path)
    return [] if folder is None else [folder]


def _measurement_of(
    run: Run, record: TimingRecord, rank: int | None = None
) -> tuple[ConfigResult, Measurement]:
    """What a run says of one forward pass that it measured, on a rank or on the first one."""
    position = record.traced[0].position if record.traced else 0
    for result in (each for config in run.configs for each in config.of_all_ranks):
        is_its = (result.index, result.phase) == (record.config_index, record.phase)
        if is_its and rank in (None, result.rank):
            for each in result.measurements:
                if (each.run_index, each.position) == (record.run_index, position):
                    return result, each
    raise TraceError(run.name, f"has no trace of {record.id}", "record the run again")
