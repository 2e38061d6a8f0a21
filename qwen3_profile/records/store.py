"""Records in, `timing_records.json` and its summary on disk out; earlier records stay."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec

from qwen3_profile.errors import OutputError
from qwen3_profile.records.record import TimingRecord
from qwen3_profile.records.record_json import SCHEMA_VERSION
from qwen3_profile.records.summary import Summary, config_id
from qwen3_profile.system.files import only_writer, write_atomic

SUMMARY_FILE = "timing_summary.json"

Entry = Mapping[str, Any]

_CSV_COLUMNS = (
    "id", "run", "phase", "batch_size", "input_len", "dtype", "run_index", "position",
    "context_len", "path",
    "calls", "cpu_ns", "cpu_self_ns", "device_ns", "device_self_ns", "device_events",
    "launch_ns", "gap_ns", "queue_ns",
)  # fmt: skip


def check_store(path: Path, format: str = "json") -> None:
    """Makes sure that records can be merged into `path`, before anything is measured.

    Raises:
        OutputError: a file is there that is not ours, or not readable.
    """
    if format == "csv":
        _read_csv(path)
        return
    if path.name == SUMMARY_FILE:
        raise OutputError(str(path), "is the summary's own name", "take another --output-file")
    for file in (path, path.with_name(SUMMARY_FILE)):
        _read_entries(file)


def save_json(path: Path, records: Sequence[TimingRecord]) -> None:
    """Merges records into `path` by id, and their configs' summaries into the file beside it.

    Raises:
        OutputError: a file is not ours, or cannot be written; it is then as it was.
    """
    summaries = {config_id(record.id): Summary() for record in records}
    _merge(path, {record.id: record.to_json for record in records}, summaries)
    _merge(
        path.with_name(SUMMARY_FILE), {name: each.to_json for name, each in summaries.items()}, {}
    )


def save_csv(path: Path, records: Sequence[TimingRecord]) -> None:
    """Merges records into a table of one row per record and part; times in integer ns.

    Raises:
        OutputError: the file is not ours, or cannot be written; it is then as it was.
    """
    ids = {record.id for record in records}
    with only_writer(path):
        kept = [row for row in _read_csv(path) if row[0] not in ids]
        write_atomic(path, _csv_text(kept, records))


def _csv_text(kept: Sequence[Sequence[str]], records: Sequence[TimingRecord]) -> Iterator[bytes]:
    """The text of the table: its head, the rows that stay, and those of each record."""
    singles = (single for record in records for single in record.one_by_one())
    for rows in chain(([_CSV_COLUMNS, *kept],), map(_csv_rows, singles)):
        yield _csv_lines(rows)


def _csv_lines(rows: Iterable[Sequence[object]]) -> bytes:
    import csv

    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def _merge(
    path: Path, new: Mapping[str, Callable[[], Entry]], summaries: Mapping[str, Summary]
) -> None:
    """Puts entries into the list at `path`: in place of those of the same id, or at its end.

    Never are more of them in memory than one, but for their text.

    Args:
        new: what makes each entry, by its id.
        summaries: are told of each entry of their config that is in the list then, in its order.
    """
    with only_writer(path):
        known = _read_entries(path)
        write_atomic(path, _list_text(_entries(known, new, summaries)))


def _entries(
    known: Mapping[str, msgspec.Raw],
    new: Mapping[str, Callable[[], Entry]],
    summaries: Mapping[str, Summary],
) -> Iterator[bytes]:
    """The text of each entry of the merged list."""
    for name in dict.fromkeys((*known, *new)):
        summary = summaries.get(config_id(name))
        if name in new:
            entry = new[name]()
            text = msgspec.json.encode(entry)
        else:
            text = bytes(known[name])
            entry = msgspec.json.decode(text) if summary else {}
        if summary is not None:
            summary.add(entry)
        yield text


def _list_text(entries: Iterable[bytes]) -> Iterator[bytes]:
    """The text of a file with these entries, piece by piece."""
    before = b"["
    for entry in entries:
        alone = msgspec.json.format(b"[" + entry + b"]", indent=2)
        yield before + alone[len(b"[") : -len(b"\n]")]
        before = b","
    yield b"\n]\n" if before == b"," else b"[]\n"


def _read_entries(path: Path) -> dict[str, msgspec.Raw]:
    """The text of each entry of the list at `path`, by its id."""
    text = _read_text(path)
    if text is None:
        return {}
    try:
        entries = {}
        newest = 0
        for each in _decode_list(text):
            entry = msgspec.json.decode(each)
            if not _is_ours(entry):
                raise _not_ours(path, "holds something else than our records")
            newest = max(newest, entry["schema_version"])
            entries[entry["id"]] = each
    except msgspec.ValidationError as error:
        raise _not_ours(path, "holds something else than our records") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _not_ours(path, f"is not JSON: {error}") from error
    if newest > SCHEMA_VERSION:
        raise OutputError(
            str(path), f"was written by a newer qwen3_profile (schema {newest})", "upgrade it"
        )
    return entries


_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode


def _is_ours(entry: object) -> bool:
    return (
        isinstance(entry, dict)
        and isinstance(entry.get("id"), str)
        and isinstance(entry.get("schema_version"), int)
    )


def _read_csv(path: Path) -> list[list[str]]:
    import csv

    text = _read_text(path)
    if text is None:
        return []
    try:
        header, *rows = csv.reader(io.StringIO(text.decode(), newline=""), strict=True)
    except (csv.Error, UnicodeDecodeError) as error:
        raise _not_ours(path, f"is not CSV: {error}") from error
    if tuple(header) != _CSV_COLUMNS or any(len(row) != len(header) for row in rows):
        raise _not_ours(path, "has other columns than ours")
    return rows


def _csv_rows(record: TimingRecord) -> Iterator[tuple[object, ...]]:
    """A row for each part of a record of one traced pass, in the order of the columns."""
    config = record.config
    step = record.traced[0] if record.traced else None
    head = (
        record.id,
        record.facts.run,
        record.phase,
        config.batch_size if config else "",
        config.input_len if config else "",
        config.dtype if config else "",
        record.run_index,
        step.position if step else "",
        step.context_len if step else (config.input_len if config else ""),
    )
    for path, part in record.times.forward.walk():
        total, own = part.total, part.own
        yield (
            *head, "/".join(path), total.calls, total.cpu_ns, own.cpu_ns, total.device_ns,
            own.device_ns, total.device_events, total.launch_ns, total.gap_ns, total.queue_ns,
        )  # fmt: skip


def _read_text(path: Path) -> bytes | None:
    """The file's bytes; None where there is no file, or an empty one."""
    try:
        return path.read_bytes() or None
    except FileNotFoundError:
        return None
    except OSError as error:
        raise OutputError(
            str(path), f"cannot be read: {error.strerror}", "take another --output-file"
        ) from error


def _not_ours(path: Path, what: str) -> OutputError:
    return OutputError(str(path), what, "it is left as it is; take another --output-file")
