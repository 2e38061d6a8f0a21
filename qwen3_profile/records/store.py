"""The files `timing_records.json` and its summary; what earlier runs wrote in them stays."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from qwen3_profile.errors import OutputError, warn
from qwen3_profile.records.record import TimingRecord
from qwen3_profile.records.record_json import SCHEMA_VERSION
from qwen3_profile.records.summary import Summary, config_id
from qwen3_profile.run_folder.layout import SCALING_FILE, SUMMARY_FILE
from qwen3_profile.system.files import is_special, only_writer, refuse_read_only, write_atomic

Entry = Mapping[str, Any]
Write = Callable[[Iterable[bytes]], None]

# Each config reads and writes whole files; from here on that is no small part of a config's time.
_DEAR_CPU_S = 1.0


def check_json(path: Path) -> None:
    """Makes sure that records can be merged into `path`, before anything is measured.

    Raises:
        OutputError: a file is there that is not ours, or not readable.
    """
    if path.name in (SUMMARY_FILE, SCALING_FILE):
        what = "is the name of a file beside the records"
        raise OutputError(str(path), what, "take another --output-file")
    for file in (path, path.with_name(SUMMARY_FILE)):
        _read_entries(file)
        refuse_read_only(file)


def save_json(path: Path, records: Sequence[TimingRecord]) -> None:
    """Merges records into `path` by id, and their configs' summaries into the file next to it.

    Raises:
        OutputError: a file is not ours, or cannot be written; it is then as it was.
    """
    before_s = time.thread_time()
    new = {record.id: record.to_json for record in records}
    with _merging(path) as (known, write):
        summaries = _told_again(path, known.keys() | new.keys(), new)
        write(_entries(known, new, summaries))
        # Before another run may add records: its summaries would be newer than these.
        told = {name: each.to_json for name, each in summaries.items()}
        with _merging(path.with_name(SUMMARY_FILE)) as (known, write):
            write(_entries(known, told, {}))
    _tell_dear(path, time.thread_time() - before_s)


def save_entries(path: Path, entries: Mapping[str, Callable[[], Entry]]) -> None:
    """Merges other entries of a run into the list at `path`, by their ids.

    Raises:
        OutputError: the file is not ours, or cannot be written; it is then as it was.
    """
    with _merging(path) as (known, write):
        write(_entries(known, entries, {}))


def json_text(records: Sequence[TimingRecord]) -> bytes:
    """The records as a file of their own has them."""
    return b"".join(_list_text(_entries({}, {each.id: each.to_json for each in records}, {})))


def drop_run(path: Path, run_id: str) -> bool:
    """Takes the records of a run out of `path`, and what else is told of it out of files beside it.

    Returns whether there was any.

    Raises:
        OutputError: a file is not ours, or cannot be written; it is then as it was.
    """
    found = False
    for file in (path, path.with_name(SUMMARY_FILE), path.with_name(SCALING_FILE)):
        if any(_is_of(name, run_id) for name in _read_entries(file)):
            found = True
            with _merging(file) as (known, write):
                write(bytes(text) for name, text in known.items() if not _is_of(name, run_id))
    return found


def _is_of(name: str, run_id: str) -> bool:
    return name.startswith(f"{run_id}-c")


def _tell_dear(path: Path, cpu_s: float) -> None:
    """Tells what a merge has cost, if that is more than a user would give for it unasked."""
    if cpu_s <= _DEAR_CPU_S:
        return
    size = 0
    for file in (path, path.with_name(SUMMARY_FILE)):
        with contextlib.suppress(OSError):
            size += file.stat().st_size
    warn(
        f"{path}: is {size / 1e6:.0f} MB with its summary, and to add to it took {cpu_s:.1f} s of "
        "CPU, as it does for each config; take another --output-file, or remove older runs "
        "(qwen3-profile rm)"
    )


def _told_again(path: Path, names: Iterable[str], new: Iterable[str]) -> dict[str, Summary]:
    """A summary to be made of each config that has new records, or whose summary is of fewer or
    more records than there are, as a kill between the two files leaves it.

    Args:
        names: the ids of all records.
    """
    runs = Counter(map(config_id, names))
    summarised = _read_entries(path.with_name(SUMMARY_FILE))
    for name, text in summarised.items():
        if runs[name] == _decode_runs(text).runs:
            del runs[name]
    return {name: Summary() for name in dict.fromkeys((*map(config_id, new), *sorted(runs)))}


@contextlib.contextmanager
def _merging(path: Path) -> Iterator[tuple[dict[str, msgspec.Raw], Write]]:
    """The entries of the list at `path`, and what writes others in their place; for one writer."""
    with only_writer(path):
        yield _read_entries(path), lambda entries: write_atomic(path, _list_text(entries))


def _entries(
    known: Mapping[str, msgspec.Raw],
    new: Mapping[str, Callable[[], Entry]],
    summaries: Mapping[str, Summary],
) -> Iterator[bytes]:
    """The text of each entry of the merged list: those of the same id replaced, others at its end.

    Never are more of them in memory than one, but for their text.

    Args:
        new: what makes each entry, by its id.
        summaries: are told of each entry of their config that is in the list then, in its order.
    """
    for name in dict.fromkeys((*known, *new)):
        summary = summaries.get(config_id(name))
        if name in new:
            entry = new[name]()
            text = _indented(msgspec.json.encode(entry))
        else:
            text = bytes(known[name])
            entry = msgspec.json.decode(text) if summary else {}
        if summary is not None:
            summary.add(entry)
        yield text


def _indented(entry: bytes) -> bytes:
    """An entry as it stands in a list, from its first brace to its last."""
    alone: bytes = msgspec.json.format(b"[" + entry + b"]", indent=2)
    return alone[len(b"[\n  ") : -len(b"\n]")]


def _list_text(entries: Iterable[bytes]) -> Iterator[bytes]:
    """The text of a list, piece by piece. What was in the file stands as it stood."""
    before = b"[\n  "
    for entry in entries:
        yield before + entry
        before = b",\n  "
    yield b"[]\n" if before.startswith(b"[") else b"\n]\n"


def _read_entries(path: Path) -> dict[str, msgspec.Raw]:
    """The text of each entry of the list at `path`, by its id."""
    text = read_text(path)
    if text is None:
        return {}
    try:
        heads = [(_decode_head(each), each) for each in _decode_list(text)]
    except msgspec.ValidationError as error:
        raise not_ours(path, "holds something else than our records") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise not_ours(path, f"is not JSON: {error}") from error
    newest = max((head.schema_version for head, _ in heads), default=0)
    if newest > SCHEMA_VERSION:
        raise OutputError(
            str(path), f"was written by a newer qwen3_profile (schema {newest})", "upgrade it"
        )
    return {head.id: text for head, text in heads}


class _Head(msgspec.Struct):
    """What every entry of ours has."""

    id: str
    schema_version: int


class _Runs(msgspec.Struct):
    """Of how many records a summary is."""

    runs: object = None


_decode_head = msgspec.json.Decoder(_Head).decode
_decode_runs = msgspec.json.Decoder(_Runs).decode
_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode


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
