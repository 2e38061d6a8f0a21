"""The runs of a folder as JSON, for programs; times in seconds, as in the records."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from qwen3_profile.records.quantiles import median
from qwen3_profile.run_folder.run_json import ConfigResult, Run

_NS_PER_S = 1e9


def runs_json(runs: Sequence[Run]) -> str:
    """A list with an entry for each run, and in it one for each config and phase."""
    return json.dumps([_run_json(run) for run in runs], indent=2)


def bare_ns(config: ConfigResult) -> float | None:
    """The median time of a pass without profiler, of a decode that of a step; None without any."""
    steps_ns = [ns for steps in config.step_times_ns for ns in steps]
    times_ns = steps_ns or [each.bare_ns for each in config.measurements]
    return median(times_ns) if config.status == "done" and times_ns else None


def device_of(run: Run) -> str:
    """The device's own name, where it is known."""
    return run.environment.device_name or run.device


def _run_json(run: Run) -> dict[str, Any]:
    return {
        "run": run.name,
        "id": run.id,
        "started": run.started,
        "model": run.model.name,
        "device": device_of(run),
        "configs": [_config_json(config) for config in run.configs],
    }


def _config_json(result: ConfigResult) -> dict[str, Any]:
    asked, bare = result.config, bare_ns(result)
    return {
        "name": result.worker,
        "phase": result.phase,
        "status": result.status,
        "batch_size": asked.batch_size,
        "input_len": asked.input_len,
        "dtype": asked.dtype,
        "execution": asked.execution,
        "attn_implementation": asked.attn_implementation,
        "bare_time": None if bare is None else bare / _NS_PER_S,
    }
