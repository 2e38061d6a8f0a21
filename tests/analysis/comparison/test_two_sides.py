"""Two sides of processes whose differences are known: states, gates, what forbids a verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from make.samples import decode_record, record
from make.sides import process, side

from qwen3_profile.analysis.comparison import compare as module
from qwen3_profile.analysis.comparison.compare import Comparison
from qwen3_profile.analysis.comparison.rows import Rules
from qwen3_profile.errors import ConfigError
from qwen3_profile.records.process import Process
from qwen3_profile.records.sides import kernels_of
from qwen3_profile.views.terminal.two_sides import render_comparison

QUIET = [[1.00, 1.01, 0.99], [1.01, 1.02, 1.00], [0.99, 1.00, 0.98], [1.00, 1.01, 1.01]]
ATTN = ("prefill", "layers", "attn")


def compare(base: Sequence[Process], new: Sequence[Process], rules: Rules) -> Comparison:
    return module.compare(base, new, rules, kernels_of)


def times(factor: float) -> list[list[float]]:
    return [[factor * each for each in passes] for passes in QUIET]


def quiet(factor: float = 1.0, rules: Rules | None = None) -> Comparison:
    """NEW takes so many times as long as BASE; both in turn, and processes differ by 1 %."""
    sides = side("a", QUIET), side("b", times(factor), first=1)
    return compare(*sides, rules or Rules())


@pytest.mark.parametrize(
    ("factor", "state", "is_within", "fails"),
    [
        (1.0, "same", True, False),
        (1.2, "slower", False, True),
        (0.8, "faster", False, False),
        (1.06, "slower", False, False),  # slower, but not by 5 % beyond noise
        (1.03, "slower", True, False),
    ],
)
def test_every_row_has_its_state(factor: float, state: str, is_within: bool, fails: bool) -> None:
    found = quiet(factor)
    (config,) = found.configs
    assert config.whole is not None
    assert {row.state for row in config.every_row} == {state}
    assert config.whole.is_within is is_within
    assert config.whole.ratio == pytest.approx(factor)
    assert bool(found.regressions) is fails


def test_the_row_is_the_geometric_mean_of_the_processes_medians() -> None:
    (config,) = quiet(1.2).configs
    assert config.whole is not None
    wanted = 1e6 * (1.00 * 1.01 * 0.99 * 1.01) ** 0.25
    assert config.whole.base_ns == pytest.approx(wanted)
    assert config.whole.change_ns == pytest.approx(0.2 * wanted)


def test_noise_hides_a_change_and_the_row_says_what_it_could_have_shown() -> None:
    noisy = [[0.7] * 3, [1.0] * 3, [1.3] * 3]
    found = compare(
        side("a", noisy), side("b", [[1.1 * x for x in p] for p in noisy], first=1), Rules()
    )
    (config,) = found.configs
    assert {row.state for row in config.every_row} == {"undecided"}
    assert config.whole is not None
    assert config.whole.test is not None
    assert config.whole.test.sees > 0.5
    assert [row.path for _, row in found.blind] == [("total_time",)]
    assert config.whole.needed is not None
    assert config.whole.needed > 100


@pytest.mark.parametrize(
    ("sides", "rules", "why"),
    [
        pytest.param(
            (side("a", QUIET[:1]), side("b", QUIET[:1], first=1)), Rules(), "one process a side",
            id="one process",
        ),
        pytest.param(
            (side("a", QUIET[:2]), side("b", QUIET[:2], first=1)), Rules(), "2 processes a side",
            id="two processes",
        ),
        pytest.param(
            (side("a", [p[:2] for p in QUIET]), side("b", QUIET, first=1)), Rules(),
            "2 passes in a process", id="few passes",
        ),
        pytest.param(
            (side("a", QUIET), side("b", QUIET, first=20)), Rules(), "one side ended before",
            id="blocks",
        ),
        pytest.param(
            (side("b", QUIET, first=20), side("a", QUIET)), Rules(), "one side ended before",
            id="blocks the other way round",
        ),
        pytest.param(
            (side("a", QUIET), side("b", QUIET, first=20)), Rules(blocks=True), "",
            id="blocks that were accepted",
        ),
    ],
)  # fmt: skip
def test_what_forbids_a_verdict(sides: tuple, rules: Rules, why: str) -> None:
    (config,) = compare(*sides, rules).configs
    assert config.undecided.startswith(why)
    assert bool(config.undecided) == bool(why)
    assert {row.state for row in config.every_row} == {"undecided" if why else "same"}


def test_sides_that_did_different_work_are_shown_and_not_judged() -> None:
    whole = record()
    small = replace(whole, config=replace(whole.config, batch_size=1))
    base = tuple(process(f"a{at}", p, minute=2 * at, whole=small) for at, p in enumerate(QUIET))
    new = tuple(
        process(f"b{at}", p, minute=2 * at + 1, whole=whole) for at, p in enumerate(times(2.0))
    )
    found = compare(base, new, Rules())
    (config,) = found.configs
    assert config.undecided == "BASE and NEW did different work: they differ in batch size"
    assert {row.state for row in config.every_row} == {"undecided"}
    heading = "BASE: prefill: batch 1 x 256 tokens, bfloat16, sdpa attention, "
    text = " ".join(render_comparison(found).split())
    assert text.startswith(heading)
    assert "; NEW: prefill: batch 2 x 256 tokens, bfloat16" in text
    assert text.endswith(
        "nothing was decided, so that no regression of more than 5% could be found "
        "prefill / total_time: a regression of 5% would not have been seen"
    )
    gpu = replace(whole, facts=replace(whole.facts, device="cpu"))
    other = tuple(process(f"b{at}", p, minute=2 * at + 1, whole=gpu) for at, p in enumerate(QUIET))
    (config,) = compare(side("a", QUIET), other, Rules()).configs
    assert config.undecided.endswith("they differ in device")


def test_one_process_a_side_tells_how_many_it_would_take() -> None:
    (config,) = compare(side("a", QUIET[:1]), side("b", times(1.2)[:1], first=1), Rules()).configs
    assert config.whole is not None
    assert config.whole.ratio == pytest.approx(1.2)
    # Passes of 1.00, 1.01 and 0.99 differ by 1 %, of which 3 processes tell 5 % apart.
    assert config.whole.needed == 3


def test_a_side_with_itself_is_the_same_everywhere() -> None:
    noisy = side("a", [[0.5, 1.0, 2.0]])
    found = compare(noisy, noisy, Rules())
    (config,) = found.configs
    assert {row.state for row in config.every_row} == {"same"}
    assert not found.regressions
    assert not found.blind


def test_a_process_on_both_sides_is_refused() -> None:
    a = side("a", QUIET)
    with pytest.raises(ConfigError, match="a0: is on both sides"):
        compare(a, (*side("b", QUIET, first=1), a[0]), Rules())


def test_a_part_of_one_side_alone() -> None:
    base = side("a", QUIET)
    new = tuple(
        process(f"b{at}", p, minute=2 * at + 1, whole=record(3)) for at, p in enumerate(QUIET)
    )
    (config,) = compare(base, new, Rules(by="layer")).configs
    states = {row.path: row.state for row in config.rows}
    assert states["layer.2",] == states["layer.2", "ffn"] == "appeared"
    assert states["layer.1",] == "same"
    (config,) = compare(new, base, Rules(by="layer")).configs
    assert {row.path: row.state for row in config.rows}["layer.2",] == "vanished"


def test_configs_are_paired_by_what_they_are() -> None:
    prefill, decode = record(), decode_record(leaves_ns={0: 100}, step_times_ns=(5, 6))
    small = replace(prefill, config=replace(prefill.config, batch_size=1))
    eager = replace(prefill, facts=replace(prefill.facts, attn_implementation="eager"))
    base = [process("a", [1.0] * 3, whole=each) for each in (small, prefill)]
    new = [process("b", [1.0] * 3, whole=each, minute=1) for each in (eager, decode, small)]
    for at, each in enumerate((*base, *new)):
        object.__setattr__(each, "id", f"{at}")
    found = compare(base, new, Rules())
    assert [(c.pair.base[0][0].id, c.pair.new[0][0].id) for c in found.configs] == [
        ("0", "4"), ("1", "2"),
    ]  # fmt: skip
    assert [(s.name, s.base, s.new) for s in found.configs[1].settings] == [
        ("attention", "sdpa", "eager")
    ]
    assert found.base_alone == ()
    (alone,) = found.new_alone
    assert alone.startswith("decode: batch 2 x 256 tokens")


def test_sides_without_a_phase_in_common_are_refused() -> None:
    decode = decode_record(leaves_ns={0: 100}, step_times_ns=(5, 6))
    with pytest.raises(ConfigError, match="a phase in common"):
        compare(side("a", QUIET), (process("b", [1.0], whole=decode),), Rules())


def test_one_row_in_many_is_found_and_the_others_stay_the_same() -> None:
    """What is planted in one part shows there, and in what holds it."""
    base, new = side("a", QUIET), []
    for each in side("b", QUIET, first=1):
        (records,) = each.groups
        new.append(replace(each, groups=(tuple(_slower_rope(r) for r in records),)))
    (config,) = compare(base, new, Rules()).configs
    slower = {row.path for row in config.rows if row.state == "slower"}
    assert (*ATTN, "rope") in slower
    assert slower <= {(*ATTN, "rope"), ATTN, ATTN[:2], ATTN[:1]}


def _slower_rope(one):  # type: ignore[no-untyped-def]
    from qwen3_profile.attribution.parts import Part, PartTree

    tree = one.times.forward.tree
    times = tree.times()
    for row, name in enumerate(tree.name.tolist()):
        if tree.names[name].endswith(".rope"):
            times[row] = times[row] * 13 // 10
    slower = PartTree.of(tree.names, tree.name, tree.parent, times)
    return replace(one, times=replace(one.times, forward=Part(slower, one.times.forward.row)))


def test_a_change_below_the_tick_of_the_clock_is_none() -> None:
    """Three processes that agree to the last digit, 50 ns from three others that do."""
    found = []
    for factor in (1.00005, 1.0002):
        sides = side("a", [[1.0] * 3] * 3), side("b", [[factor] * 3] * 3, first=1)
        (config,) = compare(*sides, Rules()).configs
        assert config.whole is not None
        found.append((round(config.whole.change_ns), config.whole.state))
    assert found == [(50, "same"), (200, "slower")]
