"""Records in, `timing_records.json` and its summary on disk out; earlier records stay."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from qwen3_profile.errors import OutputError
from qwen3_profile.files import only_writer, write_atomic
from qwen3_profile.records import SCHEMA_VERSION, TimingRecord
from qwen3_profile.summary import Summary, config_id

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
    import csv

    new = [row for r in records for single in r.one_by_one() for row in _csv_rows(single)]
    ids = {row["id"] for row in new}
    with only_writer(path):
        kept = [row for row in _read_csv(path) if row["id"] not in ids]
        text = io.StringIO()
        writer = csv.DictWriter(text, _CSV_COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows([*kept, *new])
        write_atomic(path, text.getvalue().encode())


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
    before = b"[\n  "
    for entry in entries:
        yield before + msgspec.json.format(entry, indent=2).replace(b"\n", b"\n  ")
        before = b",\n  "
    yield b"\n]\n" if before[:1] == b"," else b"[]\n"


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


def _read_csv(path: Path) -> list[dict[str, str]]:
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
    return [dict(zip(header, row, strict=True)) for row in rows]


def _csv_rows(record: TimingRecord) -> list[dict[str, Any]]:
    config = record.config
    step = record.traced[0] if record.traced else None
    head = {
        "id": record.id,
        "run": record.facts.run,
        "phase": record.phase,
        "batch_size": config.batch_size if config else "",
        "input_len": config.input_len if config else "",
        "dtype": config.dtype if config else "",
        "run_index": record.run_index,
        "position": step.position if step else "",
        "context_len": step.context_len if step else (config.input_len if config else ""),
    }
    return [
        {
            **head,
            "path": "/".join(path),
            "calls": part.total.calls,
            "cpu_ns": part.total.cpu_ns,
            "cpu_self_ns": part.own.cpu_ns,
            "device_ns": part.total.device_ns,
            "device_self_ns": part.own.device_ns,
            "device_events": part.total.device_events,
            "launch_ns": part.total.launch_ns,
            "gap_ns": part.total.gap_ns,
            "queue_ns": part.total.queue_ns,
        }
        for path, part in record.times.forward.walk()
    ]


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
