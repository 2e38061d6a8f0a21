"""Records as a CSV table: a row for each record and part, times in seconds to the nanosecond."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

from qwen3_profile import labels
from qwen3_profile.attribution.parts import Part
from qwen3_profile.passes.pass_times import PassTimes
from qwen3_profile.records.record import TimingRecord
from qwen3_profile.records.store import not_ours, read_text
from qwen3_profile.system.files import only_writer, refuse_read_only, write_atomic

_COLUMNS = (
    "id", "run", "model", "device", "phase", "batch_size", "input_len", "dtype", "run_index",
    "total_time_s", "position", "context_len", "path",
    "calls", "cpu_s", "cpu_self_s", "cuda_s", "cuda_self_s", "device_events",
    "launch_s", "gap_s", "queue_s", "bytes_self", "energy_j", "energy_per_token_j",
)  # fmt: skip
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def check_csv(path: Path) -> None:
    """Makes sure that records can be merged into `path`.

    Raises:
        OutputError: a file is there that is not ours, or not readable.
    """
    _read(path)
    refuse_read_only(path)


def save_csv(path: Path, records: Sequence[TimingRecord]) -> None:
    """Merges records into a table of one row per record and part.

    Raises:
        OutputError: the file is not ours, or cannot be written; it is then as it was.
    """
    ids = {_text_cell(record.id) for record in records}
    with only_writer(path):
        kept = [row for row in _read(path) if row[0] not in ids]
        write_atomic(path, _text(kept, records))


def csv_text(records: Sequence[TimingRecord]) -> bytes:
    """The records as a file of their own has them."""
    return b"".join(_text([], records))


def _text(kept: Sequence[Sequence[str]], records: Sequence[TimingRecord]) -> Iterator[bytes]:
    """The text of the table: its head, the rows that stay, and those of each record."""
    singles = (single for record in records for single in record.one_by_one())
    for rows in chain(([_COLUMNS, *kept],), map(_rows, singles)):
        yield _lines(rows)


def _lines(rows: Iterable[Sequence[object]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def _rows(record: TimingRecord) -> Iterator[tuple[object, ...]]:
    """A row for each part of a record of one traced pass, in the order of the columns."""
    config = record.config
    step = record.traced[0] if record.traced else None
    facts = record.facts
    head = (
        _text_cell(record.id),
        _text_cell(facts.run),
        _text_cell((facts.model.name if facts.model else facts.model_class) or ""),
        _text_cell(facts.device or ""),
        record.phase,
        config.batch_size if config else "",
        config.input_len if config else "",
        config.dtype if config else "",
        record.run_index,
        "" if record.total_ns is None else _seconds(record.total_ns),
        step.position if step else "",
        step.context_len if step else (config.input_len if config else ""),
    )
    energy = record.energy
    of_pass = ("", "") if energy is None else (energy.joules, energy.joules_per_token)
    for path, part in record.times.forward.walk():
        total, own = part.total, part.own
        yield (
            *head, _text_cell("/".join(path)), total.calls, _seconds(total.cpu_ns),
            _seconds(own.cpu_ns), _seconds(total.device_ns), _seconds(own.device_ns),
            total.device_events, _seconds(total.launch_ns), _seconds(total.gap_ns),
            _seconds(total.queue_ns),
            _own_bytes(record.times, part, is_backward=labels.BACKWARD in path),
            # Of a part nobody knows it.
            *(of_pass if part is record.times.forward else ("", "")),
        )  # fmt: skip


def _seconds(ns: float) -> str:
    """Exactly so many ns; decodes have means of halves and thirds of them, too."""
    whole = round(ns)
    return f"{whole // 10**9}.{whole % 10**9:09d}"


def _own_bytes(times: PassTimes, part: Part, *, is_backward: bool) -> int | str:
    """What the operations move that the part is the innermost label of; empty where unknown."""
    if times.traffic is None or times.compiled is not None:
        return ""
    moved = times.traffic.backward if is_backward else times.traffic.labels
    is_root = part is times.forward or part.name == labels.BACKWARD
    found = moved.get("" if is_root else part.name)
    if found is None:
        return "" if part.own.device_events else 0
    return "" if found.bytes is None else found.bytes


def _text_cell(text: str) -> str:
    """A text as a spreadsheet shows it, which computes what begins like a formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def _read(path: Path) -> list[list[str]]:
    text = read_text(path)
    if text is None:
        return []
    try:
        header, *rows = csv.reader(io.StringIO(text.decode(), newline=""), strict=True)
    except (csv.Error, UnicodeDecodeError) as error:
        raise not_ours(path, f"is not CSV: {error}") from error
    if tuple(header) != _COLUMNS or any(len(row) != len(header) for row in rows):
        raise not_ours(path, "has other columns than ours")
    return rows
