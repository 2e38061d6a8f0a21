"""`python -m qwen3_profile.export PATH`: a saved run or trace -> records and tables. No torch."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

# numpy's linear algebra starts a thread per core; nothing here multiplies matrices.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from qwen3_profile.arguments import Parser, output_file_name
from qwen3_profile.collect import collect_config, collect_trace
from qwen3_profile.command import run_command, show
from qwen3_profile.errors import EXIT_OK, ConfigError, TraceError, warn
from qwen3_profile.files import make_folder, write_atomic
from qwen3_profile.health import refuse_damage
from qwen3_profile.ledger import SCOPES, make_ledger
from qwen3_profile.ranks import RankTrace, collect_ranks, trace_files
from qwen3_profile.records import TimingRecord
from qwen3_profile.runs import RAW_FOLDER, RUN_FILE, read_run
from qwen3_profile.store import check_store, save_csv, save_json
from qwen3_profile.trace import read_trace
from qwen3_profile.views.ledger import render_ledger
from qwen3_profile.views.spread import render_spread
from qwen3_profile.views.tables import render

_SAVE: dict[str, Callable[[Path, Sequence[TimingRecord]], None]] = {
    "json": save_json,
    "csv": save_csv,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Exports what argv names and returns the exit code."""
    return run_command(lambda: _export(_parser().parse_args(argv)))


def _parser() -> Parser:
    parser = Parser(
        prog="qwen3_profile.export",
        description="Splits a saved run or trace again, as the run itself did: the same records "
        "from the same files, without torch and without a GPU.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "path", type=Path, metavar="PATH",
        help="a run's folder, a folder of runs, a trace file (.json, .json.gz), or a folder of the "
        "trace files of ranks",
    )  # fmt: skip
    parser.add_argument(
        "--config", type=int, metavar="INDEX",
        help="only the config of this index, from 0 (default: all)",
    )  # fmt: skip
    parser.add_argument(
        "--format", choices=tuple(_SAVE), default="json",
        help="of the records' file (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--output-dir", type=Path, default=Path("timing_results"), metavar="DIR",
        help="folder of the records' file (default: ./%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--output-file", metavar="FILE",
        help="records are merged into it by id (default: timing_records.json or .csv)",
    )  # fmt: skip
    parser.add_argument(
        "--ledger", type=Path, metavar="FILE",
        help="of any Kineto trace, ours or not, write the whole account of its device time to this "
        "JSON file, and no records",
    )  # fmt: skip
    parser.add_argument(
        "--scopes", choices=SCOPES, default="labels",
        help="of the ledger: record_function ranges, nn.Module ranges of a trace with stacks, or "
        "both (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--accept-damaged", action="store_true",
        help="export what is left of a damaged trace; the record says so (default: refuse it)",
    )  # fmt: skip
    return parser


def _export(options: argparse.Namespace) -> int:
    if options.ledger is not None:
        return _export_ledger(options)
    name = options.output_file or f"timing_records.{options.format}"
    path = options.output_dir / output_file_name(name)
    ranks = _read_ranks(options)
    if ranks:
        groups = [rank.records for rank in ranks if rank.records]
    else:
        groups = _read(options.path, options.config, options.accept_damaged)
    make_folder(options.output_dir)
    check_store(path, options.format)
    for line in dict.fromkeys(line for group in groups for line in group[0].facts.warnings):
        warn(line)
    if ranks:
        show(f"{render_spread(ranks)}\n")
    else:
        for records in groups:
            show(f"{render(records)}\n")
    if not groups:
        return EXIT_OK
    _SAVE[options.format](path, [record for records in groups for record in records])
    show(f"records  {path}")
    return EXIT_OK


def _export_ledger(options: argparse.Namespace) -> int:
    if options.path.is_dir():
        raise ConfigError("--ledger", "goes with one trace file", "give a file of the folder")
    ledger = make_ledger(
        read_trace(options.path, accept_damaged=options.accept_damaged), options.scopes
    )
    if not options.accept_damaged:
        refuse_damage(ledger.path, ledger.findings)
    make_folder(options.ledger.parent)
    write_atomic(options.ledger, ledger.to_bytes())
    show(f"{render_ledger(ledger)}\n\nledger  {options.ledger}")
    return EXIT_OK


def _read(path: Path, config: int | None, accept: bool) -> list[tuple[TimingRecord, ...]]:
    """The records that PATH holds, one group per config and phase."""
    if path.is_dir():
        groups = [group for folder in _runs_in(path) for group in _read_run(folder, config, accept)]
        if not groups:
            raise TraceError(str(path), f"holds no finished config{_numbered(config)}")
        return groups
    if config is not None:
        raise ConfigError("--config", "goes with a run's folder, not with a trace file")
    if not path.exists():
        raise TraceError(str(path), "is not there", "give a run's folder or a trace file")
    records = _read_raw_of_run(path, accept) or collect_trace(path, accept_damaged=accept)
    return _by_config(records)


def _by_config(records: Sequence[TimingRecord]) -> list[tuple[TimingRecord, ...]]:
    """Records of one trace by model and phase, in the order in which these first ran."""
    groups: dict[tuple[int, str], list[TimingRecord]] = {}
    for record in records:
        groups.setdefault((record.config_index, record.phase), []).append(record)
    return [tuple(group) for group in groups.values()]


def _read_ranks(options: argparse.Namespace) -> tuple[RankTrace, ...]:
    """The ranks in a folder of traces that is no run of ours and holds none; else nothing."""
    if not options.path.is_dir() or _find_runs(options.path):
        return ()
    files = trace_files(options.path)
    if files and options.config is not None:
        raise ConfigError("--config", "goes with a run's folder, not with traces of ranks")
    return collect_ranks(files, accept_damaged=options.accept_damaged) if files else ()


def _find_runs(path: Path) -> list[Path]:
    """`path` if it is a run's folder, else the runs directly below it."""
    if (path / RUN_FILE).is_file():
        return [path]
    return sorted(
        (folder for folder in path.iterdir() if (folder / RUN_FILE).is_file()),
        key=lambda folder: (len(folder.name), folder.name),
    )


def _runs_in(path: Path) -> list[Path]:
    runs = _find_runs(path)
    if not runs:
        raise TraceError(
            str(path),
            f"holds no {RUN_FILE}, nor does a folder in it, and no trace",
            "give a run's folder, or a folder with the trace of each rank",
        )
    return runs


def _read_run(folder: Path, config: int | None, accept: bool) -> Iterator[tuple[TimingRecord, ...]]:
    run = read_run(folder)
    for result in run.configs:
        if result.measurements and config in (None, result.index):
            yield collect_config(folder, run, result, accept_damaged=accept)


def _read_raw_of_run(path: Path, accept: bool) -> tuple[TimingRecord, ...]:
    """The record that a raw trace which still lies in its run's folder went into; else nothing.

    That of a decode has the traces of several steps, and is the same whichever is named.
    """
    folder = path.resolve().parent.parent
    if path.resolve().parent.name != RAW_FOLDER or not (folder / RUN_FILE).is_file():
        return ()
    run, trace = read_run(folder), f"{RAW_FOLDER}/{path.name}"
    return tuple(
        record
        for result in run.configs
        for index in {each.run_index for each in result.measurements if each.trace == trace}
        for record in collect_config(folder, run, result, accept_damaged=accept)
        if record.run_index == index
    )


def _numbered(config: int | None) -> str:
    return "" if config is None else f" of index {config}"


if __name__ == "__main__":
    raise SystemExit(main())
