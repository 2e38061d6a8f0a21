"""Ranges that cross: the innermost is the one that began last, at every instant."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from make.kineto import document, host, kernel, launch, read, write
from make.paths import DATA

from qwen3_profile import export
from qwen3_profile.records.ledger import Ledger, make_ledger, make_long_ledger
from qwen3_profile.trace import read_compact, read_trace

CASE = DATA / "cases" / "crossing_ranges" / "trace.json"
US = 10_000  # a tick of these tests: longer than the resolution of an old clock

# thread, begin, length, name
Ranges = list[tuple[int, int, int, str]]


def own(ledger: Ledger) -> tuple[Counter[str], Counter[str]]:
    """CPU and device time by name, without what lies inside."""
    cpu: Counter[str] = Counter()
    device: Counter[str] = Counter()
    for path, part in ledger.rows:
        cpu[path[-1]] += part.own.cpu_ns
        device[path[-1]] += part.own.device_ns
        assert part.own.cpu_ns >= 0
        assert part.total.cpu_ns >= part.own.cpu_ns
    return cpu, device


def last_begun(ranges: Ranges, thread: int, time: int) -> str | None:
    """The oracle: of the ranges that are open, the name of the one that began last."""
    opened = [
        (begin, -length, name)
        for where, begin, length, name in ranges
        if where == thread and begin <= time < begin + length
    ]
    return max(opened)[2] if opened else None


RANGES = st.lists(
    st.tuples(st.integers(1, 2), st.integers(0, 30), st.integers(1, 15), st.sampled_from("ABCD")),
    min_size=1,
    max_size=14,
)
LAUNCHES = st.lists(st.tuples(st.integers(1, 2), st.integers(0, 44)), max_size=20)


@given(RANGES, LAUNCHES)
def test_self_times_are_those_of_the_range_that_began_last(
    ranges: Ranges, launches: list[tuple[int, int]]
) -> None:
    events = [
        host("user_annotation", name, begin * US, (begin + length) * US, thread)
        for thread, begin, length, name in ranges
    ]
    expected: Counter[str] = Counter()
    for number, (thread, tick) in enumerate(launches, 1):
        at = tick * US + US // 2
        events += [launch(number, at, at + 5, thread), kernel(number, at + 9, at + 9 + number)]
        name = last_begun(ranges, thread, tick) or last_begun(ranges, 3 - thread, tick)
        if name is not None:
            expected[name] += number
    found = make_ledger(read(*events))
    cpu, device = own(found)
    assert +device == expected
    ticks: Counter[str] = Counter()
    for thread in (1, 2):
        ticks.update(filter(None, (last_begun(ranges, thread, tick) for tick in range(60))))
    assert +cpu == Counter({name: count * US for name, count in ticks.items()})


def test_case(tmp_path: Path) -> None:
    found = make_ledger(read_trace(CASE))
    assert {path: part.own.device_ns for path, part in found.rows} == {
        ("A",): 10_000, ("A", "B"): 20_000, ("B",): 40_000,
    }  # fmt: skip
    assert found.times.unattributed == ()
    cpu, _ = own(found)
    assert cpu == {"A": 50_000, "B": 100_000}
    assert {path: part.total.calls for path, part in found.rows} == {
        ("A",): 1, ("A", "B"): 1, ("B",): 0,
    }  # fmt: skip
    (finding,) = [each for each in found.findings if each.code == "ranges-cross"]
    assert (finding.count, finding.ns, finding.example) == (1, 50_000, "B")
    argv = [str(CASE), "--output-dir", str(tmp_path), "--report", str(tmp_path / "r.html")]
    assert export.main(argv) == 0


def test_the_account_of_a_long_trace_is_the_same(tmp_path: Path) -> None:
    events = []
    for number in range(400):
        at = number * 10 * US
        events += [
            host("user_annotation", "A", at, at + 5 * US),
            host("user_annotation", "B", at + 2 * US, at + 8 * US),
            launch(number + 1, at + 6 * US, at + 6 * US + 5),
            kernel(number + 1, at + 6 * US + 9, at + 6 * US + 29),
        ]
    path = write(tmp_path / "t.json", document(*events))
    whole, parts = make_ledger(read_trace(path)), make_long_ledger(read_compact(path), "labels")
    assert whole.to_json() == parts.to_json()
    assert own(whole)[1] == {"A": 0, "B": 8000}


@pytest.mark.parametrize("inner", ["layer.0.attn", "nothing of ours"])
def test_our_labels_keep_their_pass(inner: str) -> None:
    events = [
        host("user_annotation", "prefill", 0, 20 * US),
        host("cpu_op", "layer.0", US, 9 * US),
        host("user_annotation", inner, 2 * US, 12 * US),
        launch(1, 10 * US, 10 * US + 5),
        kernel(1, 11 * US, 11 * US + 70),
    ]
    found = make_ledger(read(*events))
    assert own(found)[1][inner] == 70
    assert found.rows[0][1].total.device_ns == 70
