"""Small traces with one event that is broken in some way."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from typing import Any

from make.kineto_texts import lines_of

_MARK = "@@"

EVENTS: list[dict[str, Any]] = [
    {"ph": "X", "cat": "python_function", "name": "f.py(1): g", "pid": 10, "tid": 10,
     "ts": 900.0, "dur": 50.0, "args": {"Python id": 1}},
    {"ph": "X", "cat": "user_annotation", "name": "A", "pid": 10, "tid": 10,
     "ts": 1000.0, "dur": 100.0, "args": {}},
    {"ph": "X", "cat": "user_annotation", "name": "B", "pid": 10, "tid": 10,
     "ts": 1200.0, "dur": 100.0, "args": {}},
    {"ph": "X", "cat": "gpu_user_annotation", "name": "A", "pid": 0, "tid": 7,
     "ts": 1060.0, "dur": 50.0, "args": {"External id": 5}},
    *(
        event
        for number, at in enumerate((1010, 1030, 1050, 1210, 1230))
        for event in (
            {"ph": "X", "cat": "cpu_op", "name": "aten::mm", "pid": 10, "tid": 10,
             "ts": at - 2.0, "dur": 10.0,
             "args": {"External id": number, "Input Dims": [[2, 3], []], "Concrete": ["", "x"]}},
            {"ph": "X", "cat": "cuda_runtime", "name": "cudaLaunchKernel", "pid": 10, "tid": 10,
             "ts": float(at), "dur": 5.0, "args": {"cbid": 211, "correlation": 100 + number}},
            {"ph": "X", "cat": "kernel", "name": f"gemm_{number}", "pid": 0, "tid": 7,
             "ts": at + 50.0, "dur": 10.0,
             "args": {"device": 0, "stream": 7, "grid": [1, 1, 1], "correlation": 100 + number}},
        )
    ),
    {"ph": "X", "cat": "overhead", "name": "Buffer", "pid": -1, "tid": 0, "ts": 1300.0,
     "dur": 2.0, "args": {"text": "x"}},
]  # fmt: skip

# What is put into a string, behind some letters of it.
TEXTS: dict[str, bytes] = {
    "no UTF-8": b"\xc0\xd0u}\xff\xfe",
    "cut UTF-8": b"\xe2\x82",
    "UTF-8 of half a pair": b"\xed\xa0\x80",
    "Latin 1": b"caf\xe9",
    "control": b"\x01\x1f",
    "line break": b"x\r\ny",
    "half a pair": b"\\ud83d",
    "other half": b"\\udc00x",
    "Windows path": b"C:\\work\\x.py",
    "no escape": b"\\q",
    "cut escape": b"\\u12",
}
QUOTES: dict[str, bytes] = {
    "quotes": b'Library("x", "IMPL")',
    "one quote": b'a"b',
    "backslash at the end": b"C:\\dir\\",
}
NUMBERS = (
    "1e400", "-1", "null", '"12"', "true", "1.5e300", str(2**63), str(2**64), "NaN", "Infinity",
    "-inf", "nan", "[1]", "{}", "",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Broken:
    """A trace and the event that is broken in it.

    way: names the damage. place: of which key. number: of the event, from 1.
    """

    data: bytes
    way: str
    place: str
    number: int


def text_of(events: list[dict[str, Any]], layout: str) -> bytes:
    """A trace in one of Kineto's layouts, or in those of Python's json."""
    if layout in ("new", "old"):
        body = ",".join(lines_of(each, layout) for each in events)
        return (
            f'{{\n  "schemaVersion": 1,\n  "deviceProperties": [\n    {{"id": 0}}\n  ],\n'
            f'  "traceEvents": [{body}\n  ],\n  "traceName": "t.json"\n}}'
        ).encode()
    separators = (",", ":") if layout == "tight" else None
    indent = 1 if layout == "indented" else None
    whole: Any = events if layout == "list" else {"x": [1], "traceEvents": events, "z": [{}]}
    return json.dumps(whole, indent=indent, separators=separators).encode()


LAYOUTS = ("new", "old", "plain", "tight", "indented", "list")


def broken(chance: random.Random) -> Broken:
    """One event of a trace broken at random."""
    events = json.loads(json.dumps(EVENTS))
    number = chance.randrange(len(events))
    event = events[number]
    layout = chance.choice(LAYOUTS)
    if chance.random() < 0.5:
        place = chance.choice(["name", "name", "cat", "ph", "args"])
        way, put = chance.choice([*TEXTS.items(), *(QUOTES.items() if place == "name" else ())])
        if place == "args":
            event["args"]["extra"] = f"y{_MARK}z"
        else:
            event[place] += _MARK
    else:
        place = chance.choice(["ts", "dur", "pid", "tid", "correlation", "External id", "bytes"])
        way = chance.choice(NUMBERS)
        put = way.encode()
        inside = event["args"] if place in ("correlation", "External id", "bytes") else event
        inside[place] = _MARK
        if way == "":
            del inside[place]
    data = text_of(events, layout)
    if way in NUMBERS:
        data = data.replace(f'"{_MARK}"'.encode(), put)
    else:
        data = data.replace(_MARK.encode(), put)
    return Broken(data, way, place, number + 1)
