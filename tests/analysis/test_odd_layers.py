"""Which layers stand out among those of the same parts, and how rarely any does by chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from qwen3_profile.analysis.layer_times import CPU, CUDA, LayerTimes
from qwen3_profile.analysis.odd_layers import OddLayers, _chance, find_outliers, some_passes
from qwen3_profile.analysis.student import two_sided

# Of seven layers with three rows by two clocks: 2 * 7 * 6 / 7^P falls below 5 % with four passes.
ENOUGH = 4


def table(cpu: Sequence[Sequence[int]], calls: Sequence[Sequence[int]] | None = None) -> LayerTimes:
    values = np.array(cpu, np.int64)
    paths = tuple(("prefill", "layers", name) for name in ("attn", "ffn"))
    used = np.ones_like(values) if calls is None else np.array(calls, np.int64)
    return LayerTimes(tuple(range(len(cpu))), paths, values, values * 0, used)


def found(times: LayerTimes, *others: LayerTimes) -> OddLayers:
    return find_outliers(times, [times, *others] if others else [times] * ENOUGH)


def test_a_layer_stands_out_as_a_whole_and_in_its_part() -> None:
    times = table([[100, 50]] * 6 + [[200, 50]])
    outliers = found(times).outliers
    assert {(o.layer, o.path[1:], o.kind, o.ns, o.median_ns) for o in outliers} == {
        (6, ("layers",), CPU, 250, 150.0), (6, ("layers", "attn"), CPU, 200, 100.0),
    }  # fmt: skip
    assert {(o.ratio, o.rank, o.equals, o.passes) for o in outliers} == {
        (250 / 150, 1, 7, ENOUGH), (2.0, 1, 7, ENOUGH),
    }  # fmt: skip
    assert {o.part for o in outliers} == {"", "attn"}


def test_the_first_layer_is_told_apart() -> None:
    outliers = found(table([[200, 50]] + [[100, 50]] * 6)).outliers
    assert [(o.layer, o.is_first) for o in outliers] == [(0, True), (0, True)]
    assert not any(o.is_first for o in found(table([[100, 50]] * 6 + [[200, 50]])).outliers)


def test_a_shorter_layer_stands_out_too() -> None:
    (outlier,) = (o for o in found(table([[200, 50]] * 6 + [[100, 50]])).outliers if o.part)
    assert (outlier.layer, outlier.ratio, outlier.rank) == (6, 0.5, 1)


def test_two_odd_layers_do_not_hide_each_other() -> None:
    times = table([[100, 50]] * 10 + [[200, 50]] * 2)
    outliers = find_outliers(times, [times] * 6).outliers
    # Each is only among the two longest: 2 * 12 * 6 * (2 / 12)^6 = 0.003.
    assert {(o.layer, o.rank) for o in outliers} == {(10, 2), (11, 2)}


def test_few_passes_tell_nothing_and_say_how_many_would() -> None:
    times = table([[100, 50]] * 6 + [[200, 50]])
    for count in range(1, ENOUGH):
        few = find_outliers(times, [times] * count)
        assert (few.outliers, few.passes, few.needed) == ((), count, ENOUGH)
        assert few.why_not.endswith(f"an outlier from noise; {ENOUGH} can")
    assert found(times).why_not == ""


@pytest.mark.parametrize(
    ("rows", "others"),
    [
        pytest.param([[100, 50]] * 7, [], id="alike"),
        pytest.param([[100, 50]] * 6 + [[104, 50]], [], id="less than 5 % off"),
        pytest.param([[90, 50], [95, 50], [100, 50], [105, 50], [110, 50], [120, 50]], [],
                     id="within the usual spread"),
        pytest.param([[1000, 10]] * 6 + [[1000, 18]], [], id="less than 1 % of a layer"),
        pytest.param([[100, 50]] * 6 + [[200, 50]], [[[100, 50]] * 7] * 6, id="in one pass only"),
        pytest.param([[100, 50]] * 6 + [[200, 50]],
                     [[[100, 50]] * 6 + [[200, 50]]] * 5 + [[[300, 50]] * 6 + [[200, 50]]],
                     id="in all passes but one"),
        pytest.param([[100, 50]] * 3 + [[200, 50]], [], id="too few to tell"),
    ],
)  # fmt: skip
def test_no_layer_stands_out(rows: list[list[int]], others: list[list[list[int]]]) -> None:
    assert found(table(rows), *map(table, others)).outliers == ()


@pytest.mark.parametrize("noise", ["normal", "heavy tails", "layers that differ for good"])
def test_layers_that_are_alike_rarely_show_any(noise: str) -> None:
    random, alarms = np.random.default_rng(5), 0
    for _ in range(100):
        shape = (5, 12, 2)
        spread = random.normal(0, 0.1, shape)
        if noise == "heavy tails":
            spread = 0.1 * random.standard_t(2, shape)
        elif noise == "layers that differ for good":
            spread = 0.1 * spread + random.normal(0, 0.1, (1, 12, 2))
        passes = [table(rows) for rows in np.round(1e5 * np.exp(spread)).astype(int).tolist()]
        alarms += bool(find_outliers(passes[0], passes, (CPU,)).outliers)
    # 5 % at most: more than 10 of 100 would be seen once in a hundred such tests.
    assert alarms <= 10


def test_both_tests_have_to_agree() -> None:
    random = np.random.default_rng(2)
    lasting = np.exp(random.normal(0, 0.1, (12, 2)))
    rows = np.round(1e5 * lasting).astype(int)
    # The same order in every pass, and none is further out than the others are apart.
    assert find_outliers(table(rows), [table(rows)] * 20).outliers == ()


def test_layers_are_compared_with_their_equals_only() -> None:
    dense, sparse = [[100, 50]] * 6, [[100, 900]] * 6
    calls = [[1, 1]] * 6 + [[1, 0]] * 6
    assert found(table([*dense, *sparse], calls)).outliers == ()


def test_a_part_that_only_stands_out_on_the_device() -> None:
    times = table([[100, 50]] * 7)
    device = replace(times, device_ns=times.cpu_ns + np.array([[0, 0]] * 6 + [[0, 90]]))
    assert {(o.layer, o.kind) for o in found(device).outliers} == {(6, CUDA)}
    assert find_outliers(device, [device] * ENOUGH, (CPU,)).outliers == ()


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 9, 26])
@pytest.mark.parametrize("t", [0.0, 0.3, 2.0, 9.0, 60.0])
def test_students_t(t: float, degrees: int) -> None:
    assert two_sided(t, degrees) == pytest.approx(2 * stats.t.sf(t, degrees), rel=1e-9, abs=1e-14)


def test_the_critical_value_of_a_table() -> None:
    # Grubbs's table for 10 values at 5 % two-sided: 2.290.
    assert _chance(2.290, 1.0, 10) == pytest.approx(0.05, rel=0.01)


@pytest.mark.parametrize(
    ("count", "expected"), [(1, [0]), (3, [0, 1, 2]), (25, list(range(25)))], ids=str
)
def test_few_passes_are_all_looked_at(count: int, expected: list[int]) -> None:
    assert some_passes(count) == expected


def test_many_passes_are_looked_at_evenly() -> None:
    taken = some_passes(1000)
    assert (len(taken), taken[0], taken[-1]) == (25, 0, 999)
