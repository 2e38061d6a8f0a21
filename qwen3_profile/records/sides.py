"""What one side of a comparison measured, process by process, wherever that lies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from qwen3_profile.attribution.kernels import KernelRow
from qwen3_profile.errors import DamagedTraceError, OtherFormatError, TraceError
from qwen3_profile.labels import WHOLE_TRACE
from qwen3_profile.passes.known import Capture, Known
from qwen3_profile.passes.read import Needs, read
from qwen3_profile.records.load import by_config, load
from qwen3_profile.records.process import Group, PassKernels, Process
from qwen3_profile.records.read_ledger import is_ledger, ledger_of_trace, read_ledger
from qwen3_profile.records.record import TimingRecord
from qwen3_profile.run_folder.layout import find_runs, may_be_trace

# Of a file of records or a ledger, unpacked: they are read whole.
_MOST_BYTES = 1 << 30


def load_side(path: Path, *, accept: bool = False) -> tuple[Process, ...]:
    """The processes of a side.

    Args:
        path: a run's folder, a folder of runs, a file of records or a folder of such, a ledger, a
            trace, or a folder with the trace of each rank.
        accept: read what is left of damaged traces.

    Raises:
        TraceError: it is something else, or is not there.
        DamagedTraceError: a trace whose figures would be wrong.
    """
    if not path.exists():
        do = "give a run's folder, a file of records, a ledger or a trace"
        raise TraceError(str(path), "is not there", do)
    if path.is_dir():
        return tuple(_of_folder(path, accept))
    head = _head(path)
    if is_ledger(head):
        return (_of_ledger(path),)
    if is_records(head):
        return tuple(_of_records(path))
    return (_of_trace(path, accept),)


def as_ledgers(path: Path, *, accept: bool = False) -> tuple[Process, ...]:
    """The same where the other side is a ledger, and a trace has to be made one.

    Raises:
        TraceError: neither a ledger nor a trace.
    """
    if path.is_dir() or is_records(_head(path)):
        do = "give the ledger of the other trace, or the trace itself"
        raise TraceError(str(path), "cannot be held against a ledger", do)
    if is_ledger(_head(path)):
        return (_of_ledger(path),)
    record, kernels = ledger_of_trace(path, accept=accept)
    return (Process(record.id, path.name, ((record,),), kernels=kernels),)


def is_records(head: bytes) -> bool:
    """Whether a file that begins so is one of records."""
    return head.lstrip()[:1] == b"[" and b'"timestamp"' in head and b'"batch_size"' in head


def is_of_ledgers(side: Sequence[Process]) -> bool:
    """Whether a side is a ledger."""
    return any(each.kernels is not None or each.id.startswith("ledger ") for each in side)


def kernels_of(process: Process, group: Group) -> tuple[PassKernels, ...]:
    """The kernels of each run of a group; none where they cannot be seen."""
    if process.kernels is not None:
        return (PassKernels(1, process.kernels),)
    if process.source is None:
        return ()
    if process.source.is_dir():
        return _kernels_of_run(process.source, group)
    known = None if process.capture is None else Capture(process.capture)
    if len({g[0].config_index for g in process.groups if g[0].phase == group[0].phase}) > 1:
        return ()  # several models whose passes are called the same
    rows = _rows(process.source, known, group[0].phase)
    return () if rows is None else (PassKernels(len(group), rows),)


def _kernels_of_run(folder: Path, group: Group) -> tuple[PassKernels, ...]:
    from qwen3_profile.passes.known import MeasuredConfig
    from qwen3_profile.run_folder.run_json import read_run

    first = group[0]
    (result,) = (
        each
        for each in read_run(folder).configs
        if each.index == first.config_index and each.phase == first.phase
    )
    known, found = MeasuredConfig(folder, result), []
    for record in group:
        mine = [each for each in result.measurements if each.run_index == record.run_index]
        each_pass = [_rows(folder / one.trace, known, first.phase) for one in mine]
        rows = tuple(row for rows in each_pass if rows is not None for row in rows)
        found.append(PassKernels(len(each_pass), rows))
    return tuple(found)


def _rows(path: Path, known: Known | None, phase: str) -> tuple[KernelRow, ...] | None:
    from qwen3_profile.attribution.kernels import kernel_rows

    # Damage that was not accepted was refused when the records were made.
    attribution = read(path, known, accept_damaged=True, needs=Needs.OPERATORS).attribution
    if attribution is None:
        return None
    found = kernel_rows(attribution)
    if phase == WHOLE_TRACE:  # which is no range itself
        return tuple(replace(r, path=(phase, *r.path)) if r.path else r for r in found)
    return tuple(row for row in found if row.path[:1] in ((phase,), ()))


def _of_folder(path: Path, accept: bool) -> Iterator[Process]:
    runs = find_runs(path)
    for folder in runs:
        groups = tuple(load(folder, accept=accept).groups)
        yield Process(_run_id(groups[0][0]), folder.name, groups, folder)
    if runs:
        return
    files = sorted(file for file in path.iterdir() if file.is_file() and may_be_trace(file.name))
    records = [file for file in files if is_records(_head(file))]
    for file in records:
        yield from _of_records(file)
    if not records:
        yield _of_trace(path, accept)


def _of_trace(path: Path, accept: bool) -> Process:
    """A trace, a folder with those of several ranks, or with replays and their capture."""
    loaded = load(path, accept=accept)
    first = loaded.groups[0][0]
    replay, capture = loaded.pair or (path, None)
    source = None if replay.is_dir() else replay
    return Process(_run_id(first), path.name, tuple(loaded.groups), source, capture)


def _of_ledger(path: Path) -> Process:
    from qwen3_profile.trace.text import read_text

    record, kernels = read_ledger(path, read_text(path, _MOST_BYTES))
    return Process(record.id, path.name, ((record,),), kernels=kernels)


def _of_records(path: Path) -> Iterator[Process]:
    from qwen3_profile.records.read_records import read_records
    from qwen3_profile.trace.text import read_text

    runs: dict[str, list[TimingRecord]] = {}
    for record in read_records(path, read_text(path, _MOST_BYTES)):
        runs.setdefault(_run_id(record), []).append(record)
    if not runs:
        raise TraceError(str(path), "holds no record")
    for unique, records in runs.items():
        name = path.name if len(runs) == 1 else f"{path.name}: {records[0].facts.run}"
        yield Process(unique, name, tuple(by_config(records)))


def _run_id(record: TimingRecord) -> str:
    """What the ids of all records of one run begin with."""
    end = f"-c{record.config_index}-r{record.run_index}-{record.phase}"
    return record.id.removesuffix(end)


def _head(path: Path) -> bytes:
    """How the text of a file begins; empty where it is no text of JSON."""
    from qwen3_profile.trace.text import Text

    try:
        with Text(path) as text:
            text.fill()
            return bytes(text)[:4096]
    except (OtherFormatError, DamagedTraceError):
        return b""
