"""The sentence of what takes the most time: whose time it is, and that nothing is left out."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from make.samples import record, training_record

from qwen3_profile.analysis.pass_sentences import sentences
from qwen3_profile.analysis.verdict import (
    BLOCKED,
    COMMUNICATION_BOUND,
    GPU_BOUND,
    LAUNCH_BOUND,
    MIXED,
    QUEUED,
    DeviceShare,
)
from qwen3_profile.attribution.idle import IdleTimes
from qwen3_profile.attribution.parts import Part, Times, make_part
from qwen3_profile.passes.pass_times import Unattributed


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
            "norm 50.0%, down_proj 49.0%, other 1.0%; top 3: 100.0% in total",
            id="summed over the layers; what a container has of its own is other",
        ),
        pytest.param(
            [
                part(
                    "layer.0.ffn", 0, part("layer.0.ffn.router", 30),
                    part("layer.0.ffn.experts", 60, part("layer.0.ffn.experts.SiLU", 10)),
                )
            ],
            "experts 70.0%, router 30.0%; top 2: 100.0% in total",
            id="a module in the experts is theirs",
        ),
        pytest.param(
            [
                part("layer.0.attn.o_proj", 20, part("layer.0.attn.o_proj.nccl", 50)),
                part("layer.0.attn", 0, part("layer.0.attn.nccl", 30)),
            ],
            "nccl 80.0%, o_proj 20.0%; top 2: 100.0% in total",
            id="collectives are apart from those who launch them",
        ),
        pytest.param([part("norm", 0)], "", id="no time at all"),
    ],
)  # fmt: skip
def test_the_largest_parts(parts: list[Part], expected: str) -> None:
    assert largest(*parts) == (f"Most CUDA time: {expected}." if expected else "")


@pytest.mark.parametrize(
    ("unattributed_ms", "told"),
    [(0, None), (4, None), (900, "90.0% of all CUDA time belongs to none of these ranges")],
)
def test_what_lies_outside_of_all_ranges_is_told(unattributed_ms: int, told: str | None) -> None:
    times = replace(
        record().times,
        forward=part("trace", 0, part("step", 100)),
        device_ns=(100 + unattributed_ms) * 1_000_000,
        unattributed=unattributed(unattributed_ms),
    )
    one = replace(record(), phase="trace", times=times)
    last = sentences([one], one)[-1]
    if told is None:
        assert last == "Most CUDA time inside these ranges: step 100.0%."
    else:
        assert last.startswith(told)


def unattributed(ms: int) -> tuple[Unattributed, ...]:
    return (Unattributed("no label open", ms * 1_000_000, 1),) if ms else ()


def test_parts_that_would_read_as_nothing_are_not_named() -> None:
    assert largest(part("norm", 99_999), part("lm_head", 1)) == "Most CUDA time: norm 100.0%."


def test_of_a_pass_whose_kernels_were_captured_the_cpu_alone_is_judged() -> None:
    forward = make_part("forward", Times(cpu_ns=50), Times(cpu_ns=50), ())
    times = replace(record().times, forward=forward)
    one = replace(record(), phase="forward", total_ns=None, config=None, times=times)
    assert sentences([one], one) == ("Most CPU time: other 100.0%.",)


def test_a_part_has_the_time_of_its_backward_too() -> None:
    step = training_record()
    assert sentences([step], step)[-1] == "Most CUDA time: lm_head 100.0%."


idles = st.builds(IdleTimes, *[st.integers(0, 1000)] * len(IdleTimes._fields))
shares = st.builds(
    DeviceShare,
    busy_ns=st.integers(0, 10_000).map(float),
    span_ns=st.integers(1, 10_000).map(float),
    is_bare=st.booleans(),
    idle=idles,
)
# What a sentence says, and when that is so.
CLAIMS = {
    "waits for the CPU": lambda share: (
        share.busy_ns / share.span_ns < 0.5
        and (share.idle.starved_ns + share.idle.launching_ns) * 2 >= share.idle.ns
    ),
    "the kernels set the pace": lambda share: share.busy_ns / share.span_ns > 0.9,
    "sits in a call that waits": lambda share: (
        share.idle.blocked_ns > share.idle.queued_ns
        and (share.idle.starved_ns + share.idle.launching_ns) * 2 < share.idle.ns
    ),
    "had been launched and did not run": lambda share: (
        share.idle.blocked_ns <= share.idle.queued_ns
        and (share.idle.starved_ns + share.idle.launching_ns) * 2 < share.idle.ns
    ),
    "kernels and idle time both matter": lambda share: (
        0.5 <= share.busy_ns / share.span_ns <= 0.9
    ),
}  # fmt: skip


@settings(max_examples=500)
@given(shares)
def test_a_sentence_says_what_its_numbers_say_and_nothing_else(share: DeviceShare) -> None:
    said = [claim for claim in CLAIMS if claim in share.sentence]
    assert len(said) == 1
    assert CLAIMS[said[0]](share)
    assert f"({share.busy_ns / share.span_ns:.0%})" in share.sentence


@pytest.mark.parametrize(
    ("busy_ns", "idle", "verdict"),
    [
        pytest.param(10, IdleTimes(starved_ns=70, launching_ns=20), LAUNCH_BOUND, id="launches"),
        pytest.param(95, IdleTimes(starved_ns=5), GPU_BOUND, id="kernels"),
        pytest.param(70, IdleTimes(starved_ns=30), MIXED, id="both"),
        pytest.param(10, IdleTimes(blocked_ns=80, starved_ns=10), BLOCKED, id="a synchronisation"),
        pytest.param(10, IdleTimes(queued_ns=80, starved_ns=10), QUEUED, id="asked long before"),
        pytest.param(10, IdleTimes(), LAUNCH_BOUND, id="idle is not known"),
    ],
)
def test_what_a_pass_waits_for(busy_ns: float, idle: IdleTimes, verdict: str) -> None:
    assert DeviceShare(busy_ns, 100, True, idle).verdict == verdict


@pytest.mark.parametrize(
    ("busy_ns", "carried_ns", "verdict"),
    [
        pytest.param(121, 80, COMMUNICATION_BOUND, id="most of it in collectives"),
        pytest.param(60, 40, COMMUNICATION_BOUND, id="half of the pass idle"),
        pytest.param(95, 40, GPU_BOUND, id="less than half of it"),
        pytest.param(20, 18, LAUNCH_BOUND, id="hardly busy at all"),
    ],
)
def test_a_rank_that_waits_inside_of_collectives(
    busy_ns: float, carried_ns: float, verdict: str
) -> None:
    idle = IdleTimes(starved_ns=max(1, 100 - int(busy_ns)))
    share = DeviceShare(busy_ns, 100, True, idle, communication_ns=carried_ns)
    assert share.verdict == verdict
    assert ("collectives" in share.sentence) == (verdict == COMMUNICATION_BOUND)


def test_all_of_the_time_is_named() -> None:
    assert largest(part("layer.0", 99), part("norm", 1)) == (
        "Most CUDA time: other 99.0%, norm 1.0%; top 2: 100.0% in total."
    )
