"""`python -m qwen3_profile.compare BASE NEW`: what differs, how sure that is, and why. No torch."""

from __future__ import annotations

from qwen3_profile.cli import start

if __name__ == "__main__":
    start.compare()  # it imports this module, once signals are seen to

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from qwen3_profile.cli.console import run_command, show
from qwen3_profile.errors import EXIT_FAILED, EXIT_OK, ConfigError, NoRangesError, tell
from qwen3_profile.system import signals
from qwen3_profile.system.collector import keep_all_objects
from qwen3_profile.system.files import make_folder, write_atomic

if TYPE_CHECKING:
    from pathlib import Path

    from qwen3_profile.analysis.comparison.compare import Comparison
    from qwen3_profile.cli.compare_options import CompareRequest
    from qwen3_profile.records.process import Process


def main(argv: Sequence[str] | None = None) -> int:
    """Compares what argv names and returns the exit code."""
    # numpy's linear algebra starts a thread per core; nothing here multiplies matrices.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    with keep_all_objects():
        return run_command(lambda: _compare_asked_for(argv))


def _compare_asked_for(argv: Sequence[str] | None) -> int:
    with signals.held():  # what breaks off an import of C code may crash it
        from qwen3_profile.cli.compare_options import parse_arguments

    options = parse_arguments(argv)
    with signals.held():
        from qwen3_profile.analysis.comparison.compare import compare
        from qwen3_profile.analysis.comparison.rows import Rules
        from qwen3_profile.records.sides import kernels_of

    rules = Rules(options.alpha, options.margin, options.by, options.times, options.accept_blocks)
    comparison = compare(*_sides(options), rules, kernels_of)
    show(_text(comparison, options.format))
    if options.report is not None:
        from qwen3_profile.views.comparison.page import render_page

        make_folder(options.report.parent)
        page = render_page(comparison, options.report.parent)
        write_atomic(options.report, page.encode())
        tell(f"report: {options.report}")
    failed = comparison.regressions or (options.require_power and comparison.blind)
    return EXIT_FAILED if failed else EXIT_OK


def _sides(options: CompareRequest) -> tuple[tuple[Process, ...], tuple[Process, ...]]:
    """Both sides; where one is a ledger, or a trace without a range, both are made ledgers."""
    from qwen3_profile.records.sides import as_ledgers, is_of_ledgers, load_side

    paths, accept = _paths(options), options.accept_damaged
    try:
        base, new = (load_side(path, accept=accept) for path in paths)
    except NoRangesError:
        base, new = (as_ledgers(path, accept=accept) for path in paths)
    if is_of_ledgers(base) != is_of_ledgers(new):
        base, new = (as_ledgers(path, accept=accept) for path in paths)
    return base, new


def _paths(options: CompareRequest) -> tuple[Path, Path]:
    """Where the sides lie; measures them first, where that is asked for."""
    if options.base is not None and options.new is not None:
        return options.base, options.new
    import shlex

    from qwen3_profile.cli.fresh_processes import new_folder, run_in_turn, side_of

    argvs = [_words(text) for text in options.runs]
    names = ("BASE", "NEW")
    for name, argv in zip(names, argvs, strict=True):
        side_of(name, argv, options.trace_dir)  # before a folder is made
    folder = new_folder(options.trace_dir, "compare")
    base, new = folder / "base", folder / "new"
    sides = [side_of(*each) for each in zip(names, argvs, (base, new), strict=True)]
    run_in_turn(sides, options.num_processes, tell)
    tell(f"again: qwen3-profile compare {shlex.quote(str(base))} {shlex.quote(str(new))}")
    return base, new


def _words(text: str) -> tuple[str, ...]:
    import shlex

    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ConfigError(f"--run {text!r}", f"is no command line: {error}") from error
    return tuple(words[1:] if words[:1] == ["run"] else words)


def _text(comparison: Comparison, form: str) -> str:
    if form == "table":
        from qwen3_profile.views.terminal.two_sides import render_comparison

        return render_comparison(comparison)
    from qwen3_profile.views.comparison.as_json import comparison_json, comparison_markdown

    if form == "markdown":
        return comparison_markdown(comparison)
    import msgspec

    text: bytes = msgspec.json.format(msgspec.json.encode(comparison_json(comparison)), indent=2)
    return text.decode()
