"""The files `timing_records.json` and its summary; what earlier runs wrote in them stays."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from qwen3_profile.errors import OutputError
from qwen3_profile.records.record import TimingRecord
from qwen3_profile.records.record_json import SCHEMA_VERSION
from qwen3_profile.records.summary import Summary, config_id
from qwen3_profile.system.files import is_special, only_writer, refuse_read_only, write_atomic

SUMMARY_FILE = "timing_summary.json"

Entry = Mapping[str, Any]


def check_json(path: Path) -> None:
    """Makes sure that records can be merged into `path`, before anything is measured.

    Raises:
        OutputError: a file is there that is not ours, or not readable.
    """
    if path.name == SUMMARY_FILE:
        raise OutputError(str(path), "is the summary's own name", "take another --output-file")
    for file in (path, path.with_name(SUMMARY_FILE)):
        _read_entries(file)
        refuse_read_only(file)


def save_json(path: Path, records: Sequence[TimingRecord]) -> None:
    """Merges records into `path` by id, and their configs' summaries into the file next to it.

    Raises:
        OutputError: a file is not ours, or cannot be written; it is then as it was.
    """
    summaries = {config_id(record.id): Summary() for record in records}
    _merge(path, {record.id: record.to_json for record in records}, summaries)
    _merge(
        path.with_name(SUMMARY_FILE), {name: each.to_json for name, each in summaries.items()}, {}
    )


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
    text = read_text(path)
    if text is None:
        return {}
    try:
        entries = {}
        newest = 0
        for each in _decode_list(text):
            entry = msgspec.json.decode(each)
            if not _is_ours(entry):
                raise not_ours(path, "holds something else than our records")
            newest = max(newest, entry["schema_version"])
            entries[entry["id"]] = each
    except msgspec.ValidationError as error:
        raise not_ours(path, "holds something else than our records") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise not_ours(path, f"is not JSON: {error}") from error
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


def read_text(path: Path) -> bytes | None:
    """The bytes of a file that records are merged into; None where there is none, or no text.

    Raises:
        OutputError: it cannot be read.
    """
    try:
        return None if is_special(path) else path.read_bytes() or None
    except FileNotFoundError:
        return None
    except OSError as error:
        raise OutputError(
            str(path), f"cannot be read: {error.strerror}", "take another --output-file"
        ) from error


def not_ours(path: Path, what: str) -> OutputError:
    """What a file that is something else is refused with."""
    return OutputError(str(path), what, "it is left as it is; take another --output-file")
