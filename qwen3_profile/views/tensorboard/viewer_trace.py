"""One trace for TensorBoard's PyTorch tab and Perfetto, from the raw files of a config."""

from __future__ import annotations

import gzip
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec

from qwen3_profile import labels
from qwen3_profile.errors import TraceError
from qwen3_profile.passes.known import Known, MeasuredConfig
from qwen3_profile.run_folder.run_json import ConfigResult
from qwen3_profile.system.files import write_atomic
from qwen3_profile.views.tensorboard.raw_events import BASE_KEY, EVENTS_KEY, RawFile, read_raw
from qwen3_profile.views.tensorboard.rewrite import normalise
from qwen3_profile.views.tensorboard.tracks import device_tracks

# The categories of which the dashboard makes nodes of a thread, whose number has to be one.
_ON_THREADS = frozenset({"cpu_op", "python_function", "runtime", "user_annotation"})
_STEP_CATEGORIES = frozenset({"cpu_op", "gpu_user_annotation", "user_annotation"})


def trace_name(worker: str, time_ns: int) -> str:
    """The file name by which the dashboard finds a trace, its worker and its place among others."""
    return f"{worker}.{time_ns}.pt.trace.json.gz"


def write_viewer_trace(folder: Path, result: ConfigResult) -> ConfigResult:
    """Writes the trace of one config of a run; in place last, for viewers read it but once.

    Returns the result, with the trace's name in it.
    """
    paths = [folder / measurement.trace for measurement in result.measurements]
    data = normalised_trace(paths, MeasuredConfig(folder, result))
    name = trace_name(result.worker, time.time_ns())
    write_atomic(folder / name, gzip.compress(data, compresslevel=6))
    return replace(result, trace=name)


def normalised_trace(paths: Sequence[Path], known: Known | None = None) -> bytes:
    """The JSON text of one trace of all `paths`, as `normalise` describes it.

    Args:
        paths: the raw files of one config, `.json` or `.json.gz`: one session of torch.profiler
            each, of one process, in the order in which they were recorded.
        known: of them, by their run.

    Raises:
        TraceError: a file is no trace or a damaged one, or the result is not what the viewers
            take; the dashboard would show an empty run, and say why in its log alone.
    """
    if not paths:
        raise ValueError("no raw file given")
    files = [read_raw(path) for path in paths]
    result = normalise(files)
    drawn = device_tracks(paths, result.base_time_ns, known)
    text = _document(_header(files, result.base_time_ns), chain(result.events, drawn))
    _check(text, ", ".join(str(path) for path in paths))
    return text


def _header(files: Sequence[RawFile], base_time_ns: int) -> dict[str, Any]:
    """What the files say of themselves; where they differ, the first one's word."""
    header: dict[str, Any] = {}
    for raw in files:
        for key, value in raw.header.items():
            header.setdefault(key, value)
    if base_time_ns:
        header[BASE_KEY] = base_time_ns
    return header


def _document(header: dict[str, Any], events: Iterable[bytes]) -> bytes:
    """The file's text; the events come last, for the dashboard adds its own at the last `]`."""
    start = msgspec.json.encode({**header, EVENTS_KEY: []})
    return start.removesuffix(b"]}") + b"\n" + b",\n".join(events) + b"\n]}"


class _Checked(msgspec.Struct, gc=False):
    ph: str
    name: str
    cat: str | None = None
    tid: int | str | None = None
    ts: float | None = None
    dur: float | None = None


def _check(text: bytes, where: str) -> None:
    """Holds `text` against what makes the dashboard fail, read again as it will read it."""
    try:
        document = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
        events = msgspec.json.decode(document[EVENTS_KEY], type=list[_Checked])
    except msgspec.DecodeError as error:
        raise TraceError(where, f"has an event that viewers do not take: {error}") from error
    if list(document)[-1] != EVENTS_KEY:
        raise TraceError(where, f"{EVENTS_KEY} is not the last key")
    steps: set[str] = set()
    for number, event in enumerate(events):
        fault = _fault(event, steps)
        if fault:
            raise TraceError(where, f"event {number}, {event.name!r}, {fault}")


def _fault(event: _Checked, steps: set[str]) -> str | None:
    """What viewers would not take of `event`; `steps` collects the steps' names."""
    if event.ph != "X":
        return None
    if event.cat is None:
        return "has no category"
    if event.ts is None or event.dur is None or event.dur < 0:
        return "has no start or no duration"
    if event.cat in _ON_THREADS and not isinstance(event.tid, int):
        return f"lies on thread {event.tid!r}, which is no number"
    if event.cat in _STEP_CATEGORIES and event.name.startswith(labels.STEP_PREFIX):
        if event.name in steps:
            return "is there twice; give every session's step a number of its own"
        steps.add(event.name)
    return None
