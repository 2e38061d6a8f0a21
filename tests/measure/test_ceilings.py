"""What a device does at most: the arithmetic by a clock of our own, what is kept, what is drawn."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import torch
from make.commands import Commands

from qwen3_profile.measure import ceilings
from qwen3_profile.run_folder.ceilings import Ceilings, ProductRate, keep, kept_file, read_kept
from qwen3_profile.run_folder.gpu_state import GpuState

CPU, GPU = torch.device("cpu"), torch.device("cuda")
SECONDS = {"linear": 0.02, "copy_": 0.25, "sum": 0.125, "add_": 3e-6}


class OurClock(torch.utils._python_dispatch.TorchDispatchMode):
    """Time that passes by what is computed, and by nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name.rpartition("::")[2]
        self.now += SECONDS.get({"mm": "linear", "t": ""}.get(name, name), 0.0)
        return func(*args, **(kwargs or {}))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Sizes that take milliseconds, and a cache of our own."""
    monkeypatch.setattr(ceilings, "_CPU_PRODUCTS", ((8, 16, 16), (32, 16, 64)))
    monkeypatch.setattr(ceilings, "_CPU_BUFFER_BYTES", 1 << 16)
    monkeypatch.setattr(ceilings, "_BLOCK_S", 1e-4)
    monkeypatch.setattr(ceilings, "_CPU_MOST_S", 1.0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.usefixtures("small")
def test_rates_are_flops_and_bytes_over_the_time_that_passed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = OurClock()
    monkeypatch.setattr(ceilings.time, "perf_counter", clock.perf_counter)
    with clock:
        found = ceilings.measure(CPU, "float32")
    assert [(e.rows, e.into, e.out) for e in found.products] == [(8, 16, 16), (32, 16, 64)]
    assert [each.flops_per_s for each in found.products] == pytest.approx(
        [2 * 8 * 16 * 16 / 0.02, 2 * 32 * 16 * 64 / 0.02]
    )
    assert found.flops_per_s == pytest.approx(2 * 32 * 16 * 64 / 0.02)
    assert found.copy_bytes_per_s == pytest.approx(2 * 65536 / 0.25)
    assert found.read_bytes_per_s == pytest.approx(65536 / 0.125)
    assert found.launch_ns == pytest.approx(3000)
    assert found.ridge == pytest.approx(found.flops_per_s / found.bytes_per_s)


@pytest.mark.usefixtures("small")
def test_a_shape_that_takes_too_long_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = OurClock()
    monkeypatch.setattr(ceilings.time, "perf_counter", clock.perf_counter)
    monkeypatch.setitem(SECONDS, "linear", 0.5)
    with clock:
        found = ceilings.measure(CPU, "float32")
    assert found.products == ()
    assert found.flops_per_s == 0.0


@pytest.mark.usefixtures("small")
def test_those_of_a_cpu_are_measured_each_time_and_not_kept() -> None:
    (first,) = ceilings.ceilings_of(CPU, ["float32", "float32"])
    keep(kept_file(), [replace(first, launch_ns=0.5)])
    (second,) = ceilings.ceilings_of(CPU, ["float32"])
    assert second.launch_ns != 0.5
    assert [each.launch_ns for each in read_kept(kept_file())] == [0.5]


@pytest.fixture
def pretended(small: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU, for which the CPU stands in."""
    measure = ceilings.measure

    def on_the_cpu(_: torch.device, dtype: str) -> Ceilings:
        return replace(measure(CPU, dtype), device="GPU-0", driver="570.1")

    monkeypatch.setattr(ceilings, "measure", on_the_cpu)
    monkeypatch.setattr(ceilings, "device_id", lambda _: "GPU-0")
    monkeypatch.setattr(ceilings, "ask_driver", lambda _: ("570.1", None, None))
    monkeypatch.setattr(ceilings, "gpu_state", lambda *_: None)


@pytest.mark.usefixtures("pretended")
def test_what_was_measured_holds_for_a_day() -> None:
    (first,) = ceilings.ceilings_of(GPU, ["float32", "float32"])
    assert ceilings.ceilings_of(GPU, ["float32"]) == (first,)
    assert read_kept(kept_file()) == (first,)
    day_before = datetime.fromisoformat(first.measured) - timedelta(days=1)
    keep(kept_file(), [replace(first, measured=day_before.isoformat(), launch_ns=0.5)])
    (second,) = ceilings.ceilings_of(GPU, ["float32"])
    assert second.launch_ns != 0.5


@pytest.mark.usefixtures("pretended")
@pytest.mark.parametrize(("others", "kept"), [(None, True), (0, True), (1, False)])
def test_those_of_a_gpu_that_is_shared_are_not_kept(
    others: int | None, kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ceilings, "gpu_state", lambda *_: GpuState(0, others=others))
    (found,) = ceilings.ceilings_of(GPU, ["float32"])
    assert found.launch_ns > 0
    assert bool(read_kept(kept_file())) == kept


@pytest.mark.usefixtures("pretended")
@pytest.mark.parametrize(
    "other", [{"device": "GPU-1"}, {"driver": "1"}, {"torch": "2.0"}, {"dtype": "float16"}]
)
def test_ceilings_of_another_device_driver_torch_or_dtype_do_not_hold(
    other: dict[str, str],
) -> None:
    (mine,) = ceilings.ceilings_of(GPU, ["float32"])
    theirs = replace(mine, **other, launch_ns=0.5)
    keep(kept_file(), [theirs])
    (found,) = ceilings.ceilings_of(GPU, ["float32"])
    assert found.launch_ns != 0.5
    assert theirs in read_kept(kept_file())


@pytest.mark.usefixtures("pretended")
@pytest.mark.parametrize("text", ["", "{", '{"schema_version": 9}', '{"schema_version": 1}'])
def test_a_file_that_is_not_understood_is_measured_again(text: str) -> None:
    kept_file().parent.mkdir(parents=True)
    kept_file().write_text(text)
    (found,) = ceilings.ceilings_of(GPU, ["float32"])
    assert read_kept(kept_file()) == (found,)


@pytest.mark.usefixtures("pretended")
def test_a_cache_that_cannot_be_written_stops_nobody() -> None:
    kept_file().parent.parent.write_text("a file where the folder would be")
    (found,) = ceilings.ceilings_of(GPU, ["float32"])
    assert found.launch_ns > 0


@pytest.mark.usefixtures("small")
def test_the_users_random_numbers_stay_what_they_are() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    ceilings.measure(CPU, "float32")
    assert torch.equal(torch.rand(3), expected)


def test_of_other_devices_nothing_is_known() -> None:
    assert ceilings.ceilings_of(torch.device("meta"), ["float32"]) == ()


@pytest.mark.usefixtures("small")
def test_a_run_keeps_its_ceilings_and_the_table_shows_shares_of_them(
    commands: Commands, tmp_path: Path
) -> None:
    measuring = replace(commands, ceilings=True)
    done = measuring.profile(tmp_path, "--dtype", "float32", "--run-name", "r")
    assert done.code == 0, done.err
    run = json.loads((tmp_path / "traces/r/run.json").read_text())
    (kept,) = run["ceilings"]
    (record,) = done.records()
    assert record["ceilings"] == kept
    assert "of roof" in done.out
    assert "ceilings, measured: " in done.out
    again = measuring.export(tmp_path, tmp_path / "traces/r")
    assert again.out.split("records ")[0] in done.out
    without = commands.profile(tmp_path, "--dtype", "float32")
    assert "of roof" not in without.out
    assert json.loads((tmp_path / "traces/run1/run.json").read_text())["ceilings"] == []


def test_age() -> None:
    now = datetime(2026, 1, 2, tzinfo=timezone.utc)
    made = Ceilings("d", "", "t", "float32", "2026-01-01T00:00:01+00:00", (), 1.0, 2.0, 3.0)
    assert made.is_fresh(now)
    assert not replace(made, measured="2026-01-01T00:00:00+00:00").is_fresh(now)
    assert not replace(made, measured="2026-01-03T00:00:00+00:00").is_fresh(now)  # a clock set back
    assert made.bytes_per_s == 2.0
    assert replace(made, products=(ProductRate(1, 1, 1, 8.0),)).ridge == 4.0
