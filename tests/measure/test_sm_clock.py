"""The GPU's clock around each pass: when it is asked for, and what becomes of the answer."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import count, repeat
from pathlib import Path

import pytest
import torch
from make import nvml
from make.played_execution import Played
from make.recorders import NotingRecorder

from qwen3_profile.config import RunConfig
from qwen3_profile.measure.clock import Clock
from qwen3_profile.measure.config_files import ConfigFiles
from qwen3_profile.measure.measurement import MeasurementLoop, unmeasured
from qwen3_profile.measure.nvml import nvml_of
from qwen3_profile.measure.pass_kinds import BARE, TRACED
from qwen3_profile.measure.profiler import Recorder
from qwen3_profile.measure.ranges import leaf
from qwen3_profile.measure.sm_clock import SmClockReader
from qwen3_profile.run_folder.layout import RAW_FOLDER
from qwen3_profile.run_folder.sm_clock import SmClock

CUDA, CPU = torch.device("cuda", 0), torch.device("cpu")


@pytest.fixture(autouse=True)
def _forget_handles() -> Iterator[None]:
    yield
    nvml_of.cache_clear()


def test_the_clock_is_that_of_the_card_that_torch_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = nvml.install(monkeypatch, iter([1980, 1965]))
    reader = SmClockReader(CUDA)
    reader.read()
    reader.read()
    assert reader.take() == (1980, 1965)
    assert reader.take() == ()
    assert fake.inits == 1


def test_a_driver_that_does_not_tell_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = nvml.install(monkeypatch, repeat(None))
    reader = SmClockReader(CUDA)
    reader.read()
    with reader.left_alone(False):
        reader.read()
    reader.read()
    assert (reader.take(), fake.asked) == ((), 1)


@pytest.mark.parametrize("missing", ["no nvidia-ml-py", "another card", "the CPU", "ROCm"])
def test_without_nvml_no_clock_is_known(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    uuid = "of a part of it" if missing == "another card" else nvml.UUID
    fake = nvml.install(monkeypatch, repeat(1980), uuid)
    if missing == "no nvidia-ml-py":
        monkeypatch.setitem(sys.modules, "pynvml", None)
    if missing == "ROCm":
        monkeypatch.setattr(torch.version, "cuda", None)
    reader = SmClockReader(CPU if missing == "the CPU" else CUDA)
    reader.read()
    assert (reader.take(), fake.asked) == ((), 0)


def test_each_kind_of_pass_asks_before_and_after(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The device is a CPU; its clock is a card's."""
    nvml.install(monkeypatch, count(1000))
    recorder = Recorder(CPU)
    recorder.sm_clock = SmClockReader(CUDA)
    seen: list[int] = []

    def forward() -> None:
        seen.append(len(recorder.sm_clock._mhz))
        with leaf("norm"):
            torch.ones(4)

    recorder.timed(forward)
    assert recorder.sm_clock.take() == (1000, 1001)
    recorder.clocked(forward, "prefill", Clock())
    assert recorder.sm_clock.take() == (1002, 1003)
    recorder.traced(forward, lambda: None, "prefill", 0, tmp_path / "t.json.gz")
    assert recorder.sm_clock.take() == (1004, 1005)
    assert seen == [1, 1, 1]


class AskingRecorder(NotingRecorder):
    """Asks for the clock as a real one does."""

    def timed(self, forward):  # type: ignore[no-untyped-def]
        self.sm_clock.read()
        taken = super().timed(forward)
        self.sm_clock.read()
        return taken

    def traced(self, forward, *rest, **more):  # type: ignore[no-untyped-def]
        self.sm_clock.read()
        found = super().traced(forward, *rest, **more)
        self.sm_clock.read()
        return found


def test_steps_between_others_are_left_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Of five decode steps the first and the last one are asked round; of each session all."""
    fake = nvml.install(monkeypatch, count(1000))
    config = RunConfig(1, 4, "float32", num_runs=1, warmup_runs=1, decode_steps=5, trace_steps=2)
    played = Played(config=config, kinds=(BARE, TRACED))
    recorder = AskingRecorder(played.events)
    recorder.sm_clock = SmClockReader(CUDA)
    (tmp_path / RAW_FOLDER).mkdir()
    loop = MeasurementLoop(played, recorder, ConfigFiles(tmp_path, "worker"), lambda _: None)
    loop.measure()
    prefill, decode = loop.results(unmeasured(0, config, "worker"))
    assert [each.sm_clock for each in prefill.measurements] == [
        SmClock(bare=(1000, 1001), traced=(1006, 1007))
    ]
    assert [each.sm_clock for each in decode.measurements] == [
        SmClock(bare=(1002, 1003, 1004, 1005), traced=(1008, 1009)),
        SmClock(bare=(1002, 1003, 1004, 1005), traced=(1010, 1011)),
    ]
    assert fake.asked == 12
