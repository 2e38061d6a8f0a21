"""A recorder that notes what it is asked for, and traces nothing."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from qwen3_profile.measure.clock import Clock
from qwen3_profile.measure.profiler import Recorder, Traced
from qwen3_profile.measure.ranges import Phase


class NotingRecorder(Recorder):
    """Notes what is done round the passes, and runs these alone."""

    def __init__(self, events: list[str]) -> None:
        super().__init__(torch.device("cpu"))
        self._events = events

    def settle(self, lead_in: Callable[[], None]) -> None:
        self._events.append("settle")

    def timed(self, forward: Callable[[], object]) -> int:
        self._events.append("timed")
        forward()
        return 1000 + len(self._events)

    def clocked(self, forward: Callable[[], object], phase: Phase, clock: Clock) -> int:
        self._events.append("clocked")
        with clock.range(phase):
            forward()
        return 1100 + len(self._events)

    def traced(self, forward: Callable[[], object], *_: Any, **__: Any) -> Traced:
        self._events.append("traced" if gc.isenabled() else "traced without the collector")
        forward()
        return Traced(5000, ("a message",))

    @contextmanager
    def attached(self, lead_in: Callable[[], None]) -> Iterator[None]:
        self._events.append("attached")
        yield
        self._events.append("detached")
