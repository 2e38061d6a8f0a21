"""A pass on fixed tensors computes what a generation does, again and again; graphs are played."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from qwen3_profile.config import RunConfig
from qwen3_profile.errors import RunError
from qwen3_profile.measure.executions import cuda_graph as graph_passes
from qwen3_profile.measure.executions.cuda_graph import FixedPass, Graph, as_captured, check_logits
from qwen3_profile.measure.executions.eager import Generation
from qwen3_profile.measure.model.inputs import Inputs, config_inputs
from qwen3_profile.measure.model.kv_cache import counters, slides

CPU = torch.device("cpu")
STEPS = 4
KINDS = ["random", "ragged"]


def config(kind: str = "random", cache: str = "static", steps: int = STEPS) -> RunConfig:
    return RunConfig(3, 5, "float32", decode_steps=steps, cache=cache, inputs=kind)


def inputs(model: Any, asked: RunConfig) -> Inputs:
    return config_inputs(asked, model.config.vocab_size, 1, CPU)


def tokens(model: Any, asked: RunConfig, batch: Inputs) -> list[torch.Tensor]:
    """What a generation chooses, step by step."""
    generation = Generation(model, batch.ids, asked.decode_steps, asked.cache, batch.mask)
    generation.prefill()
    found = [generation.next_ids]
    for _ in range(asked.decode_steps):
        generation.decode()
        found.append(generation.next_ids)
    return [each.clone() for each in found if each is not None]


@pytest.mark.parametrize("kind", KINDS)
def test_decode_steps_choose_the_tokens_of_a_generation(model: Any, kind: str) -> None:
    asked = config(kind)
    batch = inputs(model, asked)
    expected = tokens(model, asked, batch)
    forward = FixedPass(model, batch, asked, "decode")
    for _ in range(2):
        forward.rewind()
        for token in expected[1:]:
            forward.run()
            assert forward.logits is not None
            assert torch.equal(forward.logits[:, -1:].argmax(-1), token)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cache", ["static", "dynamic"])
@pytest.mark.parametrize("steps", [0, STEPS])
def test_a_prefill_gives_the_same_logits_each_time(
    model: Any, kind: str, cache: str, steps: int
) -> None:
    asked = config(kind, cache, steps)
    batch = inputs(model, asked)
    forward = FixedPass(model, batch, asked, "prefill")
    found = []
    for _ in range(3):
        forward.rewind()
        forward.run()
        assert forward.logits is not None
        found.append(forward.logits.clone())
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[1], found[2])
    if steps:
        first = tokens(model, asked, batch)[0]
        assert torch.equal(found[0].argmax(-1), first)


def test_everything_a_step_reads_and_writes_keeps_its_place(model: Any) -> None:
    asked = config()
    forward = FixedPass(model, inputs(model, asked), asked, "decode")
    before = places(forward)
    forward.run()
    forward.rewind()
    forward.run()
    assert places(forward) == before


def places(forward: FixedPass) -> list[int]:
    cache = forward._cache
    tensors = [forward._ids, forward._positions, *counters(cache)]
    for layer in getattr(cache, "layers", ()):
        tensors += [layer.keys, layer.values]
    return [tensor.data_ptr() for tensor in tensors]


def test_counters_are_those_of_a_static_cache(model: Any) -> None:
    assert counters(None) == ()
    asked = config()
    forward = FixedPass(model, inputs(model, asked), asked, "decode")
    assert all(not tensor.is_floating_point() for tensor in counters(forward._cache))


class Window:
    is_sliding = True
    max_cache_len = 4


def test_a_window_that_the_host_moves_is_refused(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Sliding:
        layers = (Window(),)

    assert slides(Sliding(), 5)
    assert not slides(Sliding(), 4)
    monkeypatch.setattr(graph_passes, "slides", lambda *_: True)
    with pytest.raises(RunError, match="a sliding window of fewer than 9 tokens"):
        FixedPass(model, inputs(model, config()), config(), "decode")


# --- the graph itself, played ---------------------------------------------------------------------


class Played:
    """Stands for torch.cuda: a replay runs what was captured, unless it is told to differ."""

    def __init__(self, patch: pytest.MonkeyPatch, forward: FixedPass, scale: float = 1.0) -> None:
        self.forward, self.scale, self.resets = forward, scale, 0
        self.streams = ["default"]
        patch.setattr(torch.cuda, "CUDAGraph", lambda: self)
        patch.setattr(torch.cuda, "graph", self.capturing)
        patch.setattr(torch.cuda, "synchronize", lambda: None)
        patch.setattr(torch.cuda, "Stream", lambda: None)
        patch.setattr(torch.cuda, "current_stream", lambda: self.streams[-1])
        patch.setattr(torch.cuda, "set_stream", self.streams.append)
        patch.setattr(torch.cuda, "stream", self.capturing)

    @contextmanager
    def capturing(self, _: object) -> Iterator[None]:
        yield

    @contextmanager
    def failing(self, _: object) -> Iterator[None]:
        """The end of a capture in which something went wrong."""
        self.streams.append("of the capture")
        try:
            yield
        finally:
            raise RuntimeError("operation failed due to a previous error during capture")

    def replay(self) -> None:
        self.forward.run()
        assert self.forward.logits is not None
        self.forward.logits = self.forward.logits * self.scale

    def reset(self) -> None:
        self.resets += 1

    def pool(self) -> tuple[int, int]:
        return (0, 7)


def test_a_graph_is_back_at_the_first_step(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = config()
    batch = inputs(model, asked)
    forward = FixedPass(model, batch, asked, "decode")
    played = Played(monkeypatch, forward)
    graph = Graph(forward, "config x")
    for token in tokens(model, asked, batch)[1:]:
        graph.replay()
        assert forward.logits is not None
        assert torch.equal(forward.logits[:, -1:].argmax(-1), token)
    segments = [((0, 7), 2 << 20), ((0, 0), 20 << 20), ((0, 7), 4 << 20), ((0, 8), 1 << 20)]
    monkeypatch.setattr(
        torch.cuda,
        "memory_snapshot",
        lambda: [{"segment_pool_id": pool, "total_size": size} for pool, size in segments],
    )
    assert graph.pool_bytes() == 6 << 20
    graph.release()
    assert played.resets == 1


def test_a_graph_that_computes_something_else_is_refused(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = FixedPass(model, inputs(model, config()), config(), "decode")
    Played(monkeypatch, forward, scale=1.1)
    with pytest.raises(RunError, match="from those of the eager pass"):
        Graph(forward, "config x")


def test_what_cannot_be_captured_is_one_line(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = FixedPass(model, inputs(model, config()), config(), "decode")
    played = Played(monkeypatch, forward)

    def forbidden() -> None:
        raise RuntimeError("operation not permitted\nwhen stream is capturing")

    monkeypatch.setattr(torch.cuda, "graph", played.failing)
    monkeypatch.setattr(forward, "run", runs_twice_then(forward.run, forbidden))
    with pytest.raises(RunError) as caught:
        Graph(played.forward, "config x")
    assert str(caught.value) == (
        "config x: cannot be captured as a graph: operation not permitted\\nwhen stream is "
        "capturing; leave out --cuda-graph for it"
    )
    assert played.streams[-1] == "default"


def runs_twice_then(run: Callable[[], None], then: Callable[[], None]) -> Callable[[], None]:
    """The warm-up, and then the capture."""
    calls = iter((run, run, then))
    return lambda: next(calls)()


def test_no_memory_for_a_graph_is_told_as_such(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = FixedPass(model, inputs(model, config()), config(), "decode")
    played = Played(monkeypatch, forward)
    monkeypatch.setattr(torch.cuda, "graph", played.failing)

    def full() -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(forward, "run", runs_twice_then(forward.run, full))
    with pytest.raises(torch.OutOfMemoryError):
        Graph(forward, "config x")


@pytest.mark.parametrize(
    ("dtype", "apart", "fits"),
    [
        pytest.param(torch.float32, 1e-4, True, id="float32"),
        pytest.param(torch.float32, 1e-2, False, id="float32 too far"),
        pytest.param(torch.bfloat16, 2e-2, True, id="bfloat16"),
        pytest.param(torch.bfloat16, 2e-1, False, id="bfloat16 too far"),
        pytest.param(torch.float16, float("nan"), False, id="not a number"),
    ],
)
def test_logits_may_differ_by_rounding(dtype: torch.dtype, apart: float, fits: bool) -> None:
    eager = torch.tensor([1.0, -1.0], dtype=dtype)
    graph = eager + torch.tensor([apart, 0.0], dtype=dtype)
    if fits:
        check_logits("config x", graph, eager)
        return
    with pytest.raises(RunError):
        check_logits("config x", graph, eager)


def test_the_code_for_captures_runs_only_inside() -> None:
    before = torch.cuda.is_current_stream_capturing
    with as_captured():
        assert torch.cuda.is_current_stream_capturing()
    assert torch.cuda.is_current_stream_capturing is before
    with pytest.raises(ValueError, match="x"), as_captured():
        raise ValueError("x")
    assert torch.cuda.is_current_stream_capturing is before


def test_transformers_asks_what_is_played(model: Any) -> None:
    """Its own question, from 5.x on, is answered by the function that `as_captured` replaces."""
    from transformers.utils import import_utils

    asks = getattr(import_utils, "is_cuda_stream_capturing", None)
    if asks is None:
        pytest.skip("this transformers does not ask")
    assert not asks()
    with as_captured():
        assert asks()
