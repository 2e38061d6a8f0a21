"""`python -m qwen3_profile`: runs and traces what argv asks for, prints and saves it."""

from __future__ import annotations

from qwen3_profile.cli.start import run

if __name__ == "__main__":
    run()  # it imports this module, which takes a good part of a second, where it is needed

import contextlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from qwen3_profile.cli.console import (
    all_to_stderr,
    run_command,
    show,
    show_table,
)
from qwen3_profile.cli.progress import Progress
from qwen3_profile.cli.run_options import parse_arguments
from qwen3_profile.cli.sweeps import tell_sweeps
from qwen3_profile.config import Invocation
from qwen3_profile.errors import (
    EXIT_FAILED,
    EXIT_OK,
    ConfigError,
    DamagedTraceError,
    OutputError,
    ProfileError,
    report_error,
    tell,
    warn,
)
from qwen3_profile.records.from_run import collect_config
from qwen3_profile.records.load import collect_ranks_of
from qwen3_profile.records.record import TimingRecord
from qwen3_profile.records.store import check_json, drop_run, json_text, save_json
from qwen3_profile.run_folder.claim import Claim, Forget, claim_folder, has_traces
from qwen3_profile.run_folder.layout import REPORT_FILE
from qwen3_profile.run_folder.run_json import ConfigResult, Run, write_run
from qwen3_profile.system import signals
from qwen3_profile.system.collector import keep_all_objects
from qwen3_profile.system.files import make_folder, write_atomic
from qwen3_profile.system.launched import Launched, launched
from qwen3_profile.views.report.build import measured_config, render_page
from qwen3_profile.views.report.section_data import Config
from qwen3_profile.views.tensorboard.viewer_trace import write_viewer_trace
from qwen3_profile.views.terminal.comparisons import render_attention, render_executions
from qwen3_profile.views.terminal.configs import render_configs
from qwen3_profile.views.terminal.ranks import render_ranks
from qwen3_profile.views.terminal.run_lines import place_lines, plan_lines
from qwen3_profile.views.terminal.tables import render
from qwen3_profile.words import said
from qwen3_profile.words.cells import place

# Under which rank 0 tells the others where the run is.
_FOLDER = "folder"


@dataclass
class _Outcome:
    """What a run has come to so far.

    is_measured: its folder tells of a measured run, of which there are records.
    groups: the records of each config and phase, by its name; of several ranks the first one's.
    records: of all of them. shown: what the report shows of each config and phase.
    failed: a line for each config that failed.
    """

    is_measured: bool = False
    groups: dict[str, tuple[TimingRecord, ...]] = field(default_factory=dict)
    records: list[TimingRecord] = field(default_factory=list)
    shown: list[Config] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


def main(argv: Sequence[str] | None = None) -> int:
    """Profiles what argv asks for and returns the exit code."""
    given = sys.argv[1:] if argv is None else argv
    process = launched()
    if process is not None and process.rank:
        return run_command(lambda: _follow(given, process))
    return run_command(lambda: _profile_asked_for(parse_arguments(given), given, process))


def _profile_asked_for(
    invocation: Invocation, argv: Sequence[str], process: Launched | None
) -> int:
    if invocation.nvtx:
        return _run_with_nvtx(invocation)
    if invocation.num_processes > 1:
        return _profile_in_processes(invocation, argv)
    if invocation.prints_records:
        return _profile_and_print(invocation, argv, process)
    return _profile(invocation, argv, _Outcome(), process)


def _run_with_nvtx(invocation: Invocation) -> int:
    """Runs with the labels as NVTX ranges, for another profiler, and prints the passes' times."""
    with keep_all_objects():
        _import_libraries()
        from qwen3_profile.measure.nvtx import check_nvtx, nvtx_passes
        from qwen3_profile.measure.session import prepare

        check_nvtx(invocation)
        prepared = prepare(invocation)
    for line in prepared.warnings:
        warn(line)
    for each in nvtx_passes(invocation, prepared):
        line = f"{each.worker} {each.phase} run {each.run_index}: {each.wall_ns / 1e6:.3f} ms"
        show(said(line))
    return EXIT_OK


def _import_libraries() -> None:
    """torch and transformers, without what no forward pass needs."""
    from qwen3_profile.measure.model.transformers_compat import import_without_extras

    import_without_extras()


def _profile_in_processes(invocation: Invocation, argv: Sequence[str]) -> int:
    """Runs it all in several processes, and tells how much they differ."""
    from qwen3_profile.analysis.process_spread import spreads_of
    from qwen3_profile.cli.fresh_processes import Side, new_folder, run_in_turn
    from qwen3_profile.records.sides import load_side
    from qwen3_profile.views.terminal.process_spread import render_spreads

    check_json(invocation.records_path)
    if invocation.run_name is None:
        folder = new_folder(invocation.trace_dir, "processes")
    else:
        folder = invocation.trace_dir / invocation.run_name
    run_in_turn([Side("", tuple(argv), folder)], invocation.num_processes, tell)
    show(f"{render_spreads(spreads_of(load_side(folder), 0.05))}\n")
    show(place("traces   ", folder))
    show(place("records  ", invocation.records_path))
    return EXIT_OK


def _follow(argv: Sequence[str], process: Launched) -> int:
    """What the other ranks do: they measure beside rank 0, which keeps and shows all of it."""
    signals.told_elsewhere()
    try:
        invocation = parse_arguments(argv)
    except ConfigError as error:
        return error.exit_code  # rank 0 tells the same
    code = EXIT_OK
    try:
        with keep_all_objects():
            with signals.held():
                _import_libraries()
                from qwen3_profile.measure.session import prepare, run_configs

            prepared = prepare(invocation, process)
        ranks = prepared.ranks
        assert ranks is not None
        folder = Path(ranks.share(_FOLDER))
        if not folder.is_dir():
            raise OutputError(str(folder), "is not seen here", "ranks need a file system in common")
        for result in run_configs(invocation, prepared, folder, lambda _: None):
            if result.error and result.status != "interrupted":
                tell(f"error: rank {process.rank}: {result.error}")
            code = max(code, _exit_code(result))
        ranks.leave()
    except ProfileError as error:
        raise type(error)(f"rank {process.rank}: {error.where}", error.what, error.do) from error
    return code


def _profile_and_print(
    invocation: Invocation, argv: Sequence[str], process: Launched | None
) -> int:
    """Profiles, and prints the records to stdout in place of keeping them; all else to stderr."""
    outcome = _Outcome()
    with all_to_stderr():
        code = _profile(invocation, argv, outcome, process)
    show(json_text(outcome.records).decode().rstrip("\n"))
    return code


def _profile(
    invocation: Invocation, argv: Sequence[str], outcome: _Outcome, process: Launched | None
) -> int:
    forget: Forget = str  # of records that are printed none is kept
    if not invocation.prints_records:
        make_folder(invocation.output_dir)
        check_json(invocation.records_path)
        forget = partial(drop_run, invocation.records_path)
    codes: list[int] = []
    # A signal between the making of the folder and the block would leave the folder for ever.
    with signals.noted():
        claim = claim_folder(
            invocation.trace_dir, invocation.run_name, force=invocation.force, forget=forget
        )
        try:
            with signals.allowed():
                codes.extend(_run(invocation, claim, argv, outcome, process))
        finally:
            # A run that replaces another has to be of more use than it.
            kept = outcome.is_measured or (not claim.replaces and has_traces(claim.folder))
            with _told(codes):
                (claim.commit if kept else claim.roll_back)()
    signals.obey()
    if kept:
        show(place_lines(invocation, claim.place))
    if len(invocation.configs) > 1:  # what was told before it stands far above
        for line in outcome.failed:
            tell(line)
    return max(codes)


def _run(
    invocation: Invocation,
    claim: Claim,
    argv: Sequence[str],
    outcome: _Outcome,
    process: Launched | None,
) -> Iterator[int]:
    """Runs, saves and shows each config; yields its exit code."""
    # torch and transformers take seconds to import: only once all that can be refused is. Looking
    # for garbage among what they make and keep would take a fifth of that.
    progress = Progress()
    progress.step("import of torch")
    with keep_all_objects():
        with signals.held():  # what breaks off an import of C code may crash it
            _import_libraries()
            from qwen3_profile.measure.session import (
                add_result,
                plan_of,
                prepare,
                run_configs,
                start_run,
                steps_of,
            )

        prepared = prepare(invocation, process, progress.step)
    progress.pause()
    if prepared.ranks is not None:
        prepared.ranks.share(_FOLDER, str(claim.folder.absolute()))
    for line in prepared.warnings:
        warn(line)
    run = start_run(invocation, prepared, claim.place, argv)
    write_run(claim.folder, run)
    untold: list[int] = []
    with _told(untold):
        loaded, device = prepared.loaded, str(prepared.device)
        plan = plan_lines(loaded.name, device, prepared.configs, *plan_of(prepared))
        show_table(f"{plan}\n")
    yield from untold
    progress.total = 3 + steps_of(prepared) + len(prepared.configs)
    for result in run_configs(invocation, prepared, claim.folder, progress.step):
        if result.phase != "decode":  # a config's second result
            progress.step(f"{result.worker}: tables and report")
        progress.pause()
        with signals.held():
            run = add_result(run, result)
            run, code = _save(invocation, claim.folder, run, result, outcome)
        if result.status == "failed" and result.error:  # the first phase's, where both failed
            outcome.failed.append(f"failed: {result.error}")
        yield code
    if prepared.ranks is not None:
        prepared.ranks.leave()
    with _told(untold):
        _finish(invocation, claim.folder, outcome)
    progress.close()
    yield from untold


def _finish(invocation: Invocation, folder: Path, outcome: _Outcome) -> None:
    """What is said and kept of all configs together."""
    groups = [*outcome.groups.values()]
    compared = (render_attention(groups), render_executions(groups))
    sweeps = tell_sweeps(groups, None if invocation.prints_records else invocation.records_path)
    # The summary last: who has measured many configs reads from the end.
    for text in filter(None, (*compared, *sweeps, render_configs(groups))):
        show_table(f"{text}\n")
    if groups:
        from qwen3_profile.views.tensorboard.own_tabs import write_settings

        write_settings(folder, outcome.groups)


def _save(
    invocation: Invocation,
    folder: Path,
    run: Run,
    result: ConfigResult,
    outcome: _Outcome,
) -> tuple[Run, int]:
    """Keeps what one config gave: run.json, records, tables, the report, the trace for viewers.

    `outcome` is told of it. What cannot be kept is told, and does not stop the rest. Returns the
    run with the trace for viewers in it, and the exit code.
    """
    codes = [_exit_code(result)]
    if result.error:
        tell(f"error: {result.error}")
        # That torchrun then ends this rank, too, is no news.
        (signals.told if run.ranks == 1 else signals.told_elsewhere)()
    with _told(codes):
        write_run(folder, run)
        outcome.is_measured |= bool(result.measurements)
    if not result.measurements:
        return run, max(codes)
    with _told(codes):
        ranks = collect_ranks_of(folder, run, result)
        records = ranks[0].records if ranks else collect_config(folder, run, result)
        outcome.groups[result.worker] = records
        everyone = [each for rank in ranks for each in rank.records] or records
        outcome.records += everyone
        if not invocation.prints_records:
            with _told(codes):
                save_json(invocation.records_path, everyone)
        show_table(f"{render(records)}\n")
        if ranks:
            show_table(f"{render_ranks(ranks)}\n")
        with _told(codes):
            # Only who has measured something waits for it to be imported.
            from qwen3_profile.views.tensorboard.own_tabs import write_curves

            write_curves(folder, result.worker, records)
        with _told(codes):
            outcome.shown.append(measured_config(folder, run, records, ranks))
            write_atomic(folder / REPORT_FILE, render_page(outcome.shown).encode())
    with _told(codes):
        run = _write_viewer_trace(folder, run, result)
    return run, max(codes)


def _exit_code(result: ConfigResult) -> int:
    if result.status == "interrupted":
        return signals.exit_code()
    return EXIT_OK if result.status == "done" else EXIT_FAILED


@contextlib.contextmanager
def _told(codes: list[int]) -> Iterator[None]:
    """Tells an error of the block and notes its exit code; what comes after goes on."""
    try:
        yield
    except ProfileError as error:
        code = report_error(error)
        codes.append(code if isinstance(error, DamagedTraceError) else EXIT_FAILED)


def _write_viewer_trace(folder: Path, run: Run, result: ConfigResult) -> Run:
    """The trace that TensorBoard and Perfetto show; the run, with the trace's name in it."""
    shown = write_viewer_trace(folder, result)
    run = replace(run, configs=tuple(shown if r is result else r for r in run.configs))
    write_run(folder, run)
    return run
