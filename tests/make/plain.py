"""The account of a trace by plain reading: json, Decimal and loops; nothing of the reader's.

Slow, and simple enough to be believed: what tests hold the ledger against.
"""

from __future__ import annotations

import decimal
import gzip
import json
from collections import Counter, defaultdict
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from qwen3_profile import labels
from qwen3_profile.attribution.selection import is_framework

KERNELS = {"kernel", "gpu_memcpy", "gpu_memset", "Kernel", "Memcpy", "Memset"}
RUNTIME = {
    "cuda_runtime",
    "runtime",
    "Runtime",
    "xpu_runtime",
    "mtia_runtime",
    "privateuse1_runtime",
}
DRIVER = {"cuda_driver", "xpu_driver", "privateuse1_driver"}

TICK = 1000

_EXACT = decimal.Context(prec=400)


@dataclass
class Range:
    """A host range, a launch or a device event; `place` is its (pid, tid)."""

    name: str
    cat: str
    place: tuple[str, str]
    start: int
    end: int
    correlation: int | None = None

    @property
    def dur(self) -> int:
        return self.end - self.start


@dataclass
class Plain:
    """The events of a file, sorted into what they are."""

    host: list[Range]
    launches: list[Range]
    device: list[Range]
    gpu_annotations: list[Range]

    def launch_of(self) -> list[Range | None]:
        """For each device event its launch: of one id the first call, of nested ones the outer."""
        found: dict[int, Range] = {}
        for call in sorted(self.launches, key=lambda c: (c.start, -c.dur, c.cat in DRIVER)):
            if call.correlation is not None:
                found.setdefault(call.correlation, call)
        return [
            None if event.correlation is None else found.get(event.correlation)
            for event in self.device
        ]

    def busy(self) -> dict[str, int]:
        """By device: at how many nanoseconds anything ran there, counted edge by edge."""
        edges: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for event in self.device:
            edges[event.place[0]] += [(event.start, 1), (event.end, -1)]
        found = {}
        for device, times in edges.items():
            busy = running = since = 0
            for time, change in sorted(times):
                if running:
                    busy += time - since
                running += change
                since = time
            found[device] = busy
        return found

    def innermost(self) -> list[str | None]:
        """For each device event the innermost label at its launch, by looking at every label."""
        by_thread = self._labels()
        found = []
        for call in self.launch_of():
            if call is None:
                found.append(None)
                continue
            name = _innermost(by_thread.get(call.place, []), call.start)
            if name is None:
                others = [_innermost(each, call.start) for each in by_thread.values()]
                opened = [other for other in others if other is not None]
                name = opened[0] if len(opened) == 1 else None
            found.append(name)
        return found

    def self_ns(self) -> Counter[str]:
        """By label: the time of the device events whose innermost label it is."""
        found: Counter[str] = Counter()
        for event, name in zip(self.device, self.innermost(), strict=True):
            if name is not None and event.dur:
                found[name] += event.dur
        return found

    def _labels(self) -> dict[tuple[str, str], list[Range]]:
        by_thread: dict[tuple[str, str], list[Range]] = defaultdict(list)
        for event in self.host:
            noise = is_framework(event.name)
            if (event.cat == "user_annotation" and not noise) or labels.parse(event.name):
                by_thread[event.place].append(event)
        return {place: _cut(events) for place, events in by_thread.items()}


def _cut(events: list[Range]) -> list[Range]:
    """In the order in which they open; what outlives the range around it by a tick is cut."""
    ordered = sorted(events, key=lambda e: (e.start, -e.dur, labels.depth(e.name), e.name))
    found: list[Range] = []
    open_now: list[Range] = []
    for event in ordered:
        open_now = [outer for outer in open_now if outer.end > event.start]
        end = event.end
        if open_now and open_now[-1].end < end <= open_now[-1].end + TICK:
            end = open_now[-1].end
        cut = Range(event.name, event.cat, event.place, event.start, end)
        found.append(cut)
        open_now.append(cut)
    return found


def _innermost(events: list[Range], time: int) -> str | None:
    return next((e.name for e in reversed(events) if e.start <= time < e.end), None)


def plain(data: bytes) -> Plain:
    """What the file holds. Raises whatever json and arithmetic raise of a file that is broken."""
    if data[:2] == b"\x1f\x8b":
        data = gzip.decompress(data)
    # numbers stay text until they are made into integers; a float64 would round them
    document = json.loads(data.decode(errors="replace"), parse_float=_number, parse_int=_number)
    events = document if isinstance(document, list) else document["traceEvents"]
    found = Plain([], [], [], [])
    for event in events:
        if event.get("ph") != "X":
            continue
        table = _table(found, event.get("cat"))
        if table is found.gpu_annotations:
            # No figure depends on them, so that one that cannot be used is passed over.
            with suppress(KeyError, ValueError, TypeError, ArithmeticError):
                table.append(_range(event))
        elif table is not None:
            table.append(_range(event))
    return found


def _number(text: str) -> decimal.Decimal:
    return decimal.Decimal(text)


def _table(found: Plain, cat: str) -> list[Range] | None:
    if cat in KERNELS:
        return found.device
    if cat in RUNTIME | DRIVER:
        return found.launches
    if cat in {"user_annotation", "cpu_op", "Operator"}:
        return found.host
    return found.gpu_annotations if cat == "gpu_user_annotation" else None


def _range(event: dict[str, Any]) -> Range:
    start, dur = nanoseconds(event["ts"]), nanoseconds(event["dur"])
    linked = event["cat"] in KERNELS | RUNTIME | DRIVER
    correlation = (event.get("args") or {}).get("correlation") if linked else None
    return Range(
        name=event["name"],
        cat=event["cat"],
        place=(_place(event["pid"]), _place(_thread(event))),
        start=start,
        end=start + dur,
        correlation=int(correlation) if correlation else None,  # 0 is no id
    )


def _thread(event: dict[str, Any]) -> decimal.Decimal | str:
    """A device may have no streams."""
    tid = event.get("tid") if event["cat"] in KERNELS else event["tid"]
    return "" if tid is None and event["cat"] in KERNELS else tid


def _place(given: decimal.Decimal | str) -> str:
    return given if isinstance(given, str) else str(int(given))


def nanoseconds(us: decimal.Decimal) -> int:
    return int(_EXACT.multiply(us, decimal.Decimal(1000)).to_integral_value())
