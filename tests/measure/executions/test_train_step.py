"""A training step's loss and gradients are the library's own; afterwards the model is as before."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from make.commands import Commands

from qwen3_profile.config import ModelRequest, RunConfig
from qwen3_profile.measure.executions.train_step import TrainStep, next_tokens, with_gradients
from qwen3_profile.measure.model.inputs import Inputs, config_inputs
from qwen3_profile.measure.model.load import LoadedModel, load_model
from qwen3_profile.measure.model.memory import least_needed

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def loaded(commands: Commands) -> LoadedModel:
    return load_model(ModelRequest(str(commands.model), "random"), "float32", None, CPU)


def inputs(kind: str) -> Inputs:
    return config_inputs(RunConfig(3, 7, inputs=kind), 250, 2, CPU)


@pytest.mark.parametrize(
    ("ids", "mask", "expected"),
    [
        pytest.param([[4, 5, 6]], None, [[5, 6, -100]], id="the last token has no next one"),
        pytest.param(
            [[4, 5, 6], [0, 7, 8]], [[1, 1, 1], [0, 1, 1]], [[5, 6, -100], [-100, 8, -100]],
            id="padding predicts nothing, and is not predicted",
        ),
        pytest.param(
            [[4, 5], [0, 7]], [[1, 1], [0, 1]], [[5, -100], [-100, -100]], id="a lone token",
        ),
    ],
)  # fmt: skip
def test_what_is_to_be_predicted(
    ids: list[list[int]], mask: list[list[int]] | None, expected: list[list[int]]
) -> None:
    masked = None if mask is None else torch.tensor(mask)
    assert next_tokens(Inputs(torch.tensor(ids), masked, ())).tolist() == expected


def reference(model: Any, given: Inputs) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss and gradients as the library computes them from labels, sequence by sequence."""
    mask = torch.ones_like(given.ids) if given.mask is None else given.mask
    labels = given.ids.masked_fill(mask == 0, -100)
    # The first token of a padded sequence follows padding, and is no target.
    first = mask.argmax(dim=1)
    labels[torch.arange(len(labels)), first] = -100
    output = model(given.ids, attention_mask=mask, position_ids=(mask.cumsum(1) - 1).clamp(min=0),
                   labels=labels, use_cache=False)  # fmt: skip
    output.loss.backward()
    grads = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad(set_to_none=True)
    return float(output.loss.detach()), grads


@pytest.mark.parametrize("kind", ["random", "ragged"])
def test_loss_and_gradients_are_the_librarys(loaded: LoadedModel, kind: str) -> None:
    model, given = loaded.model, inputs(kind)
    with with_gradients(model):
        expected, grads = reference(model, given)
        step = TrainStep(model, given)
        assert float(step.run()) == pytest.approx(expected, rel=1e-5)
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(parameter.grad, grads[name], msg=name)
        step.forget()
        assert all(parameter.grad is None for parameter in model.parameters())


def backward_twice(model: Any) -> None:
    loss = model(inputs("random").ids).logits.sum()
    loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    loss.backward()


def test_the_model_is_as_before(loaded: LoadedModel) -> None:
    wanted = [parameter.requires_grad for parameter in loaded.model.parameters()]
    with pytest.raises(RuntimeError), with_gradients(loaded.model):
        backward_twice(loaded.model)
    assert [parameter.requires_grad for parameter in loaded.model.parameters()] == wanted
    assert all(parameter.grad is None for parameter in loaded.model.parameters())
    assert not loaded.model.training


def test_a_training_step_needs_the_gradients_at_least(loaded: LoadedModel) -> None:
    facts = loaded.facts
    needed = least_needed(facts.shape, RunConfig(2, 8, backward=True), 4, "sdpa")
    assert needed.total_bytes == facts.weight_bytes
    assert needed.kv_bytes == 0
