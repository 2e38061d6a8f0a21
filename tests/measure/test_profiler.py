"""One forward pass under the profiler: its labels, its step, its file; and a session that ends."""

from __future__ import annotations

import gc
import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.autograd import profiler as autograd_profiler

from qwen3_profile.measure import profiler as profiling
from qwen3_profile.measure.profiler import Recorder
from qwen3_profile.measure.ranges import leaf
from qwen3_profile.system.collector import no_collections

CPU = torch.device("cpu")


def work() -> None:
    with leaf("norm"):
        torch.ones(8, 8).mm(torch.ones(8, 8))


def nothing() -> None:
    """What a device would run before the recording; a CPU needs none."""


def counting(calls: list[str], name: str, then: Callable[[], None] = nothing) -> Callable[[], None]:
    def forward() -> None:
        calls.append(name)
        then()

    return forward


def events_of(path: Path) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
    return [event for event in events if event.get("ph") == "X"]


@pytest.mark.parametrize(
    ("phase", "step"),
    [pytest.param("prefill", 0, id="prefill"), pytest.param("decode", 17, id="a later decode")],
)
def test_the_trace_has_one_pass_in_its_phase_and_step(
    tmp_path: Path, phase: Any, step: int
) -> None:
    path = tmp_path / "raw" / "one.kineto.json.gz"
    traced = Recorder(CPU).traced(work, nothing, phase, step, path)
    found = {event["name"]: event for event in events_of(path)}
    assert [name for name in found if name.startswith("ProfilerStep#")] == [f"ProfilerStep#{step}"]
    assert {"prefill", "decode"} & set(found) == {phase}
    outer, inner, part = found[f"ProfilerStep#{step}"], found[phase], found["norm"]
    assert outer["ts"] <= inner["ts"] <= part["ts"] <= found["aten::mm"]["ts"]
    assert part["dur"] <= inner["dur"] <= outer["dur"]
    assert traced.profiled_ns >= inner["dur"] * 1000 * 0.99
    assert traced.messages == ()
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_each_trace_holds_its_own_pass_only(tmp_path: Path) -> None:
    recorder = Recorder(CPU)
    for step in range(3):
        recorder.traced(work, nothing, "decode", step, tmp_path / f"{step}.json.gz")
    for step in range(3):
        names = [event["name"] for event in events_of(tmp_path / f"{step}.json.gz")]
        assert names.count("decode") == names.count("aten::mm") == 1
        assert [n for n in names if n.startswith("ProfilerStep")] == [f"ProfilerStep#{step}"]


def test_a_cpu_needs_no_lead_in_and_a_pass_runs_once(tmp_path: Path) -> None:
    calls: list[str] = []
    recorder = Recorder(CPU)
    recorder.traced(
        counting(calls, "pass", work), counting(calls, "lead-in"), "prefill", 0, tmp_path / "t.gz"
    )
    recorder.settle(counting(calls, "lead-in"))
    assert calls == ["pass"]


def test_keep_is_given_the_session_after_its_end(tmp_path: Path) -> None:
    seen: list[tuple[bool, bool, set[str]]] = []
    path = tmp_path / "t.json.gz"

    def keep(session: Any) -> None:
        names = {event.name for event in session.events()}
        seen.append((autograd_profiler._is_profiler_enabled, path.exists(), names))

    Recorder(CPU).traced(work, nothing, "decode", 4, path, keep)
    ((enabled, written, names),) = seen
    assert (enabled, written) == (False, True)
    assert {"decode", "aten::mm", "norm"} <= names


def test_a_pass_that_raises_ends_the_session_and_leaves_no_trace(tmp_path: Path) -> None:
    def fail() -> None:
        raise ZeroDivisionError("in the model")

    path = tmp_path / "t.json.gz"
    recorder = Recorder(CPU)
    with pytest.raises(ZeroDivisionError, match="in the model"):
        recorder.traced(fail, nothing, "prefill", 0, path)
    assert not autograd_profiler._is_profiler_enabled
    assert gc.isenabled()
    assert not list(tmp_path.iterdir())
    # A later session is as any other.
    recorder.traced(work, nothing, "prefill", 1, path)
    names = [event["name"] for event in events_of(path)]
    assert names.count("prefill") == names.count("ProfilerStep#1") == 1
    assert "ProfilerStep#0" not in names


def test_a_bare_pass_is_timed_without_profiler_and_collector() -> None:
    states: list[tuple[bool, bool]] = []
    taken = Recorder(CPU).timed(
        lambda: states.append((autograd_profiler._is_profiler_enabled, gc.isenabled()))
    )
    assert states == [(False, False)]
    assert gc.isenabled()
    assert taken > 0


def test_a_bare_pass_that_raises_gives_the_collector_back() -> None:
    def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Recorder(CPU).timed(fail)
    assert gc.isenabled()


def test_many_passes_in_a_row_collect_once(monkeypatch: pytest.MonkeyPatch) -> None:
    collections: list[int] = []
    monkeypatch.setattr(gc, "collect", lambda: collections.append(1))
    recorder = Recorder(CPU)
    with no_collections():
        for _ in range(3):
            recorder.timed(nothing)
            assert not gc.isenabled()
    assert gc.isenabled()
    assert len(collections) == 1
    recorder.timed(nothing)
    assert len(collections) == 2


def test_a_collector_that_was_off_stays_off() -> None:
    gc.disable()
    try:
        Recorder(CPU).timed(nothing)
        assert not gc.isenabled()
    finally:
        gc.enable()


# --- CUPTI stays for graphs -----------------------------------------------------------------------


def test_cupti_stays_for_a_block_and_goes_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sessions of a device that is not here: their lead-ins see what CUPTI is told."""
    told: list[str] = []
    recorder = Recorder(CPU)
    recorder.device = torch.device("cuda")
    monkeypatch.setattr(Recorder, "synchronize", lambda _: None)
    monkeypatch.setenv("TEARDOWN_CUPTI", "1")
    lead_in = counting(told, "", lambda: told.append(os.environ["TEARDOWN_CUPTI"]))
    with recorder.attached(lead_in):
        told.append("block")
    around = [each for each in told if each]
    # what is attached goes, a session that nobody reads; the block; another one, and it goes
    assert around[: around.index("block")] == ["1", "0", "0"]
    assert around[around.index("block") + 1 :] == ["1", "1", "1"]
    with pytest.raises(ZeroDivisionError), recorder.attached(lead_in):
        raise ZeroDivisionError
    assert os.environ["TEARDOWN_CUPTI"] == "1"


@pytest.mark.parametrize(
    ("told", "calls_after"),
    [
        pytest.param("1", 4, id="CUPTI detaches during one of several CUDA calls"),
        pytest.param("0", 0, id="it has been told to stay"),
    ],
)
def test_a_session_ends_with_the_calls_that_cupti_detaches_in(
    told: str, calls_after: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A process whose last CUDA call is in a session hangs at its end."""
    running: list[bool] = []
    monkeypatch.setenv("TEARDOWN_CUPTI", told)
    recorder = Recorder(CPU)
    recorder.device = torch.device("cuda")
    monkeypatch.setattr(profiling, "_DETACH_WAIT_S", 0)
    monkeypatch.setattr(
        Recorder, "synchronize",
        lambda _: running.append(autograd_profiler._is_profiler_enabled),
    )  # fmt: skip
    recorder.traced(work, nothing, "prefill", 0, tmp_path / "t.json.gz")
    # One before the session, two round the pass; and those after its end.
    assert running == [False, True, True] + [False] * calls_after


def test_cupti_stays_between_sessions_and_goes_in_one_that_nobody_reads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also where a pass fails; and not at all inside of a block that keeps it anyway."""
    told: list[str] = []
    recorder = Recorder(CPU)
    recorder.device = torch.device("cuda")
    monkeypatch.setattr(Recorder, "synchronize", lambda _: None)
    monkeypatch.setattr(profiling, "_DETACH_WAIT_S", 0)
    monkeypatch.setenv("TEARDOWN_CUPTI", "1")
    monkeypatch.delenv("TEARDOWN_CUPTI")  # nobody has chosen
    recorder._teardown = "1"
    lead_in = counting([], "", lambda: told.append(os.environ["TEARDOWN_CUPTI"]))

    torn: list[str] = []
    idle = recorder._idle_session

    def noted(before: Callable[[], None]) -> None:
        torn.append(recorder._teardown)
        idle(before)

    monkeypatch.setattr(recorder, "_idle_session", noted)

    def sessions(count: int, then: Callable[[], None] = nothing) -> None:
        told.clear()
        torn.clear()
        with recorder.kept_attached(lead_in):
            for _ in range(count):
                recorder._idle_session(lead_in)
            then()

    sessions(2)
    assert told == ["0"] * 4 + ["1"] * 2
    with pytest.raises(ZeroDivisionError):
        sessions(1, then=lambda: 1 // 0)
    # Where CUPTI goes then nothing leads in: of several ranks this one is alone in it.
    assert told == ["0"] * 2
    assert torn == ["0", "1"]
    with recorder.kept_attached(lead_in):
        sessions(2)
        assert told == ["0"] * 4


def test_on_a_cpu_nothing_is_attached() -> None:
    before = os.environ.get("TEARDOWN_CUPTI")
    with Recorder(CPU).attached(nothing):
        assert os.environ.get("TEARDOWN_CUPTI") == before
