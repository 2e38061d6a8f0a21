"""What a driver that stands in for NVML tells after a run, and what becomes of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import repeat
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from make import nvml

from qwen3_profile.measure.gpu_state import gpu_state
from qwen3_profile.measure.nvml import nvml_of
from qwen3_profile.run_folder.gpu_state import GpuState

CUDA = torch.device("cuda", 0)


@pytest.fixture(autouse=True)
def _forget_handles() -> Iterator[None]:
    yield
    nvml_of.cache_clear()


def driver(monkeypatch: pytest.MonkeyPatch, **answers: Any) -> None:
    """NVML with these functions alone; an exception among the answers is raised."""
    fake = nvml.install(monkeypatch, repeat(1980))

    def answering(answer: Any) -> Any:
        def function(handle: object, *_: int) -> Any:
            assert handle == "handle"
            if isinstance(answer, Exception):
                raise answer
            return answer

        return function

    for name, answer in answers.items():
        setattr(fake, f"nvmlDevice{name}", answering(answer))


def pids(*numbers: int) -> list[Any]:
    return [SimpleNamespace(pid=number) for number in numbers]


def test_all_that_it_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    driver(
        monkeypatch,
        GetCurrentClocksEventReasons=0x1 | 0x4 | 0x40,
        GetTemperature=88,
        GetPowerUsage=698_000,
        GetEnforcedPowerLimit=700_000,
        GetComputeRunningProcesses=pids(os.getpid(), 17, 17, 18),
    )
    why = ("the power limit", "the temperature, by the hardware")
    assert gpu_state(CUDA, 2) == GpuState(2, 88, 698_000, 700_000, why, 2)


@pytest.mark.parametrize("bits", [0x0, 0x1, 0x2, 0x10, 0x100])
def test_an_idle_card_and_a_clock_that_was_set_are_not_held_back(
    monkeypatch: pytest.MonkeyPatch, bits: int
) -> None:
    driver(monkeypatch, GetCurrentClocksEventReasons=bits)
    assert gpu_state(CUDA, 0) == GpuState(0)


def test_an_older_name_is_asked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    driver(monkeypatch, GetCurrentClocksThrottleReasons=0x20)
    state = gpu_state(CUDA, 0)
    assert state is not None
    assert state.throttled == ("the temperature",)


def test_what_it_refuses_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    driver(monkeypatch, GetTemperature=nvml.NVMLError("no"), GetPowerUsage=5)
    assert gpu_state(CUDA, 0) == GpuState(0, power_mw=5)


@pytest.mark.parametrize(("listed", "others"), [((), 0), ((4711,), 0), ((4711, 4712), 1)])
def test_in_a_container_this_process_has_another_number(
    monkeypatch: pytest.MonkeyPatch, listed: tuple[int, ...], others: int
) -> None:
    driver(monkeypatch, GetComputeRunningProcesses=pids(*listed))
    state = gpu_state(CUDA, 0)
    assert state is not None
    assert state.others == others


def test_of_a_cpu_nothing_is_asked() -> None:
    assert gpu_state(torch.device("cpu"), 0) is None
