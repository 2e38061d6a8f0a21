"""What a run says before its work, and where it has put everything at its end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from qwen3_profile.attribution.findings import counted
from qwen3_profile.config import Invocation, RunConfig
from qwen3_profile.run_folder.layout import REPORT_FILE, SUMMARY_FILE
from qwen3_profile.views.terminal.cells import wrap
from qwen3_profile.words import said
from qwen3_profile.words.cells import place


def plan_lines(
    model: str, device: str, configs: Sequence[RunConfig], passes: int, kinds: Sequence[str]
) -> str:
    """What is about to run, before minutes of work.

    Args:
        kinds: of the passes, in words.
    """
    dtypes = ", ".join(dict.fromkeys(config.dtype for config in configs))
    runs = ", ".join(dict.fromkeys(str(config.num_runs) for config in configs))
    plan = (
        f"{model} on {device} in {dtypes}: {counted(len(configs), 'config')}, {passes} passes; "
        f"after the warm-up {runs} {'run' if runs == '1' else 'runs'} of {', '.join(kinds)}"
    )
    return wrap(place("plan     ", said(plan)), indent=9)


def place_lines(invocation: Invocation, folder: Path) -> str:
    """Where what was kept lies, and how it is looked at; paths are whole, to be copied."""
    records = invocation.records_path
    kept = (
        place("records    ", records),
        place("summary    ", records.with_name(SUMMARY_FILE)),
    )
    return "\n".join(
        (
            place("traces     ", folder),
            *(() if invocation.prints_records else kept),
            place("report     ", folder / REPORT_FILE),
            place("view       ", f"tensorboard --logdir {invocation.trace_dir}"),
            place("re-export  ", f"python -m qwen3_profile.export {folder}"),
        )
    )
