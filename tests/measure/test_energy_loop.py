"""The energy of a loop, on a card that draws what the test says, by a clock that the test moves."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import repeat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from make import nvml
from make.commands import Commands
from make.labelled_models import TOKENS, tiny
from make.played_execution import Played

from qwen3_profile.api import trace_forward
from qwen3_profile.measure import energy_loop
from qwen3_profile.measure.energy_loop import NoEnergyError, counter_of, loop_energy, measure_energy
from qwen3_profile.measure.nvml import nvml_of
from qwen3_profile.measure.pass_kinds import PassKind, PassSeries, SeriesOfPasses
from qwen3_profile.run_folder.energy import Energy

CUDA = torch.device("cuda", 0)
RECORDER: Any = SimpleNamespace(device=CUDA, synchronize=lambda: None)
IDLE_W, BUSY_W, UPDATE_MS, PASS_MS = 100, 400, 20, 10


class Card:
    """Watts times milliseconds are millijoules; the driver shows them every `UPDATE_MS`."""

    def __init__(self) -> None:
        self.ms, self.mj, self.shown, self.asked = 7, 0, 0, 0
        self.is_stuck = False

    def spend(self, ms: int, watts: int) -> None:
        for _ in range(ms):
            self.ms, self.mj = self.ms + 1, self.mj + watts
            if self.ms % UPDATE_MS == 0 and not self.is_stuck:
                self.shown = self.mj

    def run(self) -> None:
        self.spend(PASS_MS, BUSY_W)

    def tell(self, handle: object) -> int:
        assert handle == "handle"
        return self.shown


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Iterator[nvml.FakeNvml]:
    yield nvml.install(monkeypatch, repeat(1980))
    nvml_of.cache_clear()


@pytest.fixture
def card(driver: Any, monkeypatch: pytest.MonkeyPatch) -> Card:
    one = Card()
    driver.nvmlDeviceGetTotalEnergyConsumption = one.tell
    driver.nvmlDeviceGetEnforcedPowerLimit = lambda _: 700_000
    clock = SimpleNamespace(
        perf_counter_ns=lambda: one.ms * 10**6,
        sleep=lambda seconds: one.spend(round(seconds * 1000), IDLE_W),
    )
    monkeypatch.setattr(energy_loop, "time", clock)
    return one


def series(card: Card, steps: int = 1, rewind: Callable[[], object] | None = None) -> PassSeries:
    return PassSeries("decode", card.run, card.run, steps, rewind=rewind)


def test_a_loop_of_three_seconds_by_hand(card: Card) -> None:
    found = loop_energy(series(card, rewind=lambda: None), RECORDER, counter_of(CUDA))
    # 3 s of passes of 10 ms at 400 W. In the second before, polled every 2 ms from 7 ms on, the
    # counter moves first at 21 and last at 1001 ms: 49 times 20 ms at 100 W.
    assert found == Energy(
        passes=300,
        wall_ns=3 * 10**9,
        energy_mj=1_200_000,
        idle_ns=980 * 10**6,
        idle_mj=98_000,
        update_ns=20 * 10**6,
        power_limit_mw=700_000,
    )


def test_rounds_are_whole_and_begin_at_the_first_step(card: Card) -> None:
    rewound: list[int] = []
    round_of_7 = series(card, 7, lambda: rewound.append(card.ms))
    found = loop_energy(round_of_7, RECORDER, counter_of(CUDA))
    # 70 ms each: 15 of them to warm up for a second, then 43 for three.
    assert (found.passes, found.wall_ns) == (7 * 43, 3010 * 10**6)
    assert rewound == [1007 + 70 * each for each in range(15 + 43)]
    # Of an uneven loop what the counter misses is at most one of its moves.
    assert abs(found.energy_mj - 3010 * BUSY_W) <= UPDATE_MS * BUSY_W


def test_who_else_was_there_is_told(card: Card, driver: Any) -> None:
    driver.nvmlDeviceGetCurrentClocksEventReasons = lambda _: 0x4
    driver.nvmlDeviceGetComputeRunningProcesses = lambda _: [SimpleNamespace(pid=n) for n in (1, 2)]
    found = loop_energy(series(card, rewind=lambda: None), RECORDER, counter_of(CUDA))
    assert (found.throttled, found.others) == (("the power limit",), 1)


def test_a_counter_that_stands_still_is_none(card: Card) -> None:
    card.is_stuck = True
    with pytest.raises(NoEnergyError, match="stands still"):
        loop_energy(series(card, rewind=lambda: None), RECORDER, counter_of(CUDA))


def test_what_cannot_be_repeated_is_not_looped(card: Card) -> None:
    with pytest.raises(NoEnergyError, match="decode cannot be repeated"):
        loop_energy(series(card), RECORDER, counter_of(CUDA))


def test_of_a_cpu_nothing_is_asked() -> None:
    with pytest.raises(NoEnergyError, match="an NVIDIA GPU counts it, and this is cpu"):
        counter_of(torch.device("cpu"))


def test_without_the_package_it_is_named(driver: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(NoEnergyError, match="pip install nvidia-ml-py"):
        counter_of(CUDA)


def test_a_card_that_nvml_does_not_know(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml.install(monkeypatch, repeat(1980), uuid="another")
    with pytest.raises(NoEnergyError, match="does not know this GPU"):
        counter_of(CUDA)
    nvml_of.cache_clear()


def test_an_old_package_has_no_such_function(driver: Any) -> None:
    with pytest.raises(NoEnergyError, match="no counter of it"):
        counter_of(CUDA)


def test_a_card_before_volta(driver: Any) -> None:
    def refuse(_: object) -> int:
        raise nvml.NVMLError("not supported")

    driver.nvmlDeviceGetTotalEnergyConsumption = refuse
    with pytest.raises(NoEnergyError, match="does not count it"):
        counter_of(CUDA)


class OnCard(Played):
    """A prefill, the eager pass beside a graph's replays, and a decode that may fail."""

    def __init__(self, card: Card, fails: bool) -> None:
        super().__init__()
        self.card, self.fails = card, fails

    def passes(self, kind: PassKind) -> SeriesOfPasses:
        self.events.append(kind.name)
        one = series(self.card, rewind=lambda: None)
        yield replace(one, phase="prefill", variant="eager", rewind=None)
        yield replace(one, phase="prefill")
        yield replace(one, rewind=self._rewind)

    def _rewind(self) -> None:
        if self.fails:
            raise ZeroDivisionError("no")


@pytest.mark.parametrize("fails", [False, True])
def test_each_phase_is_looped_bare_and_an_error_costs_one(card: Card, fails: bool) -> None:
    execution = OnCard(card, fails)
    found, why = measure_energy(execution, RECORDER)
    assert execution.events == ["bare"]
    assert list(found) == (["prefill"] if fails else ["prefill", "decode"])
    assert ("ZeroDivisionError" in why) == fails
    assert {each.energy_mj for each in found.values()} == {1_200_000}


@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_a_call_of_ones_own_is_looped_from_the_same_state(
    phase: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A counter that moves with the clock stands in for a GPU's."""
    for name in ("_WARM_UP_NS", "_LOOP_NS", "_IDLE_NS"):
        monkeypatch.setattr(energy_loop, name, 30 * 10**6)
    counter = lambda: time.perf_counter_ns() // 10**6  # noqa: E731
    monkeypatch.setattr(energy_loop, "counter_of", lambda _: counter)
    model, seen = tiny("dense"), []
    given: dict[str, Any] = {"input_ids": TOKENS}
    if phase == "decode":
        with torch.inference_mode():
            cache = model(TOKENS).past_key_values
        given = {"input_ids": TOKENS[:, -1:], "past_key_values": cache}
    model.register_forward_hook(
        lambda _, __, output: seen.append(output.past_key_values.get_seq_length())
    )
    record = trace_forward(model, **given, num_runs=1, energy=True).record
    assert record.phase == phase
    assert record.energy is not None
    assert record.energy.passes > 1
    assert record.energy.joules_per_token == record.energy.joules / record.energy.tokens
    assert record.energy.power_w == pytest.approx(1.0, rel=0.5)  # a millijoule a millisecond
    # However often it is called, a call sees as many tokens.
    assert set(seen) == {TOKENS.shape[1] + (phase == "decode")}
    assert trace_forward(model, **given, num_runs=1).record.energy is None


def test_on_a_cpu_one_line_says_why_not(commands: Commands, tmp_path: Path) -> None:
    done = commands.profile(tmp_path, "--dtype", "float32", "--energy", "--num-runs", 1)
    assert done.code == 0, done.err
    assert done.out.count("no energy was measured: only the driver of an NVIDIA GPU") == 1
    (path,) = tmp_path.rglob("timing_records.json")
    (record,) = done.records(path.as_posix())
    assert "energy" not in record
