"""The one loop of every execution: what runs, in which order, and what becomes of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from make.commands import Commands
from make.played_execution import CONFIG, Played
from make.played_graph import PlayedGraph
from make.recorders import NotingRecorder

from qwen3_profile.config import ModelRequest, RunConfig
from qwen3_profile.measure.config_files import ConfigFiles, TraceSlot
from qwen3_profile.measure.executions import Execution, UncountedError, cuda_graph
from qwen3_profile.measure.executions.model_call import Call
from qwen3_profile.measure.executions.user_model import UserModelExecution
from qwen3_profile.measure.measurement import MeasurementLoop, unmeasured
from qwen3_profile.measure.model.inputs import config_inputs
from qwen3_profile.measure.model.load import LoadedModel, load_model
from qwen3_profile.measure.pass_kinds import PassKind, PassSeries, Taken
from qwen3_profile.measure.profiler import Recorder
from qwen3_profile.measure.ranges import PROFILER_RANGES, Phase
from qwen3_profile.measure.run_config import execution_of
from qwen3_profile.run_folder.clocked import read_clocked
from qwen3_profile.run_folder.layout import RAW_FOLDER

CPU = torch.device("cpu")


def loop_of(execution: Execution, events: list[str], folder: Path) -> MeasurementLoop:
    (folder / RAW_FOLDER).mkdir()
    files = ConfigFiles(folder, "worker")
    return MeasurementLoop(
        execution, NotingRecorder(events), files, lambda what: events.append(f"step: {what}")
    )


BARE = ["bare", "settle", "timed", "prefill", *["timed", "decode"] * 5, "bare ends"]
CLOCK = ["clock", "clocked", "prefill", *["clocked", "decode"] * 5, "clock ends"]
# Right after a pass without a session nothing has to settle; after one it has, unless a session of
# the same series follows, which leads in by itself.
TRACED = [
    "traced", "traced", "prefill", "settle", "traced", "decode", *["decode"] * 3,
    "traced", "decode", "traced ends",
]  # fmt: skip


def test_each_kind_of_pass_comes_in_its_turn(tmp_path: Path) -> None:
    played = Played()
    loop = loop_of(played, played.events, tmp_path)
    loop.measure()
    told = [event.removeprefix("step: ") for event in played.events if event[:6] == "step: "]
    assert told == [
        "preparation", "warm-up",
        *(f"run {run} of 2, {kind}" for run in (1, 2) for kind in ("bare", "clock", "traced")),
        "counting bytes",
    ]  # fmt: skip
    done = [event for event in played.events if event[:6] != "step: "]
    assert done == [
        "prepared", "warm up", *[*BARE, *CLOCK, *TRACED] * 2, "count", *["decode"] * 5, "undone",
    ]  # fmt: skip
    prefill, decode = loop.results(unmeasured(3, CONFIG, "worker"))
    assert [prefill.phase, prefill.worker] == ["prefill", "worker_prefill"]
    assert prefill.step_times_ns == ()
    assert set(prefill.labels) == {"norm", "layer.*.attn"}
    assert prefill.unlabelled == ("missing",)
    assert [each.position for each in decode.measurements] == [0, 4, 0, 4]
    assert [each.run_index for each in decode.measurements] == [0, 0, 1, 1]
    assert [len(times) for times in decode.step_times_ns] == [5, 5]
    for each in decode.measurements:
        assert each.bare_ns == decode.step_times_ns[each.run_index][each.position]
        assert each.trace == (
            f"raw/worker_decode.run{each.run_index}.step{each.position}.kineto.json.gz"
        )
    taken = prefill.measurements + decode.measurements
    for each in taken:
        phase = "prefill" if each in prefill.measurements else "decode"
        assert each.clock == f"raw/worker_{phase}.run{each.run_index}.clock.json.gz"
        clocked = read_clocked(tmp_path / each.clock)
        assert sorted(clocked) == list(range(1 if phase == "prefill" else 5))
        (number,) = clocked[each.position].labels.label
        assert clocked[each.position].labels.names[number] == phase
        assert each.clock_ns == clocked[each.position].wall_ns
        assert each.device is None
    assert sorted(each.step for each in taken) == list(range(6))
    assert {each.profiler_messages for each in taken} == {("a message",)}


def test_what_was_measured_before_a_failure_stays(tmp_path: Path) -> None:
    played = Played(fails_after=17)  # a whole run has 15 decode steps
    loop = loop_of(played, played.events, tmp_path)
    with pytest.raises(ZeroDivisionError):
        loop.measure()
    assert len(loop.runs) == 1
    assert "count" not in played.events
    failed = unmeasured(0, CONFIG, "worker")
    assert [len(each.measurements) for each in loop.results(failed)] == [1, 2]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        pytest.param(UncountedError("it is compiled"), "it is compiled", id="cannot be"),
        pytest.param(KeyError("x"), "KeyError: 'x'", id="raises"),
    ],
)
def test_bytes_that_are_not_counted_cost_nothing_else(
    tmp_path: Path, error: Exception, told: str
) -> None:
    played = Played(uncounted=error)
    loop = loop_of(played, played.events, tmp_path)
    loop.measure()
    for result in loop.results(unmeasured(0, CONFIG, "worker")):
        assert (result.traffic, result.uncounted) == ("", told)
        assert result.measurements


# --- another kind of pass -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def loaded(commands: Commands) -> LoadedModel:
    return load_model(ModelRequest(str(commands.model), "random"), "float32", None, CPU)


def user_model(loaded: LoadedModel, _: RunConfig, __: Recorder) -> Execution:
    call = Call(loaded.model, (torch.arange(4)[None],), {}, inference_mode=True)
    return UserModelExecution(call, RunConfig(1, 4, "float32"), "prefill")


def configured(loaded: LoadedModel, config: RunConfig, recorder: Recorder) -> Execution:
    inputs = config_inputs(config, loaded.facts.shape.vocab_size, 0, CPU)
    return execution_of(loaded.model, inputs, config, recorder)


@pytest.mark.parametrize(
    ("make", "config"),
    [
        pytest.param(configured, {"decode_steps": 3}, id="eager"),
        pytest.param(configured, {"backward": True}, id="train_step"),
        pytest.param(
            configured, {"decode_steps": 3, "cache": "static", "execution": "cuda_graph"},
            id="cuda_graph",
        ),
        pytest.param(
            configured, {"decode_steps": 3, "cache": "static", "execution": "compiled"},
            id="compiled",
        ),
        pytest.param(user_model, {}, id="user_model"),
    ],
)  # fmt: skip
def test_a_new_kind_of_pass_is_a_row(
    loaded: LoadedModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make: Any,
    config: dict[str, Any],
) -> None:
    """No execution has to know of it."""
    watched: list[tuple[str, Phase, str]] = []

    def watching(name: str) -> Callable[[Recorder, PassSeries, Callable[[], TraceSlot]], Taken]:
        def take(recorder: Recorder, series: PassSeries, slot: Callable[[], TraceSlot]) -> Taken:
            watched.append((name, series.phase, series.variant))
            assert slot().trace.endswith(f".{name}.kineto.json.gz")
            return Taken(recorder.timed(series.forward))

        return take

    more = (
        PassKind("one", watching("one"), labels=PROFILER_RANGES),
        PassKind("other", watching("other"), in_session=True),
    )
    monkeypatch.setattr(cuda_graph, "Graph", PlayedGraph)
    compile_with = torch.nn.Module.compile
    monkeypatch.setattr(
        torch.nn.Module,
        "compile",
        lambda self, **_: compile_with(self, backend="eager", dynamic=False),
    )
    recorder = Recorder(CPU)
    execution = make(loaded, RunConfig(1, 4, "float32", num_runs=1, **config), recorder)
    # A device pass needs a device.
    count = len(more) + len([kind for kind in execution.kinds if not kind.needs_device])
    execution.kinds = (*execution.kinds, *more)
    steps: list[str] = []
    files = ConfigFiles(tmp_path, execution.config.worker)
    loop = MeasurementLoop(execution, recorder, files, steps.append)
    loop.measure()
    # And the preparation, and the counting of bytes.
    passes = execution.config.warmup_runs + count * execution.config.num_runs
    assert len(steps) == passes + 2
    for name in ("one", "other"):
        assert {phase for kind, phase, variant in watched if (kind, variant) == (name, "")} == set(
            execution.phases
        )
    assert "captured" not in {variant for _, _, variant in watched}
    for result in loop.results(unmeasured(0, execution.config, execution.config.worker)):
        assert (result.status, result.error) == ("done", "")
        assert result.measurements
