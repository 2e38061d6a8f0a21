"""`python -m qwen3_profile`: argv -> run, trace, split, print, save -> exit code."""

from __future__ import annotations

import contextlib
import gzip
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from qwen3_profile.arguments import parse_arguments
from qwen3_profile.collect import collect_config
from qwen3_profile.config import Invocation
from qwen3_profile.errors import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_OK,
    ProfileError,
    report_error,
    warn,
)
from qwen3_profile.files import make_folder, write_atomic
from qwen3_profile.runs import Claim, ConfigResult, Run, claim_folder, write_run
from qwen3_profile.store import SUMMARY_FILE, check_store, save_json
from qwen3_profile.views.tables import render
from qwen3_profile.views.tensorboard import normalised_trace


def main(argv: Sequence[str] | None = None) -> int:
    """Profiles what argv asks for and returns the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        return _profile(parse_arguments(argv), argv)
    except ProfileError as error:
        return report_error(error)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED


def _profile(invocation: Invocation, argv: Sequence[str]) -> int:
    make_folder(invocation.output_dir)
    check_store(invocation.records_path)
    claim = claim_folder(invocation.trace_dir, invocation.run_name, force=invocation.force)
    saved = 0
    try:
        codes = []
        for code, has_results in _run(invocation, claim, argv):
            codes.append(code)
            saved += has_results
    finally:
        claim.settle(succeeded=saved > 0)
    if saved:
        _say_where(invocation, claim.folder)
    return max(codes)


def _run(invocation: Invocation, claim: Claim, argv: Sequence[str]) -> Iterator[tuple[int, bool]]:
    """Runs, saves and shows each config; yields its exit code and whether it left records."""
    # torch and transformers take seconds to import: only once all that can be refused is.
    from qwen3_profile.session import add_result, prepare, run_configs, start_run

    prepared = prepare(invocation)
    for line in prepared.warnings:
        warn(line)
    run = start_run(invocation, prepared, claim.folder, argv)
    write_run(claim.folder, run)
    for result in run_configs(invocation, prepared, claim.folder, _progress):
        run = add_result(run, result)
        yield _save(invocation, claim.folder, run, result)


def _save(invocation: Invocation, folder: Path, run: Run, result: ConfigResult) -> tuple[int, bool]:
    """Keeps what one config gave: run.json, records, tables, and the trace for viewers."""
    code = {"done": EXIT_OK, "interrupted": EXIT_INTERRUPTED}.get(result.status, EXIT_FAILED)
    if result.error:
        print(f"error: {result.error}", file=sys.stderr)
    write_run(folder, run)
    if not result.measurements:
        return code, False
    try:
        records = collect_config(folder, run, result)
        save_json(invocation.records_path, records)
        print(render(records), end="\n\n")
        _write_viewer_trace(folder, run, result)
    except ProfileError as error:
        return max(code, report_error(error)), True
    return code, True


def _write_viewer_trace(folder: Path, run: Run, result: ConfigResult) -> None:
    """The trace that TensorBoard and Perfetto show; in place last, for it is read but once."""
    raw = [folder / measurement.trace for measurement in result.measurements]
    data = gzip.compress(normalised_trace(raw), compresslevel=6)
    name = f"{result.worker}.{time.time_ns()}.pt.trace.json.gz"
    write_atomic(folder / name, data)
    results = tuple(replace(r, trace=name) if r is result else r for r in run.configs)
    write_run(folder, replace(run, configs=results))


@contextlib.contextmanager
def _progress(total: int, what: str) -> Iterator[Callable[[], None]]:
    """A bar on stderr; nothing where stderr is no terminal."""
    from tqdm import tqdm

    with tqdm(total=total, desc=what, unit="pass", leave=False, disable=None) as bar:
        yield lambda: bar.update() and None


def _say_where(invocation: Invocation, folder: Path) -> None:
    records = invocation.records_path
    print(f"traces   {folder}")
    print(f"records  {records}")
    print(f"summary  {records.with_name(SUMMARY_FILE)}")
    print(f"look     tensorboard --logdir {invocation.trace_dir}")
    print(f"again    python -m qwen3_profile.export {folder}")


if __name__ == "__main__":
    raise SystemExit(main())
