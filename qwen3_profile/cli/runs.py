"""`qwen3-profile list` and `rm`: the runs of a folder, and their end. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

from qwen3_profile.cli.console import run_command, show, show_table
from qwen3_profile.cli.runs_options import ListRequest, RemoveRequest, list_request, removal
from qwen3_profile.errors import EXIT_OK, ConfigError, TraceError, report_error, tell
from qwen3_profile.records.store import drop_run
from qwen3_profile.run_folder.claim import remove_run
from qwen3_profile.run_folder.layout import find_runs
from qwen3_profile.run_folder.run_json import Run, read_run
from qwen3_profile.words import said
from qwen3_profile.words.cells import place


def list_runs(argv: Sequence[str]) -> int:
    """Shows the runs below a folder, and returns the exit code."""
    return run_command(lambda: _list(list_request(argv)))


def remove_runs(argv: Sequence[str]) -> int:
    """Deletes the runs that argv names with their records, and returns the exit code."""
    return run_command(lambda: _remove(removal(argv)))


def _list(request: ListRequest) -> int:
    folder = request.folder
    if not folder.is_dir():
        raise ConfigError(str(folder), "is not a folder", "give the folder of the runs")
    codes: list[int] = [EXIT_OK]
    runs = list(_readable(find_runs(folder), codes))
    if request.format == "json":
        from qwen3_profile.views.run_list_json import runs_json

        show(runs_json(runs))
        return max(codes)
    from qwen3_profile.views.terminal.run_list import render_runs

    show(render_runs(runs) if runs else said(f"no runs in {folder}"))
    return max(codes)


def _readable(folders: Iterable[Path], codes: list[int]) -> Iterator[Run]:
    """Those that can be read; of each other one a line is printed, and its exit code kept."""
    for folder in folders:
        try:
            yield read_run(folder)
        except TraceError as error:
            codes.append(report_error(error))


def _remove(request: RemoveRequest) -> int:
    path = request.records_path
    for folder in request.folders:
        dropped: list[bool] = []
        remove_run(folder, partial(_forget, path, dropped))
        show_table(place("removed  ", folder))
        if not any(dropped):
            tell(
                f"{folder}: {path} has no records of it; --output-dir names another folder of them"
            )
    return EXIT_OK


def _forget(path: Path, dropped: list[bool], run_id: str) -> None:
    dropped.append(drop_run(path, run_id))
