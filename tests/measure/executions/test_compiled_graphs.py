"""CUDA graphs of a compiled model live as long as the kind of pass that they were captured for."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest
import torch
from make.commands import Commands
from make.recorders import NotingRecorder

from qwen3_profile.config import ModelRequest, RunConfig
from qwen3_profile.errors import RunError
from qwen3_profile.measure.config_files import ConfigFiles
from qwen3_profile.measure.executions import compiled
from qwen3_profile.measure.executions.compiled import CompiledExecution
from qwen3_profile.measure.measurement import MeasurementLoop, unmeasured
from qwen3_profile.measure.model.inputs import config_inputs
from qwen3_profile.measure.model.load import LoadedModel, load_model

CPU = torch.device("cpu")
CONFIG = RunConfig(
    1, 4, "float32", num_runs=1, warmup_runs=0, decode_steps=2, trace_steps=1, cache="static",
    execution="compiled", compile_mode="reduce-overhead",
)  # fmt: skip
# A prefill and two decode steps, until a graph is replayed.
WARM_UP = ["pass"] * 3 * 3


class PlayedCompilation:
    """A model that is not compiled, and whose graphs are events."""

    uses_graphs = True

    def __init__(self, events: list[str], *, again_after: int) -> None:
        self._events = events
        self._again_after = again_after

    @property
    def count(self) -> int:
        return self._events.count("timed") > self._again_after

    def begin_pass(self) -> None:
        self._events.append("pass")

    def capture_anew(self) -> None:
        self._events.append("capture anew")

    def paused(self) -> AbstractContextManager[None]:
        return nullcontext()

    unseen = one_by_one = paused

    def write(self, path: Path) -> None:
        self._events.append(path.name)


@pytest.fixture(scope="module")
def loaded(commands: Commands) -> LoadedModel:
    return load_model(ModelRequest(str(commands.model), "random"), "float32", None, CPU)


def loop_of(
    loaded: LoadedModel, events: list[str], folder: Path, patch: pytest.MonkeyPatch, again: int
) -> MeasurementLoop:
    played = PlayedCompilation(events, again_after=again)
    patch.setattr(compiled, "compiled", lambda *_: nullcontext(played))
    recorder = NotingRecorder(events)
    inputs = config_inputs(CONFIG, loaded.facts.shape.vocab_size, 0, CPU)
    execution = CompiledExecution(loaded.model, inputs, CONFIG, recorder)
    return MeasurementLoop(execution, recorder, ConfigFiles(folder, "w"), lambda what: None)


def test_graphs_are_captured_for_each_kind_of_pass(
    loaded: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    loop = loop_of(loaded, events, tmp_path, monkeypatch, again=1 << 10)
    loop.measure()
    measured = events[events.index("w.provenance.json") + 1 :]
    assert measured == [
        "capture anew", "traced", "pass", "traced", "pass",  # of kernels one by one
        "capture anew", "settle", *WARM_UP,
        "settle", *["timed", "pass"] * 3,
        "capture anew", "attached", *WARM_UP,
        "traced", "pass", "settle", "traced", "pass",
        "capture anew", "detached",
        *["pass"] * 2,  # counted
    ]  # fmt: skip
    for result in loop.results(unmeasured(0, CONFIG, "w")):
        assert result.compiled is not None
        assert result.compiled.references == {
            phase: f"raw/w_{phase}.reference.kineto.json.gz" for phase in ("prefill", "decode")
        }
        assert result.compiled.output_error == 0


def test_a_measured_pass_that_compiles_is_refused(
    loaded: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three times three passes are compared beforehand; the last measured one compiles."""
    events: list[str] = []
    loop = loop_of(loaded, events, tmp_path, monkeypatch, again=3 * 3 + 2)
    with pytest.raises(RunError, match="config w: was compiled anew in a measured pass"):
        loop.measure()
    assert loop.runs == []
