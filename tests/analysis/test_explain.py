"""Verdicts on parts and passes: built so that the answer is known, and withheld where it is not."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from make.commands import Commands
from make.paths import ROOT
from make.roofs import MEMORY, PRODUCT, SHORT, SLOW, US, Work, bounded
from make.samples import record

from qwen3_profile.analysis.advice import ADVICE, advice
from qwen3_profile.analysis.explain import explain
from qwen3_profile.analysis.part_verdicts import part_verdicts
from qwen3_profile.analysis.verdict import (
    BLOCKED,
    COMMUNICATION_BOUND,
    COMPUTE_BOUND,
    LATENCY_BOUND,
    LAUNCH_BOUND,
    MEMORY_BOUND,
    UNDECIDED,
    device_share,
)
from qwen3_profile.attribution.idle import IdleTimes
from qwen3_profile.attribution.parts import Times, make_part
from qwen3_profile.views.terminal.explain import render_explanation
from qwen3_profile.views.terminal.tables import render


def starved(us: int) -> IdleTimes:
    return IdleTimes(starved_ns=us * US)


@pytest.mark.parametrize(
    ("work", "kind", "why"),
    [
        (MEMORY, MEMORY_BOUND, ""),  # 80 of 100 us
        (PRODUCT, COMPUTE_BOUND, ""),  # 90
        (SHORT, LATENCY_BOUND, ""),  # 1 of 100 us, kernels of 2 us
        ((100, 1, 0, 0), LATENCY_BOUND, ""),  # calls alone
        (SLOW, UNDECIDED, "far from both roofs, 1%, in kernels of 100.0 us"),
        ((100, 1, 0, 450_000), UNDECIDED, "45% of its roof: neither near it nor far from it"),
        ((100, 1, 0, 620_000), UNDECIDED, "56% to 68% of its roof, and the bound between"),
        ((100, 1, 0, 1_200_000), UNDECIDED, "120% of its roof is impossible: its data lie in a"),
        ((100, 1, 12_000_000, 100), UNDECIDED, "is impossible: the clock was higher"),
        ((100, 1, 0, None), UNDECIDED, "not known what it computes and moves"),
        ((100, 1, 10_000, None), UNDECIDED, "known in part only"),
        ((100, 50, 10_000, None), UNDECIDED, "known in part only"),  # the memory may hold it up
        ((100, 1, 9_000_000, None), COMPUTE_BOUND, ""),
    ],
)
def test_a_part_is_bound_by_the_roof_that_it_is_near(work: Work, kind: str, why: str) -> None:
    given = bounded({"lm_head": work}, wall_us=110)
    (found,) = part_verdicts([given], given, True)
    assert (found.name, found.kind) == ("lm_head", kind)
    assert why in found.why
    assert bool(found.why) == (kind == UNDECIDED)


def test_passes_that_disagree_leave_a_part_undecided() -> None:
    """95 % of the roof in one pass and 55 % in another; of the quartiles the lower is 65 %."""
    fast, slow = (bounded({"lm_head": (us, 1, 0, 950_000)}, wall_us=300) for us in (100, 173))
    (found,) = part_verdicts([fast, slow], fast, True)
    assert found.kind == MEMORY_BOUND
    slower = bounded({"lm_head": (300, 1, 0, 950_000)}, wall_us=300)
    (found,) = part_verdicts([fast, slower], fast, True)
    assert found.kind == UNDECIDED
    assert "and the bound between" in found.why


def test_both_roofs_are_named_where_they_are_as_near() -> None:
    given = bounded({"lm_head": (100, 1, 8_000_000, 750_000)}, wall_us=110)
    (found,) = part_verdicts([given], given, True)
    assert found.is_at_the_ridge
    assert "the other roof is about as near" in explain([given]).claims[1].sentence


QUEUED = IdleTimes(queued_ns=300 * US)
IN_GRAPH = IdleTimes(in_graph_ns=300 * US)


@pytest.mark.parametrize(
    ("works", "wall_us", "idle", "kind", "best_us"),
    [
        pytest.param({"norm": SHORT}, 1000, starved(900), LAUNCH_BOUND, 100, id="starved"),
        pytest.param({"lm_head": MEMORY, "norm": SHORT}, 210, starved(10), None, None, id="even"),
        pytest.param({"lm_head": MEMORY}, 110, starved(10), MEMORY_BOUND, 90, id="memory"),
        pytest.param({"lm_head": PRODUCT}, 110, starved(10), COMPUTE_BOUND, 100, id="compute"),
        pytest.param({"norm": SHORT}, 110, starved(10), LATENCY_BOUND, 11, id="short"),
        pytest.param({"norm": SLOW}, 110, starved(10), None, None, id="slow kernels"),
        pytest.param(
            {"norm": SHORT}, 400, IdleTimes(blocked_ns=300 * US), BLOCKED, 100, id="blocked"
        ),
        pytest.param({"lm_head": MEMORY}, 400, QUEUED, None, None, id="queued"),
        pytest.param({"norm": SHORT}, 400, IN_GRAPH, LATENCY_BOUND, 1, id="gaps in a graph"),
        pytest.param({"lm_head": MEMORY}, 215, starved(115), None, None, id="noise could turn it"),
    ],
)
def test_a_pass_is_bound_by_what_most_of_its_time_goes_to(
    works: dict[str, Work], wall_us: int, idle: IdleTimes, kind: str | None, best_us: int
) -> None:
    found = explain([bounded(works, wall_us=wall_us, idle=idle)])
    assert found.whole.kind == (kind or UNDECIDED)
    head = found.claims[0]
    assert bool(head.withheld) == (kind is None)
    tied = f"{ADVICE[MEMORY_BOUND]}; {ADVICE[LATENCY_BOUND]}" if found.whole.tied else ""
    assert head.advice == ADVICE.get(found.whole.kind, tied)
    if kind is not None:
        assert found.whole.best_ns == pytest.approx(best_us * US)
        assert head.gain_ns == pytest.approx((wall_us - best_us) * US)


def test_a_pass_of_parts_without_a_verdict_names_the_first_of_them() -> None:
    head = explain([bounded({"norm": SLOW}, wall_us=110, idle=starved(10))]).claims[0]
    assert (
        "parts without a verdict, first norm: far from both roofs, 1%, in kernels of 100.0 us"
        in (head.sentence)
    )


def test_the_table_names_what_is_faster_than_it_can_be() -> None:
    fast = bounded({"lm_head": MEMORY, "norm": (100, 1, 0, 1_200_000)}, wall_us=210)
    page = " ".join(render([fast]).split())
    assert "80% m" in page
    assert "over m" in page
    assert page.count("over: faster than the ceiling") == 1
    assert "over: " not in render([bounded({"lm_head": MEMORY}, wall_us=110)])


def test_a_pass_that_exchanges_data() -> None:
    given = bounded({"lm_head": MEMORY}, wall_us=110, communication_us=70)
    found = explain([given])
    assert found.whole.kind == COMMUNICATION_BOUND
    # What ran meanwhile may have covered it: 100 us busy, and 100 of it other work.
    times = replace(given.times, device_ns=170 * US)
    assert explain([replace(given, times=times)]).whole.kind == MEMORY_BOUND


def test_a_collective_is_a_part_that_exchanges_data() -> None:
    works = {"lm_head": MEMORY, "nccl": (70, 2, 0, None)}
    given = bounded(works, wall_us=180, communication_us=70)
    found = explain([given])
    assert found.whole.split == {MEMORY_BOUND: 100 * US, COMMUNICATION_BOUND: 70 * US,
                                 LAUNCH_BOUND: 10 * US}  # fmt: skip
    claim = next(each for each in found.claims if each.subject == "nccl")
    assert (claim.verdict, claim.gain_ns) == (COMMUNICATION_BOUND, 70 * US)
    assert claim.sentence == (
        "nccl: communication-bound: devices exchange data, and compute nothing in it; at "
        "most 0.070 ms to gain."
    )
    page = " ".join(render_explanation(found).split())
    assert "lm_head: memory-bound: 8.0 GB/s, 80% of what was measured; at most 0.020 ms to" in page
    assert "What usually helps a communication-bound part: overlap communication" in page
    assert page.count("What usually helps") == 2


def test_without_a_device_python_is_what_is_in_no_part() -> None:
    tiny = {"lm_head": (5, 2, 0, 100), "norm": (5, 2, 0, 100)}
    host = explain([bounded(tiny, wall_us=100, on_device=False)])
    assert host.whole.kind == LAUNCH_BOUND
    assert "calling operators" in host.claims[0].sentence
    large = explain([bounded({"lm_head": PRODUCT}, wall_us=105, on_device=False)])
    assert large.whole.kind == COMPUTE_BOUND
    assert "fp8" not in large.claims[0].advice
    # Of 205 us the products have 100, of 245 us 100, too: which of the two leads is noise.
    noisy = [bounded({"lm_head": PRODUCT}, wall_us=us, on_device=False) for us in (170, 190, 245)]
    assert explain(noisy).whole.why == "noise, or what the profiler costs, could turn it"


@pytest.mark.parametrize(
    ("execution", "on_device", "said", "unsaid"),
    [
        (None, True, "a CUDA graph (--cuda-graph), torch.compile (--compile)", "operators"),
        ("compiled", True, "a CUDA graph (--cuda-graph)", "--compile"),
        ("cuda_graph", True, "several steps in one graph", "--cuda-graph"),
        ("eager", False, "torch.compile (--compile)", "CUDA"),
        ("compiled", False, "a larger batch", "--compile"),
    ],
)
def test_nobody_is_told_to_do_what_the_pass_does(
    execution: str | None, on_device: bool, said: str, unsaid: str
) -> None:
    told = advice(LAUNCH_BOUND, execution, on_device)
    assert said in told
    assert unsaid not in told
    assert advice(UNDECIDED, execution, on_device) == ""
    if on_device:
        assert "--" not in advice(LAUNCH_BOUND, execution, on_device, is_ours=False)


def test_without_ceilings_only_waiting_can_be_told() -> None:
    given = bounded({"lm_head": MEMORY}, wall_us=110, idle=starved(10))
    without = replace(given, facts=record().facts)
    found = explain([without])
    assert found.whole.why == (
        "most of the time goes to work, and what the device does at most was not measured"
    )
    waits = bounded({"lm_head": MEMORY}, wall_us=1000, idle=starved(900))
    assert explain([replace(waits, facts=record().facts)]).whole.kind == LAUNCH_BOUND


@pytest.mark.parametrize(("idle_us", "kind"), [(900, LAUNCH_BOUND), (150, UNDECIDED)])
def test_what_the_profiler_costs_may_not_turn_the_verdict_of_a_lone_trace(
    idle_us: int, kind: str
) -> None:
    """A pass of 250 us under the profiler may take 119 us bare, of which 100 are work."""
    given = bounded({"lm_head": MEMORY}, wall_us=100 + idle_us, idle=starved(idle_us))
    total = given.times.forward.total._replace(gap_ns=idle_us * US, starved_ns=idle_us * US)
    forward = make_part("prefill", total, Times(), given.times.forward.parts)
    lone = replace(given, total_ns=None, times=replace(given.times, forward=forward))
    assert explain([lone]).whole.kind == kind


def test_the_page_says_what_the_claims_say() -> None:
    found = explain([bounded({"lm_head": MEMORY, "norm": SLOW}, wall_us=1000, idle=starved(800))])
    page = render_explanation(found)
    assert page.startswith("prefill of run1, config 0: 2 x 256 tokens, Qwen/Qwen3-0.6B, bfloat16")
    flat = " ".join(page.split())
    for claim in found.claims:
        assert " ".join(claim.sentence.split()) in flat
    assert re.search(r"lm_head +0.100 +1 +8.0 +80% m +0.080 +memory-bound", page)
    assert max(map(len, page.splitlines())) <= 100


@given(
    works=st.dictionaries(
        st.sampled_from(["lm_head", "norm", "embed_tokens", "sample"]),
        st.tuples(
            st.integers(1, 5000), st.integers(1, 90), st.integers(0, 10**10), st.integers(0, 10**9)
        ),
        min_size=1,
    ),
    idle=st.tuples(*[st.integers(0, 10**7)] * 5),
    slack_us=st.integers(0, 9000),
)
@settings(max_examples=60)
def test_the_wall_clock_is_split_without_rest_and_no_gain_exceeds_it(
    works: dict[str, Work], idle: tuple[int, ...], slack_us: int
) -> None:
    wall_us = sum(work[0] for work in works.values()) + slack_us
    given = bounded(works, wall_us=wall_us, idle=IdleTimes(*idle))
    found = explain([given])
    whole = found.whole
    assert sum(whole.split.values()) == pytest.approx(wall_us * US)
    assert 0 <= whole.best_ns <= whole.wall_ns * (1 + 1e-9)
    assert whole.gain >= 1 - 1e-9
    share = device_share([given])
    assert share is not None
    # Sentences on one page do not contradict each other.
    if whole.kind == LAUNCH_BOUND:
        assert share.verdict in (LAUNCH_BOUND, "mixed")
    if share.verdict == "GPU-bound":
        assert whole.kind not in (LAUNCH_BOUND, BLOCKED)


def test_the_saved_run_of_an_h200_is_explained_from_disk(
    commands: Commands, tmp_path: Path
) -> None:
    done = commands.export(tmp_path, ROOT / "traces/h200", "--explain")
    assert done.code == 0, done.err
    assert "decode is launch-bound" in done.out
    assert not (tmp_path / "timing_results").exists()
    as_json = commands.export(tmp_path, ROOT / "traces/h200", "--explain", "json")
    claims = json.loads(as_json.out)
    decode = next(c for c in claims if c["phase"] == "decode")
    assert decode["verdict"] == "launch-bound"
    assert decode["rests_on"]["wall_ns"] - decode["rests_on"]["busy_ns"] == decode["gain_ns"]
    assert commands.export(tmp_path, ROOT / "traces/h200", "--explain", "--report").code == 2
