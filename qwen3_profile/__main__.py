"""`python -m qwen3_profile`: runs and traces what argv asks for, prints and saves it."""

from __future__ import annotations

from qwen3_profile.cli.start import run

if __name__ == "__main__":
    run()  # it imports this module, which takes a good part of a second, where it is needed

import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from qwen3_profile.analysis.layer_times import layer_blocks
from qwen3_profile.analysis.median_pass import median_record
from qwen3_profile.cli.console import keep_all_objects, run_command, show, show_table
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
from qwen3_profile.records.store import check_json, drop_run, save_json
from qwen3_profile.run_folder.claim import Claim, claim_folder, has_traces
from qwen3_profile.run_folder.layout import REPORT_FILE, SUMMARY_FILE
from qwen3_profile.run_folder.run_json import ConfigResult, Run, write_run
from qwen3_profile.system import signals
from qwen3_profile.system.files import make_folder, write_atomic
from qwen3_profile.system.launched import Launched, launched
from qwen3_profile.views.report.build import measured_config, render_page
from qwen3_profile.views.report.section_data import Config
from qwen3_profile.views.tensorboard.viewer_trace import write_viewer_trace
from qwen3_profile.views.terminal.cells import wrap
from qwen3_profile.views.terminal.comparisons import render_attention, render_executions
from qwen3_profile.views.terminal.configs import render_configs
from qwen3_profile.views.terminal.ranks import render_ranks
from qwen3_profile.views.terminal.tables import render

if TYPE_CHECKING:
    from qwen3_profile.measure.session import Prepared

# Under which rank 0 tells the others where the run is.
_FOLDER = "folder"


@dataclass
class _Outcome:
    """What a run has come to so far.

    is_measured: its folder tells of a measured run, of which there are records.
    groups: the records of each config and phase; shown: what the report shows of each.
    failed: a line for each config that failed.
    """

    is_measured: bool = False
    groups: list[tuple[TimingRecord, ...]] = field(default_factory=list)
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
    return _profile(invocation, argv, process)


def _run_with_nvtx(invocation: Invocation) -> int:
    """Runs with the labels as NVTX ranges, for another profiler, and prints the passes' times."""
    with keep_all_objects():
        from qwen3_profile.measure.nvtx import check_nvtx, nvtx_passes
        from qwen3_profile.measure.session import prepare

        check_nvtx(invocation)
        prepared = prepare(invocation)
    for line in prepared.warnings:
        warn(line)
    for each in nvtx_passes(invocation, prepared):
        show(f"{each.worker} {each.phase} run {each.run_index}: {each.wall_ns / 1e6:.3f} ms")
    return EXIT_OK


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
    show(f"traces   {folder}\nrecords  {invocation.records_path}")
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


def _profile(invocation: Invocation, argv: Sequence[str], process: Launched | None = None) -> int:
    make_folder(invocation.output_dir)
    check_json(invocation.records_path)
    claim = claim_folder(
        invocation.trace_dir,
        invocation.run_name,
        force=invocation.force,
        forget=partial(drop_run, invocation.records_path),
    )
    codes: list[int] = []
    outcome = _Outcome()
    try:
        codes.extend(_run(invocation, claim, argv, outcome, process))
    finally:
        # A run that replaces another has to be of more use than it.
        kept = outcome.is_measured or (not claim.replaces and has_traces(claim.folder))
        with _told(codes), signals.held():
            (claim.commit if kept else claim.roll_back)()
    if kept:
        show(_places(invocation, claim.place))
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
        from qwen3_profile.measure.session import (
            add_result,
            plan_of,
            prepare,
            run_configs,
            start_run,
            steps_of,
        )

        progress.step("model")
        prepared = prepare(invocation, process)
    progress.pause()
    if prepared.ranks is not None:
        prepared.ranks.share(_FOLDER, str(claim.folder.absolute()))
    for line in prepared.warnings:
        warn(line)
    run = start_run(invocation, prepared, claim.place, argv)
    write_run(claim.folder, run)
    groups = outcome.groups
    untold: list[int] = []
    with _told(untold):
        show_table(f"{_plan(prepared, *plan_of(prepared))}\n")
    yield from untold
    progress.total = 2 + steps_of(prepared) + len(prepared.configs)
    for result in run_configs(invocation, prepared, claim.folder, progress.step):
        if result.phase != "decode":  # a config's second result
            progress.step(f"{result.worker}: tables and report")
        progress.pause()
        with signals.held():
            run = add_result(run, result)
            run, code = _save(invocation, claim.folder, run, result, outcome)
        if result.status == "failed":
            outcome.failed.append(f"failed: {result.worker} {result.phase}: {result.error}")
        yield code
    if prepared.ranks is not None:
        prepared.ranks.leave()
    compared = (render_attention(groups), render_executions(groups), render_configs(groups))
    sweeps = tell_sweeps(groups, invocation.records_path)
    for text in filter(None, (*compared, *sweeps)):
        show_table(f"{text}\n")
    progress.close()


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
        signals.told()
    with _told(codes):
        write_run(folder, run)
        outcome.is_measured |= bool(result.measurements)
    if not result.measurements:
        return run, max(codes)
    with _told(codes):
        ranks = collect_ranks_of(folder, run, result)
        records = ranks[0].records if ranks else collect_config(folder, run, result)
        outcome.groups.append(records)
        everyone = [each for rank in ranks for each in rank.records] or records
        with _told(codes):
            save_json(invocation.records_path, everyone)
        show_table(f"{render(records)}\n")
        if ranks:
            show_table(f"{render_ranks(ranks)}\n")
        with _told(codes):
            _write_curves(invocation, folder, result, records)
        with _told(codes):
            outcome.shown.append(measured_config(folder, run, records))
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


def _write_curves(
    invocation: Invocation, folder: Path, result: ConfigResult, records: Sequence[TimingRecord]
) -> None:
    """Times by layer and the tables, for TensorBoard's own tabs, which need no network."""
    # Protocol buffers take a third of a second to import, which only this needs.
    from qwen3_profile.views.tensorboard.event_files import write_scalars
    from qwen3_profile.views.tensorboard.hparams import session_of
    from qwen3_profile.views.tensorboard.markdown import render_markdown

    shown = median_record(records)
    alone = len(invocation.configs) == 1 and not result.config.decode_steps
    write_scalars(
        folder,
        layer_blocks(shown.times.forward, shown.steps),
        render_markdown(records),
        session_of(records),
        time_ns=time.time_ns(),
        group="" if alone else result.worker,
    )


def _write_viewer_trace(folder: Path, run: Run, result: ConfigResult) -> Run:
    """The trace that TensorBoard and Perfetto show; the run, with the trace's name in it."""
    shown = write_viewer_trace(folder, result)
    run = replace(run, configs=tuple(shown if r is result else r for r in run.configs))
    write_run(folder, run)
    return run


def _plan(prepared: Prepared, passes: int, kinds: Sequence[str]) -> str:
    """What is about to run, before minutes of work."""
    configs, loaded = prepared.configs, prepared.loaded
    dtypes = ", ".join(dict.fromkeys(config.dtype for config in configs))
    runs = ", ".join(dict.fromkeys(str(config.num_runs) for config in configs))
    many = f"{len(configs)} configs" if len(configs) > 1 else "1 config"
    times = "run" if runs == "1" else "runs"
    return wrap(
        f"plan     {loaded.name} on {prepared.device} in {dtypes}: {many}, {passes} passes; after "
        f"the warm-up {runs} {times} of {', '.join(kinds)}",
        indent=9,
    )


def _places(invocation: Invocation, folder: Path) -> str:
    records = invocation.records_path
    return "\n".join(
        (
            f"traces   {folder}",
            f"records  {records}",
            f"summary  {records.with_name(SUMMARY_FILE)}",
            f"report   {folder / REPORT_FILE}",
            f"view     tensorboard --logdir {invocation.trace_dir}",
            f"re-export  python -m qwen3_profile.export {folder}",
        )
    )
