"""Logits held beside others: how far apart they are, and how far rounding alone may lead them."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from qwen3_profile.measure.executions.logits_check import (  # noqa: E402
    Output,
    allowed_error,
    largest_error,
    rounded_once_more,
)


def _outputs(*rows: list[float]) -> list[Output]:
    return [Output(torch.tensor([[row]]), None) for row in rows]


@pytest.mark.parametrize(
    ("found", "expected", "error"),
    [
        ([[3.0, 4.0]], [[3.0, 4.0]], 0.0),
        ([[3.0, 4.5]], [[3.0, 4.0]], 0.1),
        ([[3.0, 4.5], [0.0, 3.0]], [[3.0, 4.0], [0.0, 2.0]], 0.5),  # the worst of all passes
    ],
)
def test_the_largest_error(
    found: list[list[float]], expected: list[list[float]], error: float
) -> None:
    assert largest_error(_outputs(*found), _outputs(*expected)) == pytest.approx(error)


def test_the_worst_sequence_of_a_batch_counts() -> None:
    found = [Output(torch.tensor([[[1.0]], [[3.0]]]), None)]
    expected = [Output(torch.tensor([[[1.0]], [[2.0]]]), None)]
    assert largest_error(found, expected) == pytest.approx(0.5)


class _Layers(nn.Module):
    """Layers that give what they get, as a tensor or in a tuple."""

    def __init__(self, count: int, *, in_tuples: bool) -> None:
        super().__init__()
        kind = _InTuple if in_tuples else nn.Identity
        self.layers = nn.ModuleList(kind() for _ in range(count))

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            output = layer(hidden)
            hidden = output[0] if isinstance(output, tuple) else output
        return hidden


class _InTuple(nn.Module):
    def forward(self, hidden: torch.Tensor) -> tuple[torch.Tensor, None]:
        return hidden, None


@pytest.mark.parametrize("in_tuples", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_each_layer_rounds_once_more(dtype: torch.dtype, in_tuples: bool) -> None:
    """One layer moves a number by half a unit at most, and rounds: by one; four by four."""
    model = _Layers(4, in_tuples=in_tuples)
    given = torch.ones(1, 1, 512, dtype=dtype)
    with rounded_once_more(model):
        moved = model(given)
        assert torch.equal(model(given), moved) is False  # its noise goes on
    with rounded_once_more(model):
        assert torch.equal(model(given), moved)  # and is the same each time
    assert moved.dtype == dtype
    furthest = (moved.double() - 1).abs().max().item()
    assert 0 < furthest <= 4 * torch.finfo(dtype).eps
    assert torch.equal(model(given), given)  # the layers are as they were


def test_what_rounding_allows_grows_with_what_it_does() -> None:
    expected = _outputs([3.0, 4.0])
    little = allowed_error(_outputs([3.0, 4.05]), expected)
    much = allowed_error(_outputs([3.0, 4.5]), expected)
    assert little < much == pytest.approx(0.4)
