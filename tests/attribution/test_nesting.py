"""Ranges nest as if they were opened and closed one after another; what crosses goes on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen3_profile.attribution import nesting
from qwen3_profile.attribution.nesting import Nested, nest

Rows = list[tuple[int, int, int]]  # track, start, length; in ticks
Piece = tuple[int, int, int, int | None]

TICK = 2000  # what is longer than the resolution of an old clock


def nest_rows(rows: Rows) -> Nested:
    track, start, length = (np.array(column, np.int64) for column in zip(*rows, strict=True))
    no_rank = np.zeros(len(rows), np.int64)
    return nest(track.astype(np.int32), start * TICK, length * TICK, no_rank)


def nested(rows: Rows) -> list[Piece]:
    """(track, start, end, start of the parent's piece) of each piece, in their order."""
    found = nest_rows(rows)
    start, end = ((ns // TICK).tolist() for ns in (found.start_ns, found.end_ns))
    around = [None if place < 0 else start[place] for place in found.parent.tolist()]
    track = [rows[number][0] for number in found.order.tolist()]
    return list(zip(track, start, end, around, strict=True))


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        pytest.param([(0, 0, 9), (0, 1, 4), (0, 2, 1), (0, 6, 2)],
                     [(0, 0, 9, None), (0, 1, 5, 0), (0, 2, 3, 1), (0, 6, 8, 0)], id="inside"),
        pytest.param([(0, 6, 2), (0, 0, 6)], [(0, 0, 6, None), (0, 6, 8, None)], id="apart"),
        pytest.param([(1, 1, 2), (0, 0, 9)], [(0, 0, 9, None), (1, 1, 3, None)], id="threads"),
        pytest.param([(0, 0, 4), (0, 2, 9), (0, 5, 1)],
                     [(0, 0, 4, None), (0, 2, 4, 0), (0, 4, 11, None), (0, 5, 6, 4)],
                     id="crossing"),
        pytest.param([(0, 0, 4), (0, 1, 4), (0, 2, 4)],
                     [(0, 0, 4, None), (0, 1, 4, 0), (0, 2, 4, 1),
                      (0, 4, 5, None), (0, 4, 5, 4), (0, 5, 6, None)], id="three cross"),
        pytest.param([(0, 0, 4), (0, 1, 3), (0, 2, 4)],
                     [(0, 0, 4, None), (0, 1, 4, 0), (0, 2, 4, 1), (0, 4, 6, None)],
                     id="over two that end together"),
        pytest.param([(0, 0, 4), (0, 2, 0), (0, 2, 1)],
                     [(0, 0, 4, None), (0, 2, 3, 0), (0, 2, 2, 2)], id="without length"),
    ],
)  # fmt: skip
def test_nesting(rows: Rows, expected: list[tuple[int, int, int, int | None]]) -> None:
    assert nested(rows) == expected


ROWS = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 30), st.integers(0, 12)), min_size=1, max_size=25
)


def innermost(rows: Rows, track: int, time: int) -> int | None:
    """The range that began last of those that are open, the shorter of two that began together."""
    opened = [
        (start, -length, number)
        for number, (where, start, length) in enumerate(rows)
        if where == track and start <= time < start + length
    ]
    return max(opened)[2] if opened else None


@pytest.mark.parametrize("most", [64, 3, 1])
@given(rows=ROWS)
def test_the_innermost_of_any_ranges_is_the_one_that_began_last(rows: Rows, most: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nesting, "_MOST_PIECES", most)
        found = nest_rows(rows)
    start, end = found.start_ns // TICK, found.end_ns // TICK
    track = np.array([rows[number][0] for number in found.order])
    for where in (0, 1):
        for time in range(45):
            mine = np.flatnonzero((track == where) & (start <= time) & (time < end))
            last = None if not len(mine) else int(found.order[mine[-1]])
            assert last == innermost(rows, where, time)
    check_tree(found, track)
    if most == 64:
        # A range is as long as its pieces, and calls without a crossing are whole.
        lengths = np.bincount(found.order, found.end_ns - found.start_ns, len(rows))
        assert (lengths // TICK).tolist() == [length for _, _, length in rows]


def check_tree(found: Nested, track: np.ndarray) -> None:
    """Pieces lie in their parents, begin in order, and no self time is below 0."""
    length = found.end_ns - found.start_ns
    assert (length >= 0).all()
    inner = np.flatnonzero(found.parent >= 0)
    outer = found.parent[inner]
    assert (outer < inner).all()
    assert (track[outer] == track[inner]).all()
    assert (found.start_ns[outer] <= found.start_ns[inner]).all()
    assert (found.end_ns[inner] <= found.end_ns[outer]).all()
    own = length.copy()
    np.subtract.at(own, outer, length[inner])
    assert (own >= 0).all()
    assert (np.diff(track * 10**9 + found.start_ns) >= 0).all()


def test_very_many_that_cross_are_few_pieces() -> None:
    count = 5000
    found = nest_rows([(0, at, count) for at in range(count)])
    assert len(found.order) < 70 * count
    assert int((found.end_ns - found.start_ns)[found.parent < 0].sum()) == (2 * count - 1) * TICK


def test_what_crosses_by_more_than_a_tick_of_the_clock_is_told() -> None:
    track, start = np.zeros(3, np.int32), np.array([0, 1000, 3000])
    found = nest(track, start, np.array([5000, 5000, 4500]), np.zeros(3, np.int64))
    # the second one ends a tick after the first, in silence
    assert found.crossing == [(2, 2500)]
    assert found.end_ns.tolist() == [5000, 5000, 5000, 7500]


def test_none_at_all() -> None:
    none = np.zeros(0, np.int64)
    assert len(nest(none.astype(np.int32), none, none, none).order) == 0
