"""Labels that read the clock: they nest, outlive errors, and are those of a traced pass."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from make.commands import Commands

from qwen3_profile.attribution.scopes import build_scopes, select_labels
from qwen3_profile.config import ModelRequest
from qwen3_profile.errors import TraceError
from qwen3_profile.measure import instrument
from qwen3_profile.measure.clock import Clock
from qwen3_profile.measure.executions.eager import Generation
from qwen3_profile.measure.executions.train_step import TrainStep, with_gradients
from qwen3_profile.measure.model.inputs import Inputs
from qwen3_profile.measure.model.load import load_model
from qwen3_profile.measure.patching import Patches
from qwen3_profile.measure.profiler import Recorder
from qwen3_profile.measure.ranges import Phase, leaf
from qwen3_profile.run_folder.clocked import (
    ClockedLabels,
    ClockedPass,
    read_clocked,
    write_clocked,
)
from qwen3_profile.trace import read_trace

CPU = torch.device("cpu")
TOKENS = torch.arange(10).view(2, 5)
BLOCK = Patches(ExitStack())


def names_of(found: ClockedLabels) -> list[str]:
    return [found.names[number] for number in found.label]


def parents_of(found: ClockedLabels) -> list[int]:
    """Of each label that in which it lies, by its times alone; -1 for none."""
    parents: list[int] = []
    open_labels: list[int] = []
    for index, start in enumerate(found.start_ns):
        while (
            open_labels and found.start_ns[open_labels[-1]] + found.dur_ns[open_labels[-1]] <= start
        ):
            open_labels.pop()
        parents.append(open_labels[-1] if open_labels else -1)
        open_labels.append(index)
    return parents


def busy() -> None:
    """Takes longer than the clock's tick."""
    sum(range(100))


# --- stamps -------------------------------------------------------------------------------------


def test_labels_nest_and_begin_with_the_first() -> None:
    clock = Clock()
    with clock.range("prefill"):
        for name in ("a", "b"):
            with clock.range(name):
                busy()
                with clock.range("inner"):
                    busy()
    found = clock.take()
    assert names_of(found) == ["prefill", "a", "inner", "b", "inner"]
    assert parents_of(found) == [-1, 0, 1, 0, 3]
    assert found.start_ns[0] == 0
    assert all(one <= other for one, other in pairwise(found.start_ns))
    assert min(found.dur_ns) > 0
    for index, parent in enumerate(parents_of(found)[1:], 1):
        end = found.start_ns[index] + found.dur_ns[index]
        assert end <= found.start_ns[parent] + found.dur_ns[parent]


def test_what_is_taken_is_gone() -> None:
    clock = Clock()
    with clock.range("one"):
        busy()
    assert names_of(clock.take()) == ["one"]
    assert clock.take().label == []
    with clock.range("two"):
        busy()
    found = clock.take()
    assert (names_of(found), found.start_ns) == (["two"], [0])


def fail(*_: object) -> None:
    raise ValueError("inside")


def opened(clock: Clock, kind: str) -> Callable[[], object]:
    """A call that fails inside the label `part`."""
    if kind == "range":
        return clock.inside_range(fail, "part", BLOCK)
    if kind == "phase":
        return clock.inside_phase(fail, BLOCK)
    inner = clock.part_of_scope(fail, "part")
    return clock.inside_scope(inner, {"part": "layer.0.part"}, BLOCK)


@pytest.mark.parametrize(
    ("kind", "label"),
    [
        pytest.param("range", "part", id="of a module"),
        pytest.param("phase", "prefill", id="of a pass"),
        pytest.param("scope", "layer.0.part", id="of a function"),
    ],
)
def test_an_error_ends_its_labels(kind: str, label: str) -> None:
    clock = Clock()
    with pytest.raises(ValueError, match="inside"), clock.range("whole"):
        opened(clock, kind)()
    # No label of a function stays open behind it.
    clock.part_of_scope(busy, "part")()
    with clock.range("next"):
        busy()
    found = clock.take()
    assert names_of(found) == ["whole", label, "next"]
    assert parents_of(found) == [-1, 0, -1]


def test_a_function_has_its_label_where_it_has_one() -> None:
    clock = Clock()
    inner = clock.part_of_scope(busy, "kv_cache")
    outer = clock.part_of_scope(lambda: (inner(), busy()), "rope")

    def forward() -> None:
        inner()
        outer()  # one that is built on another has one label

    layers = [
        clock.inside_scope(forward, {"rope": f"{i}.rope", "kv_cache": f"{i}.kv"}, BLOCK)
        for i in (0, 1)
    ]
    nested = clock.inside_scope(lambda: (layers[1](), inner()), {"kv_cache": "outer.kv"}, BLOCK)
    with clock.range("prefill"):
        inner()
        layers[0]()
        nested()
        inner()
    found = names_of(clock.take())
    assert found == ["prefill", "0.kv", "0.rope", "1.kv", "1.rope", "outer.kv"]


def test_a_pass_that_failed_leaves_nothing_to_the_next_one() -> None:
    clock, recorder = Clock(), Recorder(CPU)
    with pytest.raises(ValueError, match="inside"):
        recorder.clocked(fail, "prefill", clock)
    wall_ns = recorder.clocked(busy, "decode", clock)
    found = clock.take()
    assert names_of(found) == ["decode"]
    assert 0 < found.dur_ns[0] <= wall_ns


def test_labels_of_blocks_go_to_the_clock_while_a_pass_is_clocked() -> None:
    clock = Clock()

    def forward() -> None:
        with leaf("sample"):
            busy()

    Recorder(CPU).clocked(forward, "decode", clock)
    assert names_of(clock.take()) == ["decode", "sample"]
    forward()
    assert clock.take().label == []


# --- the labels of a traced pass ----------------------------------------------------------------


def passes_of(model: Any, phase: Phase) -> Callable[[], object]:
    """The pass of a fresh generation, or a training step."""
    if phase == "train_step":
        return TrainStep(model, Inputs(TOKENS, None, ())).run
    generation = Generation(model, TOKENS, decode_steps=1)
    if phase == "prefill":
        return generation.prefill
    generation.prefill()
    return generation.decode


def traced_labels(path: Path) -> list[str]:
    trace = read_trace(path)
    scopes = build_scopes(trace, select_labels(trace), name_gaps=False)
    (phase,) = np.flatnonzero(scopes.parent < 0).tolist()
    track = scopes.track == scopes.track[phase]
    return [scopes.names[name] for name in scopes.name[track].tolist()]


@pytest.mark.parametrize("phase", ["prefill", "decode", "train_step"])
@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_labels_are_those_of_a_traced_pass(
    commands: Commands, sparse_commands: Commands, tmp_path: Path, kind: str, phase: Phase
) -> None:
    folder = (commands if kind == "dense" else sparse_commands).model
    model: Any = load_model(ModelRequest(str(folder), "random"), "float32", None, CPU).model
    clock, recorder = Clock(), Recorder(CPU)
    gradients: AbstractContextManager[object] = ExitStack()
    with with_gradients(model) if phase == "train_step" else gradients:
        with instrument.labelled(model):
            forward = passes_of(model, phase)
            recorder.traced(forward, busy, phase, 0, tmp_path / "one.json.gz")
        with instrument.labelled(model, labels=clock):
            forward = passes_of(model, phase)
            wall_ns = recorder.clocked(forward, phase, clock)
    found = clock.take()
    expected = traced_labels(tmp_path / "one.json.gz")
    assert len(expected) > 30
    assert names_of(found) == expected
    assert found.dur_ns[0] <= wall_ns


# --- the file -----------------------------------------------------------------------------------

ONE = ClockedLabels(("prefill", "norm"), [0, 1], [0, 5], [20, 10])


def test_a_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    passes = (ClockedPass(0, 25, ONE), ClockedPass(3, 30, ONE))
    write_clocked(tmp_path / "one.clock.json.gz", passes)
    assert read_clocked(tmp_path / "one.clock.json.gz") == {0: passes[0], 3: passes[1]}


def damaged(path: Path, how: str) -> None:
    data = path.read_bytes()
    if how == "missing":
        path.unlink()
    elif how == "cut off":
        path.write_bytes(data[:-12])
    elif how == "not packed":
        path.write_bytes(b"{}")


@pytest.mark.parametrize("how", ["missing", "cut off", "not packed"])
def test_a_file_that_cannot_be_read_is_told(tmp_path: Path, how: str) -> None:
    path = tmp_path / "one.clock.json.gz"
    write_clocked(path, (ClockedPass(0, 25, ONE),))
    damaged(path, how)
    with pytest.raises(TraceError, match=r"one\.clock\.json\.gz: cannot be read"):
        read_clocked(path)


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        pytest.param({"label": [0, 2]}, "has no name", id="a label without a name"),
        pytest.param({"start_ns": [0]}, "not of the same number", id="times are missing"),
    ],
)
def test_labels_that_do_not_fit_their_names_are_refused(
    tmp_path: Path, labels: dict[str, list[int]], told: str
) -> None:
    path = tmp_path / "one.clock.json.gz"
    write_clocked(path, (ClockedPass(0, 25, ONE),))
    content = msgspec.json.decode(gzip.decompress(path.read_bytes()))
    content["passes"][0]["labels"] |= labels
    path.write_bytes(gzip.compress(msgspec.json.encode(content)))
    with pytest.raises(TraceError, match=told):
        read_clocked(path)
