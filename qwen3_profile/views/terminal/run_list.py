"""The table of `qwen3-profile list`: one row for each config of each run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from qwen3_profile.config import EAGER
from qwen3_profile.run_folder.run_json import ConfigResult, Run
from qwen3_profile.views.run_list_json import bare_ns, device_of
from qwen3_profile.views.terminal.cells import milliseconds, wrap
from qwen3_profile.views.terminal.table import Column, table

_COLUMNS = (
    Column("run", left=True, least=16, verbatim=True),
    Column("started", left=True, leave_out=2),
    Column("model", left=True, least=16, verbatim=True),
    Column("device", left=True, least=11, leave_out=1),
    Column("config", left=True, least=28),
    Column("bare ms"),
)
_NO_TIME = "-"


def render_runs(runs: Sequence[Run]) -> str:
    """Name, start, model, device, configs and bare times of each run."""
    rows = [row for run in runs for row in _rows(run)]
    meaning = wrap("bare: median time of a pass without profiler, of a decode one step")
    return f"{table(_COLUMNS, rows)}\n{meaning}"


def _rows(run: Run) -> Iterator[tuple[str, ...]]:
    started = run.started[:16].replace("T", " ")
    head = (run.name, started, run.model.name, device_of(run))
    if not run.configs:
        yield (*head, "no config has ended")
    for config in run.configs:
        yield (*head, _config(config), _bare(config))
        head = ("", "", "", "")


def _config(result: ConfigResult) -> str:
    asked = result.config
    words = [f"{result.phase} {asked.batch_size} x {asked.input_len}", asked.dtype]
    words += [asked.execution] if asked.execution != EAGER else []
    words += [asked.attn_implementation] if asked.attn_implementation else []
    return ", ".join(words)


def _bare(config: ConfigResult) -> str:
    if config.status != "done":
        return config.status
    found = bare_ns(config)
    return _NO_TIME if found is None else milliseconds(found)
