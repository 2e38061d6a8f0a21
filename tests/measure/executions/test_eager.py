"""A prefill and its decode steps are what `generate` does, with either cache."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from make.labelled_models import has_hybrid, has_states, tiny_hybrid

from qwen3_profile.config import CACHES, RunConfig
from qwen3_profile.measure.executions import eager as generation
from qwen3_profile.measure.executions.eager import EagerExecution, Generation
from qwen3_profile.measure.model.inputs import Inputs
from qwen3_profile.measure.pass_kinds import BARE
from qwen3_profile.measure.profiler import Recorder

BATCH, LENGTH = 2, 5
STEPS = 6


@pytest.fixture(scope="module")
def inputs() -> torch.Tensor:
    return torch.randint(0, 97, (BATCH, LENGTH), generator=torch.Generator().manual_seed(1))


@contextmanager
def watched(model: Any) -> Iterator[list[torch.Tensor]]:
    """The token ids that each forward pass is given."""
    given: list[torch.Tensor] = []
    hook = model.register_forward_pre_hook(
        lambda module, args, kwargs: given.append(kwargs["input_ids"].clone()), with_kwargs=True
    )
    try:
        yield given
    finally:
        hook.remove()


@pytest.mark.parametrize("cache", CACHES)
def test_the_tokens_are_those_of_generate(model: Any, inputs: torch.Tensor, cache: str) -> None:
    expected = model.generate(
        inputs, attention_mask=torch.ones_like(inputs), max_new_tokens=STEPS + 1, do_sample=False
    )
    with watched(model) as given:
        one = Generation(model, inputs, STEPS, cache)
        one.prefill()
        for _ in range(STEPS):
            one.decode()
    assert torch.equal(torch.cat(given, dim=1), expected[:, : LENGTH + STEPS])
    # each is a choice of its own, so that a token repeated by mistake would show
    assert len(set(expected[0, LENGTH:].tolist())) > 2
    assert [ids.shape[1] for ids in given] == [LENGTH, *[1] * STEPS]


@pytest.mark.parametrize("cache", CACHES)
def test_the_cache_has_the_length_of_what_was_read(
    model: Any, inputs: torch.Tensor, cache: str
) -> None:
    one = Generation(model, inputs, 3, cache)
    lengths = []
    for forward in (one.prefill, one.decode, one.decode, one.decode):
        forward()
        lengths.append(int(one._cache.get_seq_length()))
    assert lengths == [LENGTH, LENGTH + 1, LENGTH + 2, LENGTH + 3]


def test_a_static_cache_has_its_full_length_at_once(model: Any, inputs: torch.Tensor) -> None:
    one = Generation(model, inputs, 7, "static")
    one.prefill()
    assert room_in(one) == LENGTH + 7
    grown = Generation(model, inputs, 7, "dynamic")
    grown.prefill()
    assert room_in(grown) == LENGTH


def room_in(generation: Generation) -> int:
    """The tokens that the tensors of the first layer's cache have room for."""
    cache = generation._cache
    keys = cache.layers[0].keys if hasattr(cache, "layers") else cache.key_cache[0]
    return int(keys.shape[2])


def test_two_generations_share_no_cache(model: Any, inputs: torch.Tensor) -> None:
    lengths = []
    for _ in range(2):
        one = Generation(model, inputs, 1)
        one.prefill()
        lengths.append(int(one._cache.get_seq_length()))
    assert lengths == [LENGTH, LENGTH]


@pytest.mark.parametrize(
    ("decode_steps", "chosen"), [pytest.param(0, 0, id="no decode"), pytest.param(2, 3, id="two")]
)
def test_a_token_is_chosen_after_each_pass_and_never_without_decode_steps(
    model: Any,
    inputs: torch.Tensor,
    monkeypatch: pytest.MonkeyPatch,
    decode_steps: int,
    chosen: int,
) -> None:
    labels: list[str] = []

    @contextmanager
    def leaf(name: str) -> Iterator[None]:
        labels.append(name)
        yield

    monkeypatch.setattr(generation, "leaf", leaf)
    one = Generation(model, inputs, decode_steps)
    one.prefill()
    for _ in range(decode_steps):
        one.decode()
    assert labels == ["sample"] * chosen
    assert (one._next_ids is None) is (decode_steps == 0)


@pytest.mark.parametrize(
    ("decode_steps", "prefilled"),
    [
        pytest.param(2, False, id="nothing was prefilled"),
        pytest.param(0, True, id="no step was announced"),
    ],
)
def test_a_decode_without_a_token_is_refused(
    model: Any, inputs: torch.Tensor, decode_steps: int, prefilled: bool
) -> None:
    one = Generation(model, inputs, decode_steps)
    if prefilled:
        one.prefill()
    with pytest.raises(RuntimeError, match="no token to decode"):
        one.decode()


def test_the_logits_are_of_the_last_position_and_keep_no_graph(
    model: Any, inputs: torch.Tensor
) -> None:
    outputs: list[Any] = []
    hook = model.register_forward_hook(lambda module, args, output: outputs.append(output))
    try:
        one = Generation(model, inputs, 1)
        one.prefill()
        one.decode()
    finally:
        hook.remove()
    assert [tuple(output.logits.shape[:2]) for output in outputs] == [(BATCH, 1)] * 2
    assert all(output.logits.is_inference() for output in outputs)


@pytest.mark.parametrize("cache", CACHES)
@pytest.mark.parametrize("kind", ["dense", "qwen3_next"])
def test_each_series_can_be_rewound_and_run_again(
    model: Any, inputs: torch.Tensor, kind: str, cache: str
) -> None:
    """Every round has the tokens and the logits of the first, to the bit."""
    if kind != "dense" and not (has_hybrid(kind) and has_states()):
        pytest.skip("this transformers has no such model, or no static cache of it")
    whole = model if kind == "dense" else tiny_hybrid(kind)
    batch = Inputs(inputs % 64, None, (LENGTH,) * BATCH)
    config = RunConfig(BATCH, LENGTH, "float32", decode_steps=3, cache=cache)  # type: ignore[arg-type]
    execution = EagerExecution(whole, batch, config, Recorder(torch.device("cpu")))
    seen: list[torch.Tensor] = []
    hook = whole.register_forward_hook(lambda *all_of_it: seen.append(all_of_it[-1].logits.clone()))
    with watched(whole) as given:
        for series in execution.passes(BARE):
            assert series.rewind is not None
            given.clear()
            seen.clear()
            for _ in range(3):
                series.rewind()
                for _ in range(series.steps):
                    series.forward()
            for each in (given, seen):
                first = each[: series.steps]
                assert len(each) == 3 * series.steps
                assert all(map(torch.equal, each, 3 * first))
            assert len({float(each.sum()) for each in seen}) == series.steps
    hook.remove()
