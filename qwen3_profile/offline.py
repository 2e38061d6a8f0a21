"""The part of the Python API that needs no torch: saved files in; columns, records and tables out.

    from qwen3_profile import to_records, to_table

    records = to_records("traces/run1")          # a run's folder, or any trace file
    print(to_table(records))
    records[0].to_json()["layer_details"]

All times inside are integer nanoseconds; `to_json` gives seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from qwen3_profile.attribution import attribute as attribution
from qwen3_profile.attribution.attribute import Attribution
from qwen3_profile.attribution.scopes import build_scopes, select_labels
from qwen3_profile.passes.lone import collect_read_trace
from qwen3_profile.records.load import by_config, read_saved
from qwen3_profile.records.record import TimingRecord
from qwen3_profile.trace import Trace, read_trace
from qwen3_profile.views.terminal.tables import render


def load_trace(path: str | Path, *, accept_damaged: bool = False) -> Trace:
    """The events of a Kineto trace (.json, .json.gz) as columns, in integer nanoseconds.

    Raises:
        TraceError: not a trace, or one that was cut off and is not accepted so.
    """
    return read_trace(Path(path), accept_damaged=accept_damaged)


def attribute(trace: Trace) -> Attribution:
    """Gives each device event of `trace` to the innermost label that launched it, or says why not.

    What belongs to no label has a negative `owner`, a `Reason`.
    """
    return attribution.attribute(trace, build_scopes(trace, select_labels(trace)))


def to_records(
    source: str | Path | Trace, *, accept_damaged: bool = False
) -> tuple[TimingRecord, ...]:
    """The records of a saved run, of a trace file, or of a trace that was loaded.

    Args:
        source: a run's folder, a folder of runs, a trace file, or what `load_trace` gave.
        accept_damaged: read what is left of a damaged trace; its records say so.

    Returns:
        One record per measured run and phase; of a lone trace one per forward pass, and none
        where a loaded trace shows no forward pass.

    Raises:
        TraceError: there is no such file, or it is no trace.
        DamagedTraceError: a trace whose figures would be wrong.
    """
    if isinstance(source, Trace):
        path = Path(source.info.path)
        return collect_read_trace(path, source, accept_damaged=accept_damaged)
    groups = read_saved(Path(source), accept=accept_damaged)
    return tuple(record for group in groups for record in group)


def to_table(records: Sequence[TimingRecord]) -> str:
    """The tables that the command line prints: one block for each config and phase."""
    runs: dict[str, list[TimingRecord]] = {}
    for record in records:
        runs.setdefault(record.facts.run, []).append(record)
    return "\n\n".join(render(same) for mine in runs.values() for same in by_config(mine))
