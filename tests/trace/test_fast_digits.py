"""Numbers read eight digits at a time, against the reading of each text by itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen3_profile.trace.columns import Bool, Int64
from qwen3_profile.trace.fast_digits import Words, read_integers, read_times
from qwen3_profile.trace.slow_events import nanoseconds

Reading = Callable[[Words, Int64, Int64], tuple[Int64, Bool]]


def read_times_between(words: Words, start: Int64, end: Int64) -> tuple[Int64, Bool]:
    """As `read_integers`, where each number stands behind a space, as `read_times` wants it."""
    begin, values, good, _ = read_times(words, end, "")
    return values, good & (begin == start)


def read(reading: Reading, texts: Sequence[str], gap: str = " ") -> list[int | None]:
    """What `reading` makes of numbers that stand in one text; None for what it does not take."""
    margin = gap * 32
    data = bytearray((margin + gap.join(texts) + margin).encode())
    lengths = np.array([len(text) for text in texts], np.int64)
    start = len(margin) + np.cumsum(lengths + len(gap)) - lengths - len(gap)
    values, good = reading(Words(data), start, start + lengths)
    return [v if g else None for v, g in zip(values.tolist(), good.tolist(), strict=True)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("0.000", 0, id="zero"),
        pytest.param("0.001", 1, id="one nanosecond"),
        pytest.param("9.999", 9999, id="one digit"),
        pytest.param("9731.250", 9731250, id="one word"),
        pytest.param("97310.250", 97310250, id="a word and a digit"),
        pytest.param("4587026371543.110", 4587026371543110, id="since boot"),
        pytest.param("1712195495984501.132", 1712195495984501132, id="epoch"),
        pytest.param("1712195495984501", 1712195495984501000, id="whole microseconds of 2021"),
        pytest.param("7", 7000, id="one whole microsecond"),
        pytest.param("12345678", 12345678000, id="eight digits and no dot"),
        pytest.param("12.34", None, id="two decimals"),
        pytest.param("12.3456", None, id="four decimals"),
        pytest.param(".123", None, id="nothing before the dot"),
        pytest.param("01.234", None, id="a leading zero"),
        pytest.param("-1.234", None, id="negative"),
        pytest.param("1e5", None, id="an exponent"),
        pytest.param("1a.234", None, id="a letter"),
        pytest.param("1.23:", None, id="the character behind nine"),
        pytest.param("1.23/", None, id="the character before zero"),
        pytest.param("9999999999999999.999", None, id="beyond 62 bits"),
        pytest.param("12345678901234567.000", None, id="too many digits"),
        pytest.param("", None, id="nothing"),
    ],
)
def test_a_time(text: str, expected: int | None) -> None:
    assert read(read_times_between, [text]) == [expected]
    assert read(read_times_between, ["1.000", text, "22.333"]) == [1000, expected, 22333]


_WHOLE = st.integers(0, 2**62 // 1000 - 1).map(str)
_TIMES = st.one_of(
    _WHOLE,
    st.tuples(_WHOLE, st.integers(0, 999)).map(lambda pair: f"{pair[0]}.{pair[1]:03d}"),
)


@given(st.lists(_TIMES, min_size=1, max_size=20), st.sampled_from(["", "0", "9.", ",", "!"]))
def test_times_side_by_side_are_read_as_one_by_one(texts: list[str], gap: str) -> None:
    assert read(read_times_between, texts, f"{gap} ") == [
        nanoseconds(text.encode()) for text in texts
    ]


@given(st.lists(st.text("0123456789.-e a", max_size=22), min_size=1, max_size=20))
def test_what_is_taken_is_right(texts: list[str]) -> None:
    for text, value in zip(texts, read(read_times_between, texts), strict=True):
        assert value is None or value == nanoseconds(text.encode())


def test_what_stands_behind_a_time() -> None:
    data = bytearray(b" " * 32 + b" 1.250, and more 2.500, and less" + b" " * 32)
    end = np.array([data.index(b","), data.rindex(b",")])
    _, values, good, followed = read_times(Words(data), end, ", and more")
    assert (values.tolist(), good.tolist()) == ([1250, 2500], [True, True])
    assert followed.tolist() == [True, False]


@given(st.lists(st.integers(0, 10**16 - 1), min_size=1, max_size=20))
def test_integers(values: list[int]) -> None:
    assert read(read_integers, [str(value) for value in values]) == values


@pytest.mark.parametrize("text", ["", "07", "1.5", "-1", "1" * 17, "12a", "abc"])
def test_no_integers(text: str) -> None:
    assert read(read_integers, [text, "5"]) == [None, 5]
