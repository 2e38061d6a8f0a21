"""What TensorBoard's own tabs show of a run, which need no network: curves, tables, settings.

Protocol buffers take a third of a second to import: only who writes them imports this.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from qwen3_profile.analysis.layer_times import layer_blocks
from qwen3_profile.analysis.median_pass import median_record
from qwen3_profile.records.record import TimingRecord
from qwen3_profile.views.tensorboard.event_files import write_config, write_session
from qwen3_profile.views.tensorboard.hparams import session_of, session_of_all
from qwen3_profile.views.tensorboard.markdown import render_markdown


def write_curves(folder: Path, worker: str, records: Sequence[TimingRecord]) -> None:
    """Times by layer, and the tables as text, of one config.

    Raises:
        OutputError: they cannot be written.
    """
    shown = median_record(records)
    write_config(
        folder,
        worker,
        layer_blocks(shown.times.forward, shown.steps),
        render_markdown(records),
        time_ns=time.time_ns(),
    )


def write_settings(folder: Path, groups: Mapping[str, Sequence[TimingRecord]]) -> None:
    """Settings and totals of all configs of a run, by the configs' names.

    Raises:
        OutputError: they cannot be written.
    """
    sessions = {worker: session_of(records) for worker, records in groups.items()}
    if sessions:
        write_session(folder, session_of_all(sessions), time_ns=time.time_ns())
