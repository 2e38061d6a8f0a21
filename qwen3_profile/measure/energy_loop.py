"""The energy of a phase: the driver's counter, round a loop of bare passes that takes seconds.

NVML's counter is in millijoules since the driver was loaded, from Volta on. It moves every 20 to
100 ms, so that no single pass can be read from it, and no part of one: a part that is looped by
itself has other clocks and finds its operands in a cache.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import pairwise
from statistics import median

import torch

from qwen3_profile.errors import in_words
from qwen3_profile.measure.executions import Execution
from qwen3_profile.measure.gpu_state import gpu_state
from qwen3_profile.measure.nvml import is_nvidia, nvml_of
from qwen3_profile.measure.pass_kinds import BARE, PassSeries
from qwen3_profile.measure.profiler import Recorder
from qwen3_profile.measure.ranges import Phase
from qwen3_profile.run_folder.energy import Energy
from qwen3_profile.system import signals

_NS_PER_S = 10**9
_WARM_UP_NS, _LOOP_NS, _IDLE_NS = _NS_PER_S, 3 * _NS_PER_S, _NS_PER_S
_POLL_S = 0.002


class NoEnergyError(Exception):
    """Why no energy is measured, in words for the user."""


def measure_energy(execution: Execution, recorder: Recorder) -> tuple[dict[Phase, Energy], str]:
    """The energy of each phase, and why there is none of some; empty where all have it.

    Whatever goes wrong costs the energy, not the measurement.
    """
    found: dict[Phase, Energy] = {}
    try:
        counter = counter_of(recorder.device)
        with closing(execution.passes(BARE)) as passes:
            for series in passes:
                if not series.variant:
                    found[series.phase] = loop_energy(series, recorder, counter)
    except NoEnergyError as error:
        return found, str(error)
    except Exception as error:  # the model's code is not ours, and may raise anything
        return found, in_words(error)
    return found, ""


def counter_of(device: torch.device) -> Callable[[], int]:
    """Reads the energy that a device has taken, in millijoules.

    Raises:
        NoEnergyError: nobody tells.
    """
    if not is_nvidia(device):
        raise NoEnergyError(
            f"only the driver of an NVIDIA GPU counts it, and this is {device.type}"
        )
    nvml, handle = nvml_of(device)
    if nvml is None:
        raise NoEnergyError("nvidia-ml-py is not installed: pip install nvidia-ml-py")
    ask = getattr(nvml, "nvmlDeviceGetTotalEnergyConsumption", None)
    try:
        if handle is None or ask is None:
            raise NoEnergyError("NVML does not know this GPU, or no counter of it")
        ask(handle)
    except nvml.NVMLError as error:
        raise NoEnergyError("this GPU or its driver does not count it") from error
    return lambda: int(ask(handle))


def loop_energy(series: PassSeries, recorder: Recorder, counter: Callable[[], int]) -> Energy:
    """Runs a series over and over for seconds, with the device idle at both ends.

    The series is left at its end. The device is waited for after each round of its passes, else
    the host would launch seconds of work ahead, and the loop would not end.

    Raises:
        NoEnergyError: the series cannot be run again, or the counter stands still.
    """
    if series.rewind is None:
        raise NoEnergyError(f"{series.phase} cannot be repeated from the same state")
    recorder.synchronize()
    idle_ns, idle_mj, update_ns = _watch_idle(counter)
    _loop(series, recorder, _WARM_UP_NS)
    before = counter()
    passes, wall_ns = _loop(series, recorder, _LOOP_NS)
    energy_mj = counter() - before
    state = gpu_state(recorder.device, 0)
    return Energy(
        passes=passes,
        wall_ns=wall_ns,
        energy_mj=energy_mj,
        idle_ns=idle_ns,
        idle_mj=idle_mj,
        update_ns=update_ns,
        power_limit_mw=state.power_limit_mw if state else None,
        throttled=state.throttled if state else (),
        others=state.others if state else None,
    )


def _loop(series: PassSeries, recorder: Recorder, least_ns: int) -> tuple[int, int]:
    """How many passes ran in at least that time, and how long they took."""
    assert series.rewind is not None
    passes, start = 0, time.perf_counter_ns()
    while True:
        series.rewind()
        for _ in range(series.steps):
            series.forward()
        recorder.synchronize()
        passes += series.steps
        elapsed = time.perf_counter_ns() - start
        if elapsed >= least_ns:
            return passes, elapsed
        signals.obey()


def _watch_idle(counter: Callable[[], int]) -> tuple[int, int, int]:
    """From one move of the counter to another: ns and mJ between them, and ns from move to move.

    Raises:
        NoEnergyError: it does not move.
    """
    moves = list(_moves(counter))
    if len(moves) < 2:
        raise NoEnergyError("the driver's counter of energy stands still")
    (first_ns, first_mj), (last_ns, last_mj) = moves[0], moves[-1]
    update_ns = median(after - before for (before, _), (after, _) in pairwise(moves))
    return last_ns - first_ns, last_mj - first_mj, round(update_ns)


def _moves(counter: Callable[[], int]) -> Iterator[tuple[int, int]]:
    """When the counter was first seen to have moved, and to what."""
    last, end = counter(), time.perf_counter_ns() + _IDLE_NS
    while (now := time.perf_counter_ns()) < end:
        found = counter()
        if found != last:
            last = found
            yield now, found
        time.sleep(_POLL_S)
