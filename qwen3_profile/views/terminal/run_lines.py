"""What a run says before its work, and where it has put everything at its end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from qwen3_profile.config import Invocation, RunConfig
from qwen3_profile.run_folder.layout import REPORT_FILE, SUMMARY_FILE
from qwen3_profile.views.terminal.cells import wrap


def plan_lines(
    model: str, device: str, configs: Sequence[RunConfig], passes: int, kinds: Sequence[str]
) -> str:
    """What is about to run, before minutes of work.

    Args:
        kinds: of the passes, in words.
    """
    dtypes = ", ".join(dict.fromkeys(config.dtype for config in configs))
    runs = ", ".join(dict.fromkeys(str(config.num_runs) for config in configs))
    many = f"{len(configs)} configs" if len(configs) > 1 else "1 config"
    times = "run" if runs == "1" else "runs"
    return wrap(
        f"plan     {model} on {device} in {dtypes}: {many}, {passes} passes; after "
        f"the warm-up {runs} {times} of {', '.join(kinds)}",
        indent=9,
    )


def place_lines(invocation: Invocation, folder: Path) -> str:
    """Where what was kept lies, and how it is looked at; paths are whole, to be copied."""
    records = invocation.records_path
    kept = (f"records  {records}", f"summary  {records.with_name(SUMMARY_FILE)}")
    return "\n".join(
        (
            f"traces   {folder}",
            *(() if invocation.prints_records else kept),
            f"report   {folder / REPORT_FILE}",
            f"view     tensorboard --logdir {invocation.trace_dir}",
            f"re-export  python -m qwen3_profile.export {folder}",
        )
    )
