"""Ranges nest as if they were opened and closed one after another; what crosses is cut."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen3_profile.attribution.nesting import nest

Rows = list[tuple[int, int, int]]  # track, start, length


def nested(rows: Rows) -> list[tuple[int, int, int, int | None]]:
    """(track, start, end, start of the parent) of each range, in their order."""
    track, start, length = (np.array(column, np.int64) for column in zip(*rows, strict=True))
    found = nest(track.astype(np.int32), start, length, np.zeros(len(rows), np.int64))
    begins = start[found.order].tolist()
    around = [None if place < 0 else begins[place] for place in found.parent.tolist()]
    columns = (track[found.order].tolist(), begins, found.end_ns.tolist(), around)
    return list(zip(*columns, strict=True))


def one_by_one(rows: Rows) -> list[tuple[int, int, int, int | None]]:
    """The same by the rule: in the last that began before it and has not ended."""
    found: list[tuple[int, int, int, int | None]] = []
    for track, start, length in sorted(rows, key=lambda row: (row[0], row[1], -row[2])):
        open_now = [other for other in found if other[0] == track and other[2] > start]
        around = open_now[-1] if open_now else None
        end = start + length if around is None else min(start + length, around[2])
        found.append((track, start, end, None if around is None else around[1]))
    return found


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        pytest.param([(0, 0, 9), (0, 1, 4), (0, 2, 1), (0, 6, 2)],
                     [(0, 0, 9, None), (0, 1, 5, 0), (0, 2, 3, 1), (0, 6, 8, 0)], id="inside"),
        pytest.param([(0, 6, 2), (0, 0, 6)], [(0, 0, 6, None), (0, 6, 8, None)], id="apart"),
        pytest.param([(1, 1, 2), (0, 0, 9)], [(0, 0, 9, None), (1, 1, 3, None)], id="threads"),
        pytest.param([(0, 0, 4), (0, 2, 9), (0, 5, 1)],
                     [(0, 0, 4, None), (0, 2, 4, 0), (0, 5, 6, None)], id="crossing: cut"),
        pytest.param([(0, 0, 4), (0, 2, 0), (0, 2, 1)],
                     [(0, 0, 4, None), (0, 2, 3, 0), (0, 2, 2, 2)], id="without length"),
    ],
)  # fmt: skip
def test_nesting(rows: Rows, expected: list[tuple[int, int, int, int | None]]) -> None:
    assert nested(rows) == expected


ROWS = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 30), st.integers(0, 12)), min_size=1, max_size=25
)


@given(ROWS)
def test_any_ranges_nest_by_the_rule(rows: Rows) -> None:
    assert nested(rows) == one_by_one(rows)


def test_what_is_cut_by_more_than_a_tick_of_the_clock_is_told() -> None:
    track, start = np.zeros(3, np.int32), np.array([0, 1000, 3000])
    found = nest(track, start, np.array([5000, 5000, 4500]), np.zeros(3, np.int64))
    # the second one ends a tick after the first, in silence
    assert found.cut == [(2, 2500)]


def test_none_at_all() -> None:
    none = np.zeros(0, np.int64)
    assert len(nest(none.astype(np.int32), none, none, none).order) == 0
