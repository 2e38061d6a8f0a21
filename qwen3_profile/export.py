"""`python -m qwen3_profile.export PATH`: records and tables of a saved run or trace. No torch.

Where a small trace is read in a tenth of a second, imports are what takes the time: each of the
things that this can make imports what it needs, when it is made.
"""

from __future__ import annotations

from qwen3_profile.cli import start

if __name__ == "__main__":
    start.export()  # it imports this module, once signals are seen to

import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from qwen3_profile.cli.console import (
    all_to_stderr,
    run_command,
    show,
    show_table,
)
from qwen3_profile.errors import EXIT_OK, ConfigError, OutputError
from qwen3_profile.system import signals
from qwen3_profile.system.collector import keep_all_objects
from qwen3_profile.system.files import is_special, make_folder, write_atomic
from qwen3_profile.words import said
from qwen3_profile.words.cells import place

if TYPE_CHECKING:
    from qwen3_profile.cli.export_options import ExportRequest
    from qwen3_profile.records.load import Loaded
    from qwen3_profile.records.record import TimingRecord


def main(argv: Sequence[str] | None = None) -> int:
    """Exports what argv names and returns the exit code."""
    # numpy's linear algebra starts a thread per core; nothing here multiplies matrices.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    with keep_all_objects():
        return run_command(lambda: _export_asked_for(argv))


def view(argv: Sequence[str]) -> int:
    """Shows what argv names in a browser until Ctrl-C, and returns the exit code."""
    from qwen3_profile.cli.export_options import parse_view

    return run_command(lambda: _view(parse_view(argv)))


def _export_asked_for(argv: Sequence[str] | None) -> int:
    with signals.held():  # it imports numpy: what breaks off an import of C code may crash it
        from qwen3_profile.cli.export_options import parse_arguments

    options = parse_arguments(argv)
    if options.url is None or options.engine is not None:
        return _export(options)
    from qwen3_profile.system.remote import fetched

    with fetched(options.url) as path:
        return _export(replace(options, path=path))


def _export(options: ExportRequest) -> int:
    if options.view:
        return _view(options)
    if options.ledger is not None:
        return _export_ledger(options, options.ledger)
    if options.explain is not None:
        return _explain(options, options.explain)
    if options.format == "parquet":
        from qwen3_profile.records.long_form import check_parquet as check
        from qwen3_profile.records.long_form import save_parquet as save
    elif options.format == "csv":
        from qwen3_profile.records.csv_table import check_csv as check
        from qwen3_profile.records.csv_table import save_csv as save
    else:
        from qwen3_profile.records.store import check_json as check
        from qwen3_profile.records.store import save_json as save
    loaded = _load(options)
    groups = loaded.groups
    path = options.records_path
    if options.prints_records:
        return _print_records(options, loaded)
    _make_place(path.parent)
    check(path)
    _show_tables(loaded)
    if not groups:
        return EXIT_OK
    if loaded.run_ranks:
        from qwen3_profile.views.terminal.rank_scaling import render_scaling

        scaling = render_scaling(loaded.records)
        if scaling:
            show_table(f"{scaling}\n")
    save(path, loaded.records)
    _show_all_configs(loaded, path)
    show(place("records  ", path))
    if options.report is not None:
        _write_report(options, loaded)
    return EXIT_OK


def _show_tables(loaded: Loaded) -> None:
    groups = loaded.groups
    if not loaded.ranks:
        for text in (*_tables(groups), *_comparisons(groups), *_warnings(groups)):
            show_table(f"{text}\n")
    ranks = loaded.ranks or loaded.run_ranks
    if ranks:
        from qwen3_profile.views.terminal.ranks import render_ranks

        show_table(f"{render_ranks(ranks)}\n")


def _show_all_configs(loaded: Loaded, path: Path | None) -> None:
    """The sweeps, and last the table of all configs: who has many of them reads from the end."""
    groups = loaded.groups
    if len(groups) < 2:
        return
    from qwen3_profile.cli.sweeps import tell_sweeps
    from qwen3_profile.views.terminal.configs import render_configs

    for text in tell_sweeps(groups, path):
        show_table(f"{text}\n")
    if not loaded.ranks:
        show_table(f"{render_configs(groups)}\n")


def _print_records(options: ExportRequest, loaded: Loaded) -> int:
    """The records to stdout, and all else that is printed to stderr."""
    from qwen3_profile.records.csv_table import csv_text
    from qwen3_profile.records.store import json_text

    with all_to_stderr():
        _show_tables(loaded)
        _show_all_configs(loaded, None)
        if options.report is not None:
            _write_report(options, loaded)
    text = csv_text if options.format == "csv" else json_text
    show(text(loaded.records).decode().rstrip("\n"))
    return EXIT_OK


def _make_place(folder: Path) -> None:
    try:
        make_folder(folder)
    except OutputError as error:
        raise OutputError(error.where, error.what, "give a folder as --output-dir") from error


def _warnings(groups: Sequence[Sequence[TimingRecord]]) -> Iterator[str]:
    """What was told when the runs ran, which is not of now."""
    told = dict.fromkeys(line for group in groups for line in group[0].facts.warnings)
    if told:
        from qwen3_profile.views.terminal.cells import wrap

        head = said("warnings when it ran:")
        yield "\n".join((head, *(wrap(f"- {said(line)}") for line in told)))


def _load(options: ExportRequest) -> Loaded:
    from qwen3_profile.records.load import load

    if options.engine is not None:
        return _load_by_engine(options, options.engine)
    return load(
        options.path,
        config=options.config,
        capture=options.capture,
        accept=options.accept_damaged,
    )


def _load_by_engine(options: ExportRequest, engine: str) -> Loaded:
    """The traces of ranks, each read by a worker of a cluster, which opens its URL itself."""
    from qwen3_profile.records.load import load_ranks
    from qwen3_profile.system.engines import engine_executor

    with engine_executor(engine, options.engine_address) as executor:
        place = options.url or options.path.absolute()
        return load_ranks(place, executor, accept=options.accept_damaged)


def _explain(options: ExportRequest, form: str) -> int:
    from qwen3_profile.analysis.explain import explain
    from qwen3_profile.views.terminal.explain import explanation_json, render_explanations

    found = [explain(records) for records in _load(options).groups]
    if form == "json":
        show(explanation_json(found))
    else:
        show(render_explanations(found))
    return EXIT_OK


def _comparisons(groups: Sequence[Sequence[TimingRecord]]) -> Iterator[str]:
    """The tables of configs that differ in one thing only."""
    if len(groups) < 2:
        return
    from qwen3_profile.views.terminal.comparisons import render_attention, render_executions

    yield from filter(None, (render_attention(groups), render_executions(groups)))


def _tables(groups: Sequence[Sequence[TimingRecord]]) -> Iterator[str]:
    """The tables of each config; of several runs, each below its run's name."""
    from qwen3_profile.views.terminal.tables import render

    runs = [group[0].facts.run for group in groups]
    shown = runs[0] if len(set(runs)) == 1 else None
    for run, group in zip(runs, groups, strict=True):
        if run != shown:
            yield f"=== {run} ==="
            shown = run
        yield render(group)


def _write_report(options: ExportRequest, loaded: Loaded) -> None:
    # Only who wants the page waits for its code.
    from qwen3_profile.views.report import build

    file = (
        Path(options.report)
        if options.report
        else build.report_path(options.path, options.records_path.parent)
    )
    page = build.build_report(options.path, loaded)
    make_folder(file.parent)
    write_atomic(file, page.encode())
    show(place("report   ", file))


def _export_ledger(options: ExportRequest, file: Path) -> int:
    from qwen3_profile.records.load import find_pair

    pair = find_pair(options.path, config=options.config, capture=options.capture)
    path, capture = pair or (options.path, None)
    if path.is_dir():
        raise ConfigError("--ledger", "goes with one trace file", "give a file of the folder")
    if options.config is not None:
        raise ConfigError("--config", "goes with a run's folder, not with --ledger")
    from qwen3_profile.attribution.findings import refuse_damage
    from qwen3_profile.attribution.selection import read_asked_for
    from qwen3_profile.records.ledger import make_ledger, make_long_ledger
    from qwen3_profile.views.terminal.ledger import render_ledger

    accept, scopes = options.accept_damaged, options.scopes
    if capture is not None:
        from qwen3_profile.passes.cuda_graphs.read import ledger_of_replays
        from qwen3_profile.trace import read_trace

        trace = read_trace(path, accept_damaged=accept, launch_columns=True)
        reassign = ledger_of_replays(path, trace, capture, scopes, accept_damaged=accept)
        ledger = make_ledger(trace, scopes, reassign, kernels=options.kernels)
    else:
        recording = read_asked_for(path, accept_damaged=accept)
        ledger = make_long_ledger(recording, scopes, kernels=options.kernels)
    if not accept:
        refuse_damage(ledger.info.path, ledger.findings)
    if not is_special(file):
        make_folder(file.parent)
    write_atomic(file, ledger.to_bytes())
    show_table(f"{render_ledger(ledger)}\n")
    show(place("ledger  ", file))
    return EXIT_OK


def _view(options: ExportRequest) -> int:
    # Python's web server takes a tenth of the start, and only this needs it.
    from qwen3_profile.views.serve.server import ViewServer
    from qwen3_profile.views.serve.site import site_of

    with ViewServer(site_of(options.path), options.port or 0) as server:
        for head, where in server.places():
            show(place(head, where))
        show(said("Ctrl-C ends this"))
        try:
            server.serve_forever()
        except signals.Stopped as stopped:
            if stopped.number != signal.SIGINT:
                raise
            signals.take(stopped)
    return EXIT_OK
