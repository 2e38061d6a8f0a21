"""What a command says of a sweep, and the file that it keeps of it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from qwen3_profile.errors import warn
from qwen3_profile.records.record import TimingRecord


def tell_sweeps(
    groups: Sequence[Sequence[TimingRecord]], records_path: Path | None
) -> tuple[str, ...]:
    """The tables of the sweeps among these configs, which also join the file beside the records.

    Raises:
        OutputError: that file is not ours, or cannot be written.
    """
    sizes = {(g[0].config.batch_size, g[0].config.input_len) for g in groups if g[0].config}
    if len(sizes) < 3:
        return ()  # most runs have none, and need not import what fits laws
    from qwen3_profile.analysis.scaling.sweep import can_fit, sweeps_of
    from qwen3_profile.records.store import save_entries
    from qwen3_profile.run_folder.layout import SCALING_FILE
    from qwen3_profile.views.scaling_json import sweep_json
    from qwen3_profile.views.terminal.scaling import render_sweep

    if not can_fit():
        warn("no scaling is fitted: scipy is not installed")
    sweeps = tuple(sweeps_of(groups))
    if not sweeps or records_path is None:
        return tuple(map(render_sweep, sweeps))
    entries = [sweep_json(sweep) for sweep in sweeps]
    path = records_path.with_name(SCALING_FILE)
    save_entries(path, {each["id"]: partial(dict, each) for each in entries})
    return (*map(render_sweep, sweeps), f"scaling  {path}")
