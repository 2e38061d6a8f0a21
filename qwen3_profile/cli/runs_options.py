"""The command lines of `qwen3-profile list` and `rm`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from qwen3_profile.cli.parser import Parser, output_file_name
from qwen3_profile.errors import ConfigError


@dataclass(frozen=True, slots=True)
class RemoveRequest:
    """Which runs go, and the file that their records go from."""

    folders: tuple[Path, ...]
    records_path: Path


@dataclass(frozen=True, slots=True)
class ListRequest:
    """The folder whose runs are listed, and how."""

    folder: Path
    format: Literal["table", "json"]


def list_request(argv: Sequence[str]) -> ListRequest:
    """Reads the command line of `list`."""
    options = build_list_parser().parse_args(argv)
    return ListRequest(options.path, options.format)


def removal(argv: Sequence[str]) -> RemoveRequest:
    """Reads the command line of `rm`.

    Raises:
        ConfigError: a flag is wrong, or a run is not there.
    """
    options = build_remove_parser().parse_args(argv)
    folders = tuple(_folder(name, options.trace_dir) for name in dict.fromkeys(options.runs))
    return RemoveRequest(folders, options.output_dir / output_file_name(options.output_file))


def _folder(name: str, trace_dir: Path) -> Path:
    """A run's folder, given as such or by its name below the trace folder."""
    for folder in (Path(name), trace_dir / name):
        if folder.is_dir():
            return folder
    raise ConfigError(name, f"is no run here or in {trace_dir}", "see qwen3-profile list")


def build_list_parser() -> Parser:
    """The parser of `qwen3-profile list`."""
    parser = Parser(
        prog="qwen3-profile list",
        description="Shows the runs of a folder: model, device, configs, bare times.",
    )
    parser.add_argument(
        "path", type=Path, nargs="?", default=Path("traces"), metavar="DIR",
        help="folder of the runs' folders (default: ./%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--format", choices=("table", "json"), default="table",
        help="a table, or JSON for programs (default: %(default)s)",
    )  # fmt: skip
    return parser


def build_remove_parser() -> Parser:
    """The parser of `qwen3-profile rm`."""
    parser = Parser(
        prog="qwen3-profile rm",
        description="Deletes runs: their traces, their reports, and their records.",
    )
    add = parser.add_argument
    # fmt: off
    add("runs", nargs="+", metavar="RUN",
        help="a run's folder, or its name below the trace folder")
    add("--trace-dir", type=Path, default=Path("traces"), metavar="DIR",
        help="folder of the runs' folders (default: ./%(default)s)")
    add("--output-dir", type=Path, default=Path("timing_results"), metavar="DIR",
        help="folder of the records' file (default: ./%(default)s)")
    add("--output-file", default="timing_records.json", metavar="FILE",
        help="file that the records go from (default: %(default)s)")
    return parser
