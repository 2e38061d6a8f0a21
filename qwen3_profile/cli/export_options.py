"""The command line of an export, and the `ExportRequest` that it asks for."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from qwen3_profile.attribution.selection import SCOPES
from qwen3_profile.cli.parser import Parser, check_file_name, output_file_name
from qwen3_profile.config import STDOUT
from qwen3_profile.errors import ConfigError
from qwen3_profile.run_folder.layout import RECORDS_FILE, beside
from qwen3_profile.system.engines import ENGINES
from qwen3_profile.system.remote import is_remote


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """Everything that one command line asks for.

    path: a run, a folder of runs, a trace, or a folder of the traces of ranks.
    config: the only config that is wanted, by its index; None for all.
    records_path, format: where the records go, and how they are written.
    report: the page's file, "" for its usual place; None where none is wanted.
    ledger: the file of the account of a trace, in place of records; None for records.
    scopes, kernels: of the ledger; one of `SCOPES`, and whether it has kernels.
    capture: the trace of the capture, where `path` is one of replays.
    accept_damaged: export what is left of a damaged trace.
    explain: say why each pass is as slow as it is, as "text" or "json", in place of records; None
        for records.
    engine, engine_address: what reads the traces of ranks, and where it is; None for processes of
        this machine, and for a cluster of this machine.
    url: where `path` is to be copied from first; None where it is a path of this machine.
    view, port: show the page in a browser, and where; None for any free port.
    """

    path: Path
    config: int | None
    records_path: Path
    format: Literal["json", "csv", "parquet"]
    report: str | None
    ledger: Path | None
    scopes: str
    kernels: bool
    capture: Path | None
    accept_damaged: bool
    view: bool
    port: int | None
    explain: Literal["text", "json"] | None = None
    engine: str | None = None
    engine_address: str | None = None
    url: str | None = None

    @property
    def prints_records(self) -> bool:
        """Whether the records go to stdout, in place of a file."""
        return self.records_path == Path(STDOUT)


def parse_arguments(argv: Sequence[str] | None) -> ExportRequest:
    """Reads the command line.

    Raises:
        ConfigError: a flag is wrong, or does not go with another.
    """
    options = build_parser().parse_args(argv)
    _check(options)
    for flag, given in (("--ledger", options.ledger), ("--report", options.report)):
        if given is not None and given != "":
            check_file_name(flag, str(given))
    name = options.output_file or RECORDS_FILE.replace("json", options.format)
    writes_records = not (options.view or options.ledger or options.explain)
    url, path = options.path if is_remote(options.path) else None, Path(options.path)
    # What lies at a URL has its records here.
    place = beside(path) if url is None else Path()
    if name == STDOUT:
        if options.format == "parquet":
            what = "- prints text, and Parquet is none"
            raise ConfigError("--output-file", what, "give a file's name")
        records_path = Path(STDOUT)
    elif writes_records:
        records_path = (options.output_dir or place) / output_file_name(name)
    else:
        records_path = place / name
    return ExportRequest(
        path=path,
        config=options.config,
        records_path=records_path,
        format=options.format,
        report=options.report,
        ledger=options.ledger,
        scopes=options.scopes or SCOPES[0],
        kernels=options.kernels,
        capture=options.capture,
        accept_damaged=options.accept_damaged,
        view=options.view,
        port=options.port,
        explain=options.explain,
        engine=options.engine,
        engine_address=options.engine_address,
        url=url,
    )


def parse_view(argv: Sequence[str]) -> ExportRequest:
    """Reads the command line of `view`, which is a small part of an export's."""
    build_view_parser().parse_args(argv)
    return parse_arguments([*argv, "--view"])


def _check(options: argparse.Namespace) -> None:
    """Refuses flags that do not go together."""
    if options.view:
        others = ("--ledger", options.ledger), ("--report", options.report)
        for flag, given in (*others, ("--explain", options.explain)):
            if given is not None:
                raise ConfigError(flag, "does not go with --view", "give one of them")
        return
    if options.explain is not None:
        for flag, given in (("--ledger", options.ledger), ("--report", options.report)):
            if given is not None:
                raise ConfigError(flag, "does not go with --explain", "give one of them")
    if options.engine_address is not None and options.engine is None:
        raise ConfigError("--engine-address", "goes with --engine", "add it, or leave this out")
    if options.port is not None:
        raise ConfigError("--port", "goes with --view", "add it, or leave this out")
    if options.ledger is not None:
        if options.report is not None:
            raise ConfigError("--report", "does not go with --ledger", "leave one of them out")
        return
    for flag, given in (("--scopes", options.scopes), ("--kernels", options.kernels)):
        if given:
            raise ConfigError(flag, "goes with --ledger", "give both, or leave it out")


def build_parser() -> Parser:
    """The parser of `python -m qwen3_profile.export`."""
    parser = Parser(
        prog="qwen3-profile export",
        description="Splits a saved run or trace again, as the run itself did: the same records "
        "from the same files, without torch and without a GPU.",
    )
    add = parser.add_argument
    # fmt: off
    add("path", metavar="PATH",
        help="a run's folder, a folder of runs, a trace file (.json, also packed: .gz, .zst, .xz, "
        ".bz2), or a folder of the trace files of ranks; also a URL that fsspec knows (s3://, "
        "gs://, hf://, http://)")
    add("--config", type=int, metavar="INDEX",
        help="only the config of this index, from 0 (default: all)")
    add("--format", choices=("json", "csv", "parquet"), default="json",
        help="of the records' file (default: %(default)s)")
    add("--output-dir", type=Path, metavar="DIR",
        help="folder of the records' file (default: the run's folder, or that of the trace)")
    add("--output-file", metavar="FILE",
        help="records are merged into it by id; - prints them, and the tables to stderr (default: "
        "timing_records.json, .csv or .parquet)")
    add("--ledger", type=Path, metavar="FILE",
        help="of any Kineto trace, ours or not, write the whole account of its device time to this "
        "JSON file, and no records")
    add("--report", nargs="?", const="", metavar="FILE",
        help="also write one HTML page that needs no network (default FILE: report.html in the "
        "folder PATH or in the run that the trace lies in; of a lone trace, <trace>.report.html "
        "beside the records)")
    add("--explain", nargs="?", choices=("text", "json"), const="text",
        help="say why each pass is as slow as it is: what holds it and its parts up, with the "
        "figures that say so, what could be gained, and what usually helps; write no records "
        "(default: off; without a word: %(const)s)")
    add("--scopes", choices=SCOPES,
        help="of the ledger: record_function ranges, nn.Module ranges of a trace with stacks, or "
        f"both (default: {SCOPES[0]})")
    add("--kernels", action="store_true",
        help="in the ledger, also which kernels, copies and fills each range ran")
    add("--capture", type=Path, metavar="FILE",
        help="PATH is a trace of graph replays: give their kernels the labels or modules of this "
        "trace of the capture, or of an eager pass (default: the other one of a folder with both)")
    add("--accept-damaged", action="store_true",
        help="export what is left of a damaged trace; the record says so (default: refuse it)")
    add("--engine", choices=ENGINES,
        help="read the trace files of ranks on a cluster, by that library's own executor (default: "
        "in processes of this machine)")
    add("--engine-address", metavar="ADDRESS",
        help="of the cluster, such as tcp://scheduler:8786 (default: one of this machine)")
    add("--view", action="store_true",
        help="show the report and the traces of a run's folder in a browser of this machine, until "
        "Ctrl-C; write nothing")
    add("--port", type=int, metavar="N",
        help="of --view (default: one that is free)")
    return parser


def build_view_parser() -> Parser:
    """The parser of `qwen3-profile view`."""
    parser = Parser(
        prog="qwen3-profile view",
        description="Shows the report and the traces of a run in a browser of this machine, until "
        "Ctrl-C; writes nothing.",
    )
    parser.add_argument("path", metavar="PATH", help="a run's folder")
    parser.add_argument(
        "--port", type=int, metavar="N", help="where it listens (default: one that is free)"
    )
    return parser
