"""The same work on more ranks: what is saved, and what the rest goes to."""

from __future__ import annotations

from dataclasses import replace

import pytest
from make.samples import record

from qwen3_profile.analysis.rank_scaling import RankTimes, rank_scaling, times_of
from qwen3_profile.records.collective_sums import CollectiveTimes
from qwen3_profile.records.record import TimingRecord
from qwen3_profile.views.terminal.rank_scaling import render_scaling


def ranked(
    ranks: int, rank: int, total_ns: int, busy_ns: int, gap_ns: int, waiting_ns: int
) -> TimingRecord:
    """A pass with collectives of 1000 ns of transfer, if there are several ranks."""
    one = record(total_ns=total_ns)
    idle = one.times.idle._replace(starved_ns=0, queued_ns=0, blocked_ns=0, launching_ns=gap_ns)
    times = replace(one.times, busy_ns=busy_ns, idle=idle._replace(in_graph_ns=0))
    one = replace(one, times=times, id=f"{ranks}-{rank}")
    if ranks == 1:
        return one
    shared = CollectiveTimes(
        "layer.0.attn.o_proj", "all_reduce", 2, 64, ranks, 1000 + waiting_ns, 0, 1000, waiting_ns,
        500.0,
    )  # fmt: skip
    facts = replace(one.facts, rank=rank, world_size=ranks, parallel="tp")
    return replace(one, facts=facts, collectives=(shared,))


ALONE = ranked(1, 0, 20_000, 12_000, 6_000, 0)
# Kernels of 7000 ns where half of 12000 were expected, and idle time that stays.
PAIR = [ranked(2, 0, 16_000, 8_000, 6_000, 0), ranked(2, 1, 16_000, 10_000, 4_000, 2_000)]


def test_the_loss_is_told_apart_and_adds_up() -> None:
    (found,) = rank_scaling([*PAIR, ALONE])
    one, two = found.rows
    assert (one.ranks, one.speed_up, one.efficiency, one.loss_ns) == (1, 1.0, 1.0, 0)
    assert (two.ranks, two.bare_ns, two.speed_up, two.efficiency) == (2, 16_000, 1.25, 0.625)
    assert two.loss_ns == 16_000 - 20_000 / 2
    assert two.lost == RankTimes(compute_ns=1000, transfer_ns=1000, waiting_ns=1000, idle_ns=2000)
    assert two.rest_ns == 6_000 - 5_000
    assert two.lost.ns + two.rest_ns == two.loss_ns


def test_each_way_to_share_stands_alone() -> None:
    shared = [replace(r, facts=replace(r.facts, parallel="ep")) for r in PAIR]
    found = rank_scaling([ALONE, *PAIR, *shared])
    assert [(each.parallel, len(each.rows)) for each in found] == [("tp", 2), ("ep", 2)]
    assert "on more and more ranks (ep)" in render_scaling([ALONE, *shared])


def test_ranks_are_averaged() -> None:
    assert times_of(PAIR) == RankTimes(7000, 1000, 1000, 5000)


def test_the_table_says_the_same() -> None:
    rows = [line.split() for line in render_scaling([ALONE, *PAIR]).splitlines()]
    assert [
        "2",
        "0.016",
        "1.25x",
        "62%",
        "0.006",
        "0.001",
        "0.001",
        "0.001",
        "0.002",
        "0.001",
    ] in rows


@pytest.mark.parametrize(
    "others",
    [
        pytest.param([], id="one number of ranks"),
        pytest.param([replace(r, phase="decode") for r in PAIR], id="another phase"),
        pytest.param(
            [replace(r, facts=replace(r.facts, parallel="dp")) for r in PAIR], id="replicas"
        ),
        pytest.param([replace(r, total_ns=None) for r in PAIR], id="nothing bare"),
    ],
)
def test_what_is_not_the_same_work_is_not_compared(others: list[TimingRecord]) -> None:
    assert render_scaling([ALONE, *others]) == ""
