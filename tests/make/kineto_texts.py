"""Texts of traces in the layouts that Kineto writes, and both ways of reading them."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from long_trace import write_trace

from make.kineto import forward_pass
from qwen3_profile.errors import ProfileError
from qwen3_profile.trace import Trace, read_trace
from qwen3_profile.trace.fast_events import KinetoText

LAYOUTS = ("new", "old")


def text_of(layout: str, *, gpu: bool = True, steps: int = 1, layers: int = 1) -> str:
    out = io.StringIO()
    write_trace(out, steps, layers=layers, layout=layout, gpu=gpu)
    return out.getvalue()


def letters(trace: Trace) -> dict[str, Any]:
    """Everything in a trace, comparable."""
    found: dict[str, Any] = {"info": trace.info, "names": trace.names, "tracks": trace.tracks}
    for table in ("host", "launches", "device", "gpu_annotations", "autograd"):
        columns = getattr(trace, table)
        for column in dataclasses.fields(columns):
            values = getattr(columns, column.name)
            if column.name == "launch_config":
                values = np.array([*trace.configs_of(columns), None])
            found[f"{table}.{column.name}"] = (str(values.dtype), values.tolist())
    found["messages"] = dict(trace.messages)
    return found


def document_of(events: list[dict[str, Any]], layout: str) -> bytes:
    joined = ",".join(lines_of(event, layout) for event in events)
    return f'{{\n  "traceEvents": [{joined}\n  ]\n}}'.encode()


EVENTS: list[dict[str, Any]] = [json.loads(text) for text in forward_pass(1)]
TRAINED: list[dict[str, Any]] = [
    *EVENTS,
    {"ph": "X", "cat": "cpu_op", "name": "aten::mm", "pid": 100, "tid": 1, "ts": 3.5, "dur": 2,
     "args": {"External id": 7, "Sequence number": 3, "Fwd thread id": 0}},
    {"ph": "X", "cat": "cpu_op", "name": "autograd::engine::evaluate_function: MmBackward0",
     "pid": 100, "tid": 2, "ts": 30.5, "dur": 2,
     "args": {"Sequence number": 3, "Fwd thread id": 1}},
    {"ph": "X", "cat": "python_function", "name": "nn.Module: Linear_0", "pid": 100, "tid": 1,
     "ts": 3.001, "dur": 2.25, "args": {"Python id": 1}},
    {"ph": "X", "cat": "python_function", "name": "f.py(1): g", "pid": 100, "tid": 1, "ts": 3,
     "dur": 2, "args": {"Python id": 1}},
    {"ph": "X", "cat": "kernel", "name": "ncclDevKernel_AllReduce", "pid": 0, "tid": 7, "ts": 31,
     "dur": 2, "args": {"correlation": 77, "Collective name": "allreduce", "In msg nelems": 8,
                        "dtype": "Float", "Process Group Ranks": "[0, 1]"}},
    {"ph": "s", "id": 5, "pid": 100, "tid": 1, "ts": 3, "cat": "ac2g", "name": "ac2g"},
    {"ph": "X", "cat": "overhead", "name": "Buffer", "pid": -1, "tid": "0", "ts": 3.125, "dur": 2},
    {"ph": "X", "cat": "gpu_memcpy", "name": 'a "quoted" \\ name', "pid": 0, "tid": 7,
     "ts": 1712195495984501, "dur": 2, "args": {"bytes": 4, "correlation": 31, "x": {"y": [1]}}},
]  # fmt: skip


TEXTS = {
    f"{layout}, {'GPU' if gpu else 'CPU'}": text_of(layout, gpu=gpu)
    for layout in LAYOUTS
    for gpu in (True, False)
}


class Watched:
    """Counts the chunks that the fast reading read, or lets it read none."""

    def __init__(self, patch: pytest.MonkeyPatch, *, fast: bool) -> None:
        self.read = self.left = 0
        before = KinetoText.read

        def read(text: KinetoText, *args: Any) -> Any:
            blocks = before(text, *args) if fast else None
            self.read += blocks is not None
            self.left += blocks is None
            return blocks

        patch.setattr(KinetoText, "read", read)


def outcome(path: Path, *, fast: bool) -> tuple[Trace | str, Watched]:
    with pytest.MonkeyPatch.context() as patch:
        watched = Watched(patch, fast=fast)
        try:
            return read_trace(path, launch_columns=True), watched
        except ProfileError as error:
            return str(error), watched


def assert_read_alike(path: Path) -> None:
    """Both readings give the same columns, or refuse the file in the same words."""
    fast, _ = outcome(path, fast=True)
    general, _ = outcome(path, fast=False)
    if isinstance(fast, Trace) and isinstance(general, Trace):
        assert letters(fast) == letters(general)
    else:
        assert fast == general


def check_same(path: Path) -> Watched:
    fast, watched = outcome(path, fast=True)
    general, _ = outcome(path, fast=False)
    assert isinstance(fast, Trace), fast
    assert isinstance(general, Trace), general
    assert letters(fast) == letters(general)
    return watched


def lines_of(event: dict[str, Any], layout: str) -> str:
    """An event of any fields as Kineto would write it, as far as it has those of an event."""
    fields = {key: json.dumps(value) for key, value in event.items() if key != "args"}
    args = json.dumps(event["args"])[1:-1] if isinstance(event.get("args"), dict) else ""
    if layout == "new":
        head = ",\n    ".join(f'"{key}": {value}' for key, value in fields.items())
        tail = f'\n    ,\n    "args": {{\n      {args}\n    }}' if args else "\n    "
    else:
        times = [f'"{key}": {fields.pop(key)}' for key in ("ts", "dur") if key in fields]
        head = ", ".join(f'"{key}": {value}' for key, value in fields.items())
        head += ",\n    " * bool(times) + ", ".join(times)
        tail = f',\n    "args": {{\n      {args}\n    }}' if args else ""
    return f"\n  {{\n    {head}{tail}\n  }}"
