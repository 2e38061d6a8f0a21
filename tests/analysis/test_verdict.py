"""The sentence of what takes the most time: whose time it is, and that nothing is left out."""

from __future__ import annotations

from dataclasses import replace

import pytest
from make.samples import record, training_record

from qwen3_profile.analysis.verdict import sentences
from qwen3_profile.attribution.parts import Part, Times, make_part


def part(name: str, own: int, *parts: Part) -> Part:
    """A part with `own` ms of its own on the device, and with those of its parts."""
    ns = own * 1_000_000
    below = sum(each.total.device_ns for each in parts)
    return make_part(name, Times(device_ns=ns + below), Times(device_ns=ns), parts)


def largest(*parts: Part) -> str:
    times = replace(record().times, forward=part("prefill", 0, *parts))
    one = replace(record(), times=times)
    return sentences([one], one)[-1]


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        pytest.param(
            [
                part("layer.0", 1, part("layer.0.ffn", 0, part("layer.0.ffn.down_proj", 30))),
                part("layer.1", 0, part("layer.1.ffn", 0, part("layer.1.ffn.down_proj", 19))),
                part("norm", 50),
            ],
            "norm 50.0%, down_proj 49.0%; together 99.0%",
            id="summed over the layers; what a container has of its own is no part",
        ),
        pytest.param(
            [
                part(
                    "layer.0.ffn", 0, part("layer.0.ffn.router", 30),
                    part("layer.0.ffn.experts", 60, part("layer.0.ffn.experts.SiLU", 10)),
                )
            ],
            "experts 70.0%, router 30.0%; together 100.0%",
            id="a module in the experts is theirs",
        ),
        pytest.param(
            [
                part("layer.0.attn.o_proj", 20, part("layer.0.attn.o_proj.nccl", 50)),
                part("layer.0.attn", 0, part("layer.0.attn.nccl", 30)),
            ],
            "nccl 80.0%, o_proj 20.0%; together 100.0%",
            id="collectives are apart from those who launch them",
        ),
        pytest.param([part("norm", 0)], "", id="no time at all"),
    ],
)  # fmt: skip
def test_the_largest_parts(parts: list[Part], expected: str) -> None:
    assert largest(*parts) == (f"Most CUDA time: {expected}." if expected else "")


def test_a_part_has_the_time_of_its_backward_too() -> None:
    step = training_record()
    assert sentences([step], step)[-1] == "Most CUDA time: lm_head 100.0%; together 100.0%."
