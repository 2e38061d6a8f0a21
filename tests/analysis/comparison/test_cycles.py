"""Claims of times that have to hold in cycles of the SM clock, too, where that is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from make.samples import decode_record
from make.sides import side

from qwen3_profile.analysis.comparison.compare import Comparison, compare
from qwen3_profile.analysis.comparison.rows import Rules
from qwen3_profile.analysis.comparison.samples import samples_of
from qwen3_profile.records.process import Process
from qwen3_profile.run_folder.sm_clock import SmClock
from qwen3_profile.views.comparison.as_json import comparison_json
from qwen3_profile.views.terminal.two_sides import clock_lines, render_comparison

QUIET = [[1.00, 1.01, 0.99], [1.01, 1.02, 1.00], [0.99, 1.00, 0.98], [1.00, 1.01, 1.01]]
HELD = [[1980] * 3] * 4


def at(side: Sequence[Process], mhz: Sequence[Sequence[int]]) -> tuple[Process, ...]:
    """The processes, with the clock of each of their passes; none where there is 0."""
    found = []
    for process, clocks in zip(side, mhz, strict=True):
        (records,) = process.groups
        clocked = tuple(
            replace(record, sm_clock=SmClock(*((((mhz, mhz)),) * 4)) if mhz else SmClock())
            for record, mhz in zip(records, clocks, strict=True)
        )
        found.append(replace(process, groups=(clocked,)))
    return tuple(found)


def compared(
    factors: Sequence[float],
    base_mhz: Sequence[Sequence[int]],
    new_mhz: Sequence[Sequence[int]],
    rules: Rules | None = None,
) -> Comparison:
    """NEW takes so many times as long, process by process."""
    times = [[f * each for each in passes] for f, passes in zip(factors, QUIET, strict=True)]
    sides = at(side("a", QUIET), base_mhz), at(side("b", times, first=1), new_mhz)
    return compare(*sides, rules or Rules(), lambda *_: ())


LOW = [[1755] * 3] * 4
DIFFER, VARY = "clocks differ: 1,980 against 1,755 MHz", "clocks vary: 1,410 to 1,980 MHz"


@pytest.mark.parametrize(
    ("factor", "mhz", "state", "why"),
    [
        pytest.param(1.2, HELD, "slower", "", id="slower at the same clock"),
        pytest.param(0.8, HELD, "faster", "", id="faster at the same clock"),
        pytest.param(1.0, HELD, "same", "", id="the same at the same clock"),
        # 1980 / 1755 = 1.128: as many cycles as before.
        pytest.param(1.128, LOW, "undecided", DIFFER, id="slower because of the clock"),
        pytest.param(1.0, LOW, "undecided", DIFFER, id="as fast, in fewer cycles"),
        pytest.param(1.3, LOW, "slower", "", id="slower than the clock explains"),
        pytest.param(0.9, LOW, "faster", "", id="faster against the clock"),
        pytest.param(1.06, LOW, "undecided", DIFFER, id="slower, in fewer cycles"),
    ],
)
def test_a_claim_of_times_has_to_hold_in_cycles(
    factor: float, mhz: list[list[int]], state: str, why: str
) -> None:
    found = compared([factor] * 4, HELD, mhz)
    (config,) = found.configs
    assert {row.state for row in config.every_row} == {state}
    assert {row.unconfirmed for row in config.every_row} == {why}
    assert bool(found.regressions) is (state == "slower")
    for row in config.every_row:
        assert row.test is not None
        assert row.in_cycles is not None
        assert row.test.ratio == pytest.approx(factor)
        assert row.in_cycles.ratio == pytest.approx(factor * mhz[0][0] / 1980)


def test_a_regression_beyond_the_margin_is_one_in_cycles_too() -> None:
    """1.2 times as long, of which the clock explains all but 2.8 %."""
    new = [[1696] * 3] * 4
    found = compared([1.2] * 4, HELD, new)
    (config,) = found.configs
    assert {row.state for row in config.every_row} == {"slower"}
    assert not found.regressions
    assert len(compared([1.2] * 4, HELD, new, Rules(margin=0.005)).regressions) > 0


def test_clocks_that_vary_hide_what_times_show() -> None:
    """The two sides have the same clock in the middle; one process of each ran at a lower one."""
    mhz = [[1980] * 3, [1980] * 3, [1980] * 3, [1410] * 3]
    found = compared([1.2] * 4, mhz, mhz[::-1])
    (config,) = found.configs
    assert {(row.state, row.unconfirmed) for row in config.every_row} == {("undecided", VARY)}
    assert {row.state for row in compared([1.2] * 4, HELD, HELD).configs[0].rows} == {"slower"}


def test_a_slower_clock_within_a_process_is_taken_pass_by_pass() -> None:
    """Two passes at half the clock take twice as long: as many cycles as the others."""
    times = [[1.0, 2.0, 2.0], *QUIET[1:]]
    mhz = [[1980, 990, 990], *HELD[1:]]
    sides = at(side("a", times), mhz), at(side("b", QUIET, first=1), HELD)
    (config,) = compare(*sides, Rules(), lambda *_: ()).configs
    assert config.whole is not None
    assert config.whole.test is not None
    assert config.whole.in_cycles is not None
    # Of four processes one took twice as long.
    assert config.whole.test.ratio == pytest.approx(0.5**0.25)
    assert config.whole.in_cycles.ratio == pytest.approx(1.0)


def test_what_could_be_seen_allows_for_the_lower_clock() -> None:
    """A slowdown of NEW first has to make up for the cycles that its clock saved."""
    (same,) = compared([1.0] * 4, HELD, HELD).configs
    (low,) = compared([1.0] * 4, HELD, LOW).configs
    for one, other in zip(same.every_row, low.every_row, strict=True):
        assert one.sees is not None
        assert other.sees == pytest.approx((1 + one.sees) * 1980 / 1755 - 1)
        # No number of processes shows 5 % more time where the clock takes 11 % off the cycles.
        assert (one.needed, other.needed) == (3, None)
    assert len(compared([1.0] * 4, HELD, LOW).blind) == 1


@pytest.mark.parametrize(
    ("base", "new"),
    [
        pytest.param([[0] * 3] * 4, HELD, id="of one side"),
        pytest.param(HELD, [*HELD[:3], [1980, 0, 1980]], id="not in one pass"),
        pytest.param([[0] * 3] * 4, [[0] * 3] * 4, id="of none"),
    ],
)
def test_without_clocks_times_alone_decide_and_a_line_says_so(
    base: list[list[int]], new: list[list[int]]
) -> None:
    (config,) = compared([1.2] * 4, base, new).configs
    assert {row.state for row in config.every_row} == {"slower"}
    assert {row.in_cycles for row in config.every_row} == {None}
    (line,) = clock_lines(config)
    assert line.startswith("SM clocks are not known of both sides")


def test_times_of_the_host_have_no_sm_clock() -> None:
    (config,) = compared([1.2] * 4, HELD, LOW, Rules(times="cpu")).configs
    assert config.whole is not None
    assert config.whole.in_cycles is not None
    assert {row.in_cycles for row in config.rows} == {None}


def test_the_steps_of_a_decode_have_the_clock_of_their_run() -> None:
    whole = decode_record(leaves_ns={0: 100, 2: 100}, step_times_ns=(500, 600, 700))
    runs = [
        replace(whole, sm_clock=SmClock(bare=(1980, 1960), traced=(1500, 1500)), run_index=0),
        replace(whole, sm_clock=SmClock(bare=(1755, 1755), traced=(1400, 1600)), run_index=1),
    ]
    process = Process("a", "a", (tuple(runs),))
    found = samples_of(process, tuple(runs), "part", True, lambda *_: ())
    assert found.bare_mhz == (1970, 1970, 1970, 1755, 1755, 1755)
    # Its device times are of the traced passes.
    assert found.rows_mhz == (1500, 1500)


def test_the_views_tell_clocks_and_what_they_withhold() -> None:
    found = compared([1.128] * 4, HELD, LOW)
    (config,) = found.configs
    clock, withheld = clock_lines(config)
    assert clock.startswith("SM clock: BASE 1,980 MHz, NEW 1,755 MHz")
    assert DIFFER in withheld
    assert f"and {len(config.every_row) - 5} more" in withheld
    text = render_comparison(found).replace("\n  ", " ")
    assert DIFFER in text
    assert "SM clock, bare passes" in text
    assert "processes a side would see it" not in text
    (written,) = comparison_json(found)["configs"]
    assert written["sm_clock_mhz"]["total_time"]["new"] == [(1755.0,) * 3] * 4
    assert written["total_time"]["unconfirmed"] == DIFFER
    assert written["total_time"]["test_of_cycles"]["ratio"] == pytest.approx(1.128 * 1755 / 1980)
