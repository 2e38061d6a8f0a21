"""A replay is what it repeats in every event, or it is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen3_profile.passes.cuda_graphs.match import (
    Match,
    Work,
    first_difference,
    match,
    short_kernel,
)


def kernel(name: str, grid: tuple[int, ...] | None = (1, 1, 1), stream: str = "0/7") -> Work:
    return Work("kernel", name, grid, (128, 1, 1), stream)


ABC = (kernel("a"), kernel("b"), kernel("c"))


def test_equal_sequences_match_in_their_order() -> None:
    assert match(ABC, ABC, "the step") == Match((0, 1, 2))


@pytest.mark.parametrize(
    ("replay", "told"),
    [
        pytest.param(ABC[:2], "the replay has 2 events and the step 3", id="one too few"),
        pytest.param((*ABC, ABC[0]), "the replay has 4 events and the step 3", id="one too many"),
        pytest.param(
            (ABC[0], ABC[2]), "event 1 is c in the replay and b in the step", id="one left out"
        ),
        pytest.param(
            (ABC[1], ABC[0], ABC[2]), "event 0 is b in the replay and a in the step", id="swapped"
        ),
        pytest.param(
            (ABC[0], kernel("b", (2, 1, 1)), ABC[2]),
            "event 1 is b with a grid of [2, 1, 1] in the replay and b with a grid of [1, 1, 1] in "
            "the step",
            id="another grid",
        ),
        pytest.param(
            (ABC[0], replace(ABC[1], block=(64, 1, 1)), ABC[2]),
            "event 1 is b with a block of [64, 1, 1]", id="another block",
        ),
        pytest.param(
            (ABC[0], replace(ABC[1], kind="fill", name="Memset"), ABC[2]),
            "event 1 is Memset in the", id="another kind",
        ),
        pytest.param((), "the replay has 0 events", id="nothing"),
    ],
)  # fmt: skip
def test_the_first_difference_is_told(replay: tuple[Work, ...], told: str) -> None:
    found = match(replay, ABC, "the step")
    assert found.places == ()
    assert found.difference.startswith(told)


def test_what_one_side_does_not_know_is_no_difference() -> None:
    """A capture on CUDA knows no names, a graph on HIP no grids."""
    nameless = tuple(Work("kernel") for _ in ABC)
    gridless = tuple(replace(work, grid=None, block=None) for work in ABC)
    assert match(ABC, nameless, "the capture").places == (0, 1, 2)
    assert match(gridless, ABC, "the capture").places == (0, 1, 2)


@pytest.mark.parametrize(
    ("replay", "reference", "places"),
    [
        pytest.param("a1 c2 b1", "a7 b7 c8", (0, 2, 1), id="each is like one"),
        pytest.param("a1 b1 a2 b2", "a7 b7 a8 b8", None, id="two are alike"),
        pytest.param("a1 b1 c2", "a7 b7 c7", None, id="other numbers of streams"),
        pytest.param("a1 b1 c2", "a7 c7 b8", None, id="none is like it"),
    ],
)
def test_streams_are_matched_one_to_one(
    replay: str, reference: str, places: tuple[int, ...] | None
) -> None:
    def works(text: str) -> list[Work]:
        return [kernel(word[0], stream=word[1]) for word in text.split()]

    found = match(works(replay), works(reference), "the step")
    assert found.places == (places or ())
    assert bool(found.difference) == (places is None)


def test_the_order_of_the_nodes_counts_more_than_streams() -> None:
    replay = [kernel(name, stream=stream) for name, stream in ("a1", "b2", "c1")]
    assert match(replay, ABC, "the step", ordered=True).places == (0, 1, 2)
    assert match(replay, ABC, "the step").difference


def test_long_names_are_shown_where_they_part() -> None:
    alike = "x" * 5000
    assert short_kernel(alike + "left", alike + "right").endswith("left")
    assert len(short_kernel(alike)) < 130


# --- what happens to a sequence of events never goes unseen ---------------------------------------

NAMES = st.lists(st.sampled_from("abcd"), min_size=1, max_size=12)


@given(NAMES, st.data())
def test_a_shuffled_dropped_or_added_event_is_seen(names: list[str], data: st.DataObject) -> None:
    """Whatever happens to the events, they match if and only if their names are the same ones."""
    changed = list(names)
    what = data.draw(st.sampled_from(("shuffle", "drop", "add", "swap")))
    at = data.draw(st.integers(0, len(names) - 1))
    if what == "shuffle":
        changed = data.draw(st.permutations(names))
    elif what == "drop":
        del changed[at]
    elif what == "add":
        changed.insert(at, data.draw(st.sampled_from("abcd")))
    else:
        to = data.draw(st.integers(0, len(names) - 1))
        changed[at], changed[to] = changed[to], changed[at]
    found = match([kernel(n) for n in changed], [kernel(n) for n in names], "the step")
    assert (found.places == tuple(range(len(names)))) == (changed == names)
    assert bool(found.difference) == (changed != names)


@given(NAMES, NAMES)
def test_the_first_difference_is_the_first(one: list[str], other: list[str]) -> None:
    told = first_difference([kernel(n) for n in one], [kernel(n) for n in other], "the step")
    differing = [i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b]
    if differing:
        assert told.startswith(f"event {differing[0]} is")
    else:
        assert bool(told) == (len(one) != len(other))


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("12")), max_size=8))
def test_streams_never_mix(events: list[tuple[str, str]]) -> None:
    """A match of several streams keeps the order of each, and uses each event once."""
    work = [kernel(name, stream=stream) for name, stream in events]
    found = match(work, work, "the step")
    if not found.difference:
        assert sorted(found.places) == list(range(len(work)))
        for event, place in zip(work, found.places, strict=True):
            assert event.name == work[place].name
