"""Labels that read the host's clock, with no profiler: what the parts of a pass take undisturbed.

The profiler makes a launch-bound pass 1.6 to 2.1 times as long, and not all parts alike. A label
here is two readings of `time.perf_counter_ns` and four appends to a list.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from types import MappingProxyType, TracebackType
from typing import Any

from qwen3_profile.measure.patching import Function, Patches
from qwen3_profile.measure.ranges import phase_of
from qwen3_profile.run_folder.clocked import ClockedLabels

# In the list of what happened, where a label ends; those that begin are numbers from 0.
_END = -1
_NO_LABELS: Mapping[str, int] = MappingProxyType({})


class Clock:
    """Stamps the begin and the end of labels; of one thread after the other."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        # In turn a label's number, or `_END`, and the time.
        self._stamps: list[int] = []
        # The labels of functions where the pass is now; one cell, which all wrappers share.
        self._open: list[Mapping[str, int]] = [_NO_LABELS]

    def inside_range(self, original: Function, label: str, block: Patches) -> Function:
        """As `ranges.inside_range`."""
        number, append, now = self._number(label), self._stamps.append, time.perf_counter_ns

        @functools.wraps(original, updated=())
        def clocked(*args: Any, **kwargs: Any) -> Any:
            append(number)
            append(now())
            try:
                return original(*args, **kwargs)
            finally:
                append(_END)
                append(now())

        return clocked

    def inside_phase(self, original: Function, block: Patches) -> Function:
        """As `ranges.inside_phase`."""

        @functools.wraps(original, updated=())
        def clocked(*args: Any, **kwargs: Any) -> Any:
            with self.range(phase_of(args, kwargs)):
                return original(*args, **kwargs)

        return clocked

    def inside_scope(
        self, original: Function, labels: Mapping[str, str], block: Patches
    ) -> Function:
        """As `ranges.inside_scope`."""
        numbers = {part: self._number(label) for part, label in labels.items()}
        opened = self._open

        @functools.wraps(original, updated=())
        def scoped(*args: Any, **kwargs: Any) -> Any:
            before = opened[0]
            opened[0] = numbers
            try:
                return original(*args, **kwargs)
            finally:
                opened[0] = before

        return scoped

    def part_of_scope(self, original: Function, part: str) -> Function:
        """As `ranges.part_of_scope`."""
        opened, append, now = self._open, self._stamps.append, time.perf_counter_ns

        @functools.wraps(original, updated=())
        def clocked(*args: Any, **kwargs: Any) -> Any:
            labels = opened[0]
            if part not in labels:
                return original(*args, **kwargs)
            opened[0] = _NO_LABELS
            append(labels[part])
            append(now())
            try:
                return original(*args, **kwargs)
            finally:
                append(_END)
                append(now())
                opened[0] = labels

        return clocked

    def range(self, label: str) -> _Range:
        """A block inside `label`."""
        return _Range(self._stamps, self._number(label))

    def clear(self) -> None:
        """Forgets what was stamped: by a pass that failed, or one that nobody times."""
        self._stamps.clear()

    def take(self) -> ClockedLabels:
        """What was stamped since the last time, in order of the begins; times from the first."""
        stamps = self._stamps[:]
        self.clear()
        label: list[int] = []
        start_ns: list[int] = []
        dur_ns: list[int] = []
        waiting: list[int] = []
        for what, at in zip(stamps[::2], stamps[1::2], strict=True):
            if what == _END:
                place = waiting.pop()
                dur_ns[place] = at - stamps[1] - start_ns[place]
                continue
            waiting.append(len(label))
            label.append(what)
            start_ns.append(at - stamps[1])
            dur_ns.append(0)
        return ClockedLabels(tuple(self._numbers), label, start_ns, dur_ns)

    def _number(self, label: str) -> int:
        return self._numbers.setdefault(label, len(self._numbers))


class _Range:
    """One label round a block."""

    __slots__ = ("_number", "_stamps")

    def __init__(self, stamps: list[int], number: int) -> None:
        self._stamps, self._number = stamps, number

    def __enter__(self) -> None:
        self._stamps += (self._number, time.perf_counter_ns())

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stamps += (_END, time.perf_counter_ns())
