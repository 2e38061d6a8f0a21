"""The command line of an export: what it asks for, and which flags do not go together."""

from __future__ import annotations

from pathlib import Path

import pytest

from qwen3_profile.cli.export_options import ExportRequest, parse_arguments
from qwen3_profile.errors import ConfigError

DEFAULTS = ExportRequest(
    path=Path("traces/run1"), config=None, records_path=Path("traces/timing_records.json"),
    format="json", report=None, ledger=None, scopes="labels", kernels=False, capture=None,
    accept_damaged=False, view=False, port=None,
)  # fmt: skip


def test_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In an empty folder: where somebody has made a run, there is such a folder."""
    monkeypatch.chdir(tmp_path)
    assert parse_arguments(["traces/run1"]) == DEFAULTS


@pytest.mark.parametrize(
    ("argv", "path"),
    [
        ("--format csv", "timing_records.csv"),
        ("--output-dir my", "my/timing_records.json"),
        ("--output-file b.json", "b.json"),
    ],
)
def test_where_records_go(argv: str, path: str) -> None:
    assert parse_arguments(["x", *argv.split()]).records_path == Path(path)


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        ("--port 80", "--port: goes with --view"),
        ("--ledger l.json --report", "--report: does not go with --ledger"),
        ("--view --report", "--report: does not go with --view"),
        ("--view --ledger l.json", "--ledger: does not go with --view"),
        ("--scopes both", "--scopes: goes with --ledger"),
        ("--kernels", "--kernels: goes with --ledger"),
        ("--format parquet --output-file -", "--output-file: - prints text"),
        ("--output-file a/b.json", "--output-file: 'a/b.json' is not a file's name"),
        ("--lodger l.json", "--lodger: is not a known argument; did you mean --ledger?"),
    ],
)
def test_flags_that_do_not_go_together(argv: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_arguments(["x", *argv.split()])
    assert str(caught.value).startswith(told)
