"""Which layers stand out among those of the same parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from qwen3_profile.analysis.layer_times import CPU, CUDA, LayerTimes
from qwen3_profile.analysis.odd_layers import find_outliers, some_passes


def table(cpu: Sequence[Sequence[int]], calls: Sequence[Sequence[int]] | None = None) -> LayerTimes:
    values = np.array(cpu, np.int64)
    paths = tuple(("prefill", "layers", name) for name in ("attn", "ffn"))
    used = np.ones_like(values) if calls is None else np.array(calls, np.int64)
    return LayerTimes(tuple(range(len(cpu))), paths, values, values * 0, used)


def test_a_layer_stands_out_as_a_whole_and_in_its_part() -> None:
    times = table([[100, 50]] * 6 + [[200, 50]])
    found = find_outliers(times, [times])
    assert {(o.layer, o.path[1:], o.kind, o.ns, o.median_ns) for o in found} == {
        (6, ("layers",), CPU, 250, 150.0), (6, ("layers", "attn"), CPU, 200, 100.0),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "others"),
    [
        pytest.param([[100, 50]] * 4, [], id="alike"),
        pytest.param([[100, 50]] * 6 + [[104, 50]], [], id="less than 5 % off"),
        pytest.param([[90, 50], [95, 50], [100, 50], [105, 50], [110, 50], [120, 50]], [],
                     id="within the usual spread"),
        pytest.param([[1000, 10]] * 6 + [[1000, 18]], [], id="less than 1 % of a layer"),
        pytest.param([[100, 50]] * 6 + [[200, 50]], [[[100, 50]] * 7] * 2, id="in one pass only"),
        pytest.param([[100, 50]] * 3 + [[200, 50]], [], id="too few to tell"),
    ],
)  # fmt: skip
def test_no_layer_stands_out(rows: list[list[int]], others: list[list[list[int]]]) -> None:
    times = table(rows)
    assert find_outliers(times, [times, *map(table, others)]) == ()


def test_layers_are_compared_with_their_equals_only() -> None:
    dense, sparse = [[100, 50]] * 6, [[100, 900]] * 6
    calls = [[1, 1]] * 6 + [[1, 0]] * 6
    times = table([*dense, *sparse], calls)
    assert find_outliers(times, [times]) == ()


def test_a_part_that_only_stands_out_on_the_device() -> None:
    times = table([[100, 50]] * 7)
    device = replace(times, device_ns=times.cpu_ns + np.array([[0, 0]] * 6 + [[0, 90]]))
    assert {(o.layer, o.kind) for o in find_outliers(device, [device])} == {(6, CUDA)}


@pytest.mark.parametrize(
    ("count", "expected"), [(1, [0]), (3, [0, 1, 2]), (25, list(range(25)))], ids=str
)
def test_few_passes_are_all_looked_at(count: int, expected: list[int]) -> None:
    assert some_passes(count) == expected


def test_many_passes_are_looked_at_evenly() -> None:
    taken = some_passes(1000)
    assert (len(taken), taken[0], taken[-1]) == (25, 0, 999)
