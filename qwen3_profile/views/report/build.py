"""Builds the report on records, from them and the place that they were read from.

    page = build_report(Path("traces/run1"), read_saved(Path("traces/run1")))

A run that is being measured adds its configs one by one, and asks for the page after each:

    configs.append(measured_config(folder, run, records))
    page = render_page(configs)
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from qwen3_profile.analysis.median_pass import shown_record
from qwen3_profile.errors import TraceError
from qwen3_profile.passes.cuda_graphs.read import attribute_replays, read_captured
from qwen3_profile.passes.labelled import attribute_measured
from qwen3_profile.records.load import by_config, find_runs
from qwen3_profile.records.ranks import RankTrace
from qwen3_profile.records.record import TimingRecord
from qwen3_profile.run_folder.layout import RAW_FOLDER, REPORT_FILE, RUN_FILE
from qwen3_profile.run_folder.run_json import (
    ConfigResult,
    Measurement,
    Run,
    read_run,
)
from qwen3_profile.trace import read_trace
from qwen3_profile.views.report.page import render_page
from qwen3_profile.views.report.section_data import Config, gather
from qwen3_profile.views.report.shown_pass import read_shown_pass, shown_pass

Group = Sequence[TimingRecord]


def build_report(path: Path, groups: Sequence[Group]) -> str:
    """The page on what `read_saved(path)` gave.

    Raises:
        TraceError: a raw trace is no longer what it was when the records were made.
        OutputError: there are too many configs for one page.
    """
    runs = [(folder, read_run(folder)) for folder in _runs_of(path)]
    configs = []
    for group in groups:
        shown = shown_record(group)
        of_run = next(((f, run) for f, run in runs if shown.id.startswith(f"{run.id}-c")), None)
        if of_run is not None:
            configs.append(measured_config(*of_run, group))
        else:
            configs.append(gather(group, read_shown_pass(path, shown)))
    return render_page(configs)


def build_rank_report(ranks: Sequence[RankTrace]) -> str:
    """The page on the ranks of a distributed run, which can be chosen one by one."""
    configs = [
        gather(group, read_shown_pass(rank.path, shown_record(group)))
        for rank in ranks
        for group in by_config(rank.records)
    ]
    return render_page(configs)


def build_replay_report(
    path: Path, capture: Path, groups: Sequence[Group], *, accept_damaged: bool = False
) -> str:
    """The page on what `read_replays(path, capture)` gave."""
    captured = read_captured(capture, accept_damaged=accept_damaged)
    attributed = attribute_replays(path, read_trace(path, accept_damaged=True), captured)
    shown = (shown_record(group) for group in groups)
    configs = [
        gather(group, shown_pass(path, record, *attributed))
        for group, record in zip(groups, shown, strict=True)
    ]
    return render_page(configs)


def measured_config(folder: Path, run: Run, records: Group) -> Config:
    """One config of a run, with what the raw trace of the pass that is shown adds."""
    shown = shown_record(records)
    result, measurement = _measurement_of(run, shown)
    attributed = attribute_measured(folder, result, measurement)
    return gather(records, shown_pass(folder / measurement.trace, shown, *attributed))


def report_path(path: Path) -> Path:
    """Where the report on what lies at `path` goes, where nobody says it: next to the traces of a
    folder, and of a standalone file into the present folder.
    """
    if path.is_dir():
        return path / REPORT_FILE
    runs = _runs_of(path)
    if runs:
        return runs[0] / REPORT_FILE
    name = path.name.removesuffix(".gz").removesuffix(".json")
    return Path(f"{name}.{REPORT_FILE}")


def _runs_of(path: Path) -> list[Path]:
    """The runs that records from `path` may be of: of a raw trace, the run that it lies in."""
    if path.is_dir():
        return find_runs(path)
    folder = path.resolve().parent.parent
    inside = path.resolve().parent.name == RAW_FOLDER and (folder / RUN_FILE).is_file()
    return [folder] if inside else []


def _measurement_of(run: Run, record: TimingRecord) -> tuple[ConfigResult, Measurement]:
    """What a run says of one forward pass that it measured."""
    position = record.traced[0].position if record.traced else 0
    for result in run.configs:
        if result.index == record.config_index and result.phase == record.phase:
            for each in result.measurements:
                if (each.run_index, each.position) == (record.run_index, position):
                    return result, each
    raise TraceError(run.name, f"has no trace of {record.id}", "record the run again")
