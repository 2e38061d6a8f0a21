"""What a rank of a tensor parallel run computes: its share of what is cut, all of what is not."""

from __future__ import annotations

import pytest

from qwen3_profile.measure.model.published_shapes import PUBLISHED
from qwen3_profile.records.flops import PassSize, forward_flops
from qwen3_profile.records.run_flops import shape_of_a_rank

SIZE = PassSize(sequences=2, tokens=16, pairs=2 * 136, logits=2)
# What every rank does for all tokens.
WHOLE = (".router", ".shared_expert_gate")


@pytest.mark.parametrize("name", ["Qwen/Qwen3-0.6B", "Qwen/Qwen3-8B", "Qwen/Qwen3-30B-A3B"])
@pytest.mark.parametrize("ranks", [2, 4])
def test_ranks_share_every_product_but_the_router(name: str, ranks: int) -> None:
    shape = PUBLISHED[name]
    mine = shape_of_a_rank(shape, ranks)
    assert mine is not None
    alone, shared = forward_flops(shape, SIZE), forward_flops(mine, SIZE)
    assert alone.keys() == shared.keys()
    for label, flops in alone.items():
        assert shared[label] == (flops if label.endswith(WHOLE) else flops // ranks), label


def test_of_delta_nets_nobody_knows_a_ranks_share() -> None:
    assert shape_of_a_rank(PUBLISHED["Qwen/Qwen3.5-9B"], 2) is None
