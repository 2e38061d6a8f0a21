"""The wall-clock of a forward pass and its trace; bare, or under the profiler.

A session of the profiler leaves CUPTI attached to the process, and every later launch pays for
it: on an H200 a launch-bound forward pass took 22 ms before the first session and 30 ms after it.
So CUPTI is told to detach (`TEARDOWN_CUPTI`), which it does during the next CUDA call. A session
that begins before it has detached records nothing of the device, one that begins while it does can
hang (kineto PR 1554), and so can a process that ends with no CUDA call after its last session: each
session makes such calls itself at its end (`_detach`). A forward pass that is not timed (`settle`)
then warms caches and clocks, and the bare one that follows is bare. Sessions of the user's own are
theirs: what ours ask of CUPTI is asked while they run, and taken back at their end.
"""

from __future__ import annotations

import contextlib
import os
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch._C._profiler import _ExperimentalConfig
from torch.profiler import ProfilerActivity, profile

from qwen3_profile.measure import instrument
from qwen3_profile.measure.clock import Clock
from qwen3_profile.measure.cupti import record_kernels_only
from qwen3_profile.measure.nvml import is_nvidia
from qwen3_profile.measure.profiler_log import kept_log
from qwen3_profile.measure.ranges import Phase, redirect_ranges
from qwen3_profile.measure.sm_clock import SmClockReader
from qwen3_profile.measure.trace_file import export_trace
from qwen3_profile.system.collector import no_collections

# Read by Kineto when a session ends. The user's own choice stands.
_TEARDOWN = "TEARDOWN_CUPTI"
_DETACH, _STAY = "1", "0"
# The thread on which Kineto detaches CUPTI tells nobody when it is ready for a CUDA call, nor when
# it is done with it: both take it a few milliseconds.
_DETACH_CALLS = 4
_DETACH_WAIT_S = 0.025


@dataclass(frozen=True, slots=True)
class Traced:
    """A traced forward pass: its wall-clock in ns, and what the profiler complained of."""

    profiled_ns: int
    messages: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DeviceTraced:
    """A pass of which the device's work alone was recorded.

    started_ns: when it began, by the clock of the trace: since 1970.
    loud: why calls of driver and runtime were recorded all the same; empty if they were not.
    """

    wall_ns: int
    started_ns: int
    loud: str
    messages: tuple[str, ...]


class Recorder:
    """Times and traces forward passes on one device.

    Args:
        device: where they run; it is synchronised before and after each.
        meet: called before each, for ranks to begin it together.
    """

    def __init__(self, device: torch.device, meet: Callable[[], None] = lambda: None) -> None:
        self.device = device
        self.meet = meet
        self.sm_clock = SmClockReader(device)
        self._activities = _activities(device)
        self._teardown = os.environ.get(_TEARDOWN, _DETACH)

    def timed(self, forward: Callable[[], object]) -> int:
        """Wall-clock of one bare forward pass in ns, with the device idle before and after."""
        with no_collections():
            self._begin()
            start = time.perf_counter_ns()
            forward()
            return self._end(start)

    def clocked(self, forward: Callable[[], object], phase: Phase, clock: Clock) -> int:
        """Wall-clock in ns, as of a bare pass, of one whose labels stamp `clock`."""
        with no_collections(), redirect_ranges(clock.range):
            self._begin()
            clock.clear()
            start = time.perf_counter_ns()
            with clock.range(phase):
                forward()
            return self._end(start)

    @property
    def can_see_device_alone(self) -> bool:
        """Whether there is a device whose work can be recorded without the host's."""
        return is_nvidia(self.device)

    def device_only(
        self, forward: Callable[[], object], lead_in: Callable[[], None], path: Path
    ) -> DeviceTraced:
        """One pass while the device's work alone is recorded; the trace goes to `path`.

        Raises:
            OutputError: the trace cannot be written.
        """
        messages: list[str] = []
        profiler = profile(activities=self._activities[1:], experimental_config=_cheaper())
        with self._session(profiler, lead_in, messages), no_collections():
            loud = record_kernels_only()
            self._begin()
            started_ns, start = time.time_ns(), time.perf_counter_ns()
            forward()
            elapsed = self._end(start)
        export_trace(profiler, path)
        # What could not be written here is told to the other ranks, which would wait for this one.
        self.meet()
        return DeviceTraced(elapsed, started_ns, loud, tuple(messages))

    def traced(
        self,
        forward: Callable[[], object],
        lead_in: Callable[[], None],
        phase: Phase,
        step: int,
        path: Path,
        keep: Callable[[profile], object] | None = None,
        memory: bool = False,
    ) -> Traced:
        """The same under profiler and, where they are installed, labels; the trace goes to `path`.

        Args:
            forward: runs once.
            lead_in: on a device runs before `forward`, and is not recorded.
            phase, step: the forward pass's label, and k of its `ProfilerStep#k`.
            keep: is given the session after its end, for figures of its own.
            memory: record each block of memory, too.

        Raises:
            OutputError: the trace cannot be written.
        """
        messages: list[str] = []
        profiler = profile(
            activities=self._activities, experimental_config=_cheaper(), profile_memory=memory
        )
        with self._session(profiler, lead_in, messages), no_collections():
            self._begin()
            start = time.perf_counter_ns()
            with instrument.step(step):
                with instrument.phase(phase):
                    forward()
                self.synchronize()
                elapsed = time.perf_counter_ns() - start
            self.sm_clock.read()
        export_trace(profiler, path)
        self.meet()
        if keep is not None:
            keep(profiler)
        return Traced(elapsed, tuple(messages))

    def synchronize(self) -> None:
        """Waits until the device has done all its work."""
        if self.device.type != "cpu":
            torch.get_device_module(self.device).synchronize(self.device)

    def _begin(self) -> None:
        """An idle device, on all ranks at once."""
        self.synchronize()
        self.sm_clock.read()
        self.meet()

    def _end(self, start: int) -> int:
        """Waits until the device has done all its work; ns since `start`."""
        self.synchronize()
        elapsed = time.perf_counter_ns() - start
        self.sm_clock.read()
        return elapsed

    def settle(self, lead_in: Callable[[], None]) -> None:
        """Lets clocks and caches recover from what ran before; nothing is timed."""
        if self.device.type != "cpu":
            lead_in()
            self.synchronize()

    @contextlib.contextmanager
    def attached(self, lead_in: Callable[[], None]) -> Iterator[None]:
        """Keeps CUPTI attached in the block, between its sessions too; it detaches at the end.

        For graphs: one that is captured in the block is known to CUPTI from its first node on, and
        none must live through a detachment. The capture itself lies in no session: one that spans
        it leaves the next with kernels that have no timestamps.
        """
        if self.device.type != "cuda":
            yield
            return
        self.settle(lead_in)
        try:
            with self.kept_attached(lead_in):
                self._idle_session(lead_in)
                yield
        finally:
            self.settle(lead_in)

    @contextlib.contextmanager
    def kept_attached(self, lead_in: Callable[[], None]) -> Iterator[None]:
        """Lets CUPTI stay from one session of the block to the next, and go at its end.

        Between them nothing is timed bare, and to let it go takes a tenth of a second of waiting.
        It goes in a session that nobody reads: one that lets it go after others that did not
        records nothing of the device (H200, torch 2.11).
        """
        if self.device.type != "cuda" or self._teardown == _STAY:
            yield
            return
        before, self._teardown = self._teardown, _STAY
        try:
            yield
        except BaseException:
            self._teardown = before
            # After an error that the device does not survive, that error is the one to tell. No
            # pass leads in: the other ranks, which it would wait for, are not in it.
            with contextlib.suppress(RuntimeError):
                self._idle_session(lambda: None)
            raise
        self._teardown = before
        self._idle_session(lead_in)

    def detach_others(self, lead_in: Callable[[], None]) -> None:
        """Lets CUPTI go, which a session of the user's own has left attached to the process."""
        if self.device.type == "cuda":
            self._idle_session(lead_in)
            self.settle(lead_in)

    def _idle_session(self, lead_in: Callable[[], None]) -> None:
        """A session that nobody reads; at its end CUPTI stays or goes, as it has been told."""
        profiler = profile(activities=self._activities, experimental_config=_cheaper())
        with self._session(profiler, lead_in, []):
            lead_in()
            self.synchronize()

    @contextlib.contextmanager
    def _session(
        self, profiler: profile, lead_in: Callable[[], None], messages: list[str]
    ) -> Iterator[None]:
        """One session of the profiler; it is stopped whatever happens."""
        with _environment(_TEARDOWN, self._teardown):
            with kept_log(messages), _no_word_of_cycles():
                profiler.prepare_trace()
            try:
                try:
                    if self.device.type != "cpu":
                        # Until its buffers are there CUPTI delays launches.
                        # Its kernels must have ended, or they are recorded without their launches.
                        lead_in()
                        self.synchronize()
                finally:
                    with kept_log(messages), _no_word_of_cycles():
                        profiler.start_trace()
                yield
            finally:
                with kept_log(messages):
                    profiler.stop_trace()
                self._detach()

    def _detach(self) -> None:
        """Makes CUDA calls, during one of which Kineto detaches CUPTI if it has been told to."""
        if self.device.type != "cuda" or self._teardown == _STAY:
            return
        for _ in range(_DETACH_CALLS):
            time.sleep(_DETACH_WAIT_S)
            # After an error that the device does not survive, that error is the one to tell.
            with contextlib.suppress(RuntimeError):
                self.synchronize()


@contextlib.contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    """The variable, set in the block; after it as it was."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


@contextlib.contextmanager
def _no_word_of_cycles() -> Iterator[None]:
    """torch warns, in one call or another, that a session keeps its own events only; it should."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*Profiler clears events")
        yield


def _activities(device: torch.device) -> list[ProfilerActivity]:
    """The CPU's activity, and the device's where torch can record it."""
    name = {"cuda": "CUDA", "xpu": "XPU", "mtia": "MTIA", "hpu": "HPU"}.get(device.type)
    wanted = getattr(ProfilerActivity, name, None) if name else None
    supported = torch.profiler.supported_activities()  # type: ignore[no-untyped-call]
    if wanted is None or wanted not in supported:
        return [ProfilerActivity.CPU]
    return [ProfilerActivity.CPU, wanted]


def _cheaper() -> _ExperimentalConfig | None:
    """Leaves out what every op costs a call into CUPTI for, and what nothing here needs.

    Device events are found by the correlation id of their launch; the External id would name the
    op, which encloses the launch anyway. On an H200 a traced decode step of Qwen3-0.6B took 40 ms
    without them and 45 ms with them.
    """
    try:
        return _ExperimentalConfig(disable_external_correlation=True)
    except TypeError:  # torch before 2.7
        return None
