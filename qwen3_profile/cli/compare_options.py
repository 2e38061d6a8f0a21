"""The command line of a comparison, and the `CompareRequest` that it asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from qwen3_profile.cli.parser import Parser
from qwen3_profile.cli.run_flags import processes_asked_for
from qwen3_profile.errors import ConfigError

# As many as find a tenth where processes differ by a twentieth or so.
DEFAULT_PROCESSES = 5


@dataclass(frozen=True, slots=True)
class CompareRequest:
    """Everything that one command line asks for.

    base, new: the sides; None where they are to be measured first.
    runs: how each side is measured, as the user wrote it; empty where both were.
    num_processes: of each side. trace_dir: where their folder is made.
    alpha, margin: as of the comparison's rules, as shares.
    report: the page's file; None where none is wanted.
    require_power: fail where a regression of the margin would not have been seen.
    """

    base: Path | None
    new: Path | None
    runs: tuple[str, ...]
    num_processes: int
    trace_dir: Path
    margin: float
    alpha: float
    by: Literal["part", "layer", "kernel"]
    times: Literal["cuda", "cpu"]
    format: Literal["table", "json", "markdown"]
    report: Path | None
    accept_blocks: bool
    require_power: bool
    accept_damaged: bool


def parse_arguments(argv: Sequence[str] | None) -> CompareRequest:
    """Reads the command line.

    Raises:
        ConfigError: a flag is wrong.
    """
    options = build_parser().parse_args(argv)
    runs = tuple(options.run or ())
    _check_sides(options.base, options.new, runs, options.num_processes)
    processes = DEFAULT_PROCESSES if options.num_processes is None else options.num_processes
    return CompareRequest(
        base=options.base,
        new=options.new,
        runs=runs,
        num_processes=processes_asked_for(processes),
        trace_dir=options.trace_dir,
        margin=_share("--fail-on", options.fail_on.removesuffix("%"), 100.0),
        alpha=_share("--alpha", options.alpha, 1.0),
        by=options.by,
        times=options.times,
        format=options.format,
        report=options.report,
        accept_blocks=options.accept_blocks,
        require_power=options.require_power,
        accept_damaged=options.accept_damaged,
    )


def _check_sides(
    base: Path | None, new: Path | None, runs: tuple[str, ...], processes: int | None
) -> None:
    """Refuses what does not give two sides: neither two paths nor two runs."""
    if not runs:
        if new is None:
            raise ConfigError("BASE NEW", "are not both there", "name two sides, or --run twice")
        if processes is not None:
            raise ConfigError("--num-processes", "goes with --run", "leave it out")
    elif base is not None:
        raise ConfigError("--run", f"does not go with {base}", "give paths or --run, not both")
    elif len(runs) != 2:
        raise ConfigError("--run", f"is given {len(runs)} times", "give it for BASE and for NEW")


def _share(flag: str, text: str, whole: float) -> float:
    """A number between nothing and `whole`, as a share of it."""
    try:
        share = float(text) / whole
    except ValueError:
        raise ConfigError(flag, f"{text!r} is no number", "see --help") from None
    if not 0 < share < 1:
        raise ConfigError(flag, f"{text} is not between 0 and {whole:g}", "see --help")
    return share


def build_parser() -> Parser:
    """The parser of `python -m qwen3_profile.compare`."""
    parser = Parser(
        prog="qwen3-profile compare",
        description="Compares NEW with BASE, part by part: what differs, by how much, with what "
        "confidence, and which kernels explain it. Exit code 1 where NEW is slower beyond noise.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    # fmt: off
    for name, what in (("base", "BASE"), ("new", "NEW")):
        add(name, type=Path, metavar=what, nargs="?",
            help="a run's folder, a folder of runs of the same config (one process each), a file "
            "of records or a folder of such, a ledger, or a trace")
    add("--run", action="append", metavar="'ARGS'",
        help="given twice, for BASE and for NEW: measure both first, with these arguments of run, "
        "in fresh processes and in turn")
    add("--num-processes", type=int, metavar="K",
        help=f"of each side, with --run (default: {DEFAULT_PROCESSES})")
    add("--trace-dir", type=Path, default=Path("traces"), metavar="DIR",
        help="where --run puts its folder compare1, compare2, ... (default: %(default)s)")
    add("--fail-on", default="5%", metavar="PERCENT",
        help="a slowdown beyond this that is more than noise is a regression, exit code 1; within "
        "it times are the same (default: %(default)s)")
    add("--alpha", default="0.05", metavar="SHARE",
        help="how often equal sides may be called different (default: %(default)s)")
    add("--by", choices=("part", "layer", "kernel"), default="part",
        help="what the rows are (default: %(default)s)")
    add("--times", choices=("cuda", "cpu"), default="cuda",
        help="of the rows: of the device where one was recorded, or of the host "
        "(default: %(default)s)")
    add("--format", choices=("table", "json", "markdown"), default="table",
        help="of what is printed (default: %(default)s)")
    add("--report", type=Path, metavar="FILE",
        help="also write it as one HTML page that needs no network, with every pass and interval "
        "in pictures")
    add("--accept-blocks", action="store_true",
        help="judge sides of which one ended before the other began, on a machine that does not "
        "drift (default: nothing is decided then)")
    add("--require-power", action="store_true",
        help="exit code 1 also where a regression of --fail-on would not have been seen")
    add("--accept-damaged", action="store_true",
        help="compare what is left of damaged traces (default: refuse them)")
    return parser
