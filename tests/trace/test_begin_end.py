"""Ranges written as B and E: paired thread by thread, wherever their halves stand in the file."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from make.kineto import document, read, write
from make.kineto_texts import LAYOUTS, check_same, text_of
from make.paths import DATA

from qwen3_profile import export
from qwen3_profile.attribution.findings import Finding
from qwen3_profile.records.ledger import Ledger, make_ledger
from qwen3_profile.trace import Trace, read_trace

Half = dict[str, Any]


def half(ph: str, ts: float | str, name: str | None = None, tid: int = 1, **more: Any) -> Half:
    named = {} if name is None else {"name": name, "cat": "user_annotation"}
    return {"ph": ph, "pid": 9, "tid": tid, "ts": ts, **named, **more}


def b(ts: float, name: str, tid: int = 1, **more: Any) -> Half:
    return half("B", ts, name, tid, **more)


def e(ts: float, name: str | None = None, tid: int = 1, **more: Any) -> Half:
    return half("E", ts, name, tid, **more)


def ranges(*halves: Half) -> list[tuple[str, float, float]]:
    """Name, begin and end in microseconds, by begin."""
    return _ranges(read(*map(json.dumps, halves)))


def _ranges(trace: Trace) -> list[tuple[str, float, float]]:
    host = trace.host
    columns = (host.name.tolist(), host.start_ns.tolist(), host.end_ns.tolist())
    return [(trace.names[n], a / 1000, z / 1000) for n, a, z in zip(*columns, strict=True)]


@pytest.mark.parametrize(
    ("halves", "expected"),
    [
        pytest.param([b(1, "A"), e(4, "A")], [("A", 1, 4)], id="one"),
        pytest.param([b(1, "A"), e(4)], [("A", 1, 4)], id="an end without a name"),
        pytest.param(
            [b(1, "A"), b(2, "B"), e(3), e(4)], [("A", 1, 4), ("B", 2, 3)],
            id="it ends the one that began last",
        ),
        pytest.param(
            [b(1, "A"), b(2, "B"), e(3, "A"), e(4, "B")], [("A", 1, 3), ("B", 2, 4)],
            id="names cross",
        ),
        pytest.param(
            [b(1, "A"), b(2, "A"), e(3, "A"), e(5, "A")], [("A", 1, 5), ("A", 2, 3)],
            id="of one name the last",
        ),
        pytest.param(
            [b(1, "A"), b(2, "B", 2), e(3), e(4, tid=2)], [("A", 1, 3), ("B", 2, 4)],
            id="threads have nothing to do with each other",
        ),
        pytest.param([e(4, "A"), b(1, "A")], [("A", 1, 4)], id="not in order"),
        pytest.param(
            [b(1, "A"), e(4), b(4, "B"), e(6)], [("A", 1, 4), ("B", 4, 6)],
            id="one ends when the next begins",
        ),
        pytest.param([b(2, "A"), e(2)], [("A", 2, 2)], id="without length"),
        pytest.param(
            [{"ph": "B", "pid": 9, "tid": 1, "ts": 1}, e(3, "A")], [],
            id="a begin without a name is nobody's",
        ),
        pytest.param(
            [b(1, "A"), half("X", 2, "B", dur=3), e(9)], [("A", 1, 9), ("B", 2, 5)],
            id="whole ones beside them",
        ),
        pytest.param(
            [b(1, "A"), half("b", 2, "C", id=1), half("i", 2, "D", s="t"), half("e", 3, "C", id=1),
             half("n", 3, "C", id=1), half("C", 3, "count"), e(9)],
            [("A", 1, 9)], id="neither asynchronous ones nor instants are these",
        ),
    ],
)  # fmt: skip
def test_pairs(halves: list[Half], expected: list[tuple[str, float, float]]) -> None:
    assert ranges(*halves) == expected


@pytest.mark.parametrize("at", ["begin", "end", "both"])
def test_args_may_stand_at_either_end(at: str) -> None:
    args = {"correlation": 7}
    found = read(
        json.dumps(b(1, "k", 7, cat="kernel", args=args if at != "end" else {"stream": 7})),
        json.dumps(e(3, "k", 7, args=args if at != "begin" else {})),
    )
    assert found.device.correlation.tolist() == [7]
    assert found.device.dur_ns.tolist() == [2000]


def test_times_are_exact() -> None:
    big = "4587026371543.110"
    found = read(
        json.dumps(b(0, "A")).replace('"ts": 0', f'"ts": {big}'),
        json.dumps(e(0, "A")).replace('"ts": 0', '"ts": 4587026371550.009'),
    )
    assert found.host.dur_ns.tolist() == [6899]


@pytest.mark.parametrize(
    ("halves", "expected"),
    [
        pytest.param([b(1, "A"), b(2, "B"), e(3)], [("B", 2, 3)], id="one never ends"),
        pytest.param([e(1, "A"), b(2, "B"), e(3)], [("B", 2, 3)], id="one never began"),
        pytest.param([b(2, "B"), e(3), e(4)], [("B", 2, 3)], id="an end without a name"),
        pytest.param([b(2, "B"), e(3, "C"), e(4)], [("B", 2, 4)], id="an end of another name"),
    ],
)
def test_what_has_no_other_end_is_left_out_and_told(
    halves: list[Half], expected: list[tuple[str, float, float]]
) -> None:
    trace = read(*map(json.dumps, halves))
    assert _ranges(trace) == expected
    (finding,) = [each for each in _findings(trace) if each.code == "unpaired-events"]
    assert finding.count == 1
    assert finding.message.startswith("1 event begins a range")


def _findings(trace: Trace) -> tuple[Finding, ...]:
    return make_ledger(trace).findings


NAMES = st.sampled_from("AB")


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 9), NAMES), max_size=12))
def test_ranges_that_nest_come_back(rows: list[tuple[int, int, str]]) -> None:
    rows = [row for at, row in enumerate(sorted(rows)) if not _crosses(row, sorted(rows)[:at])]
    edges = [(start, 1, -length, b(start, name)) for start, length, name in rows]
    edges += [(start + length, 0, -start, e(start + length, name)) for start, length, name in rows]
    halves = [edge[3] for edge in sorted(edges, key=lambda edge: edge[:3])]
    wanted = sorted((name, start, start + length) for start, length, name in rows)
    assert sorted(ranges(*halves)) == wanted


def _crosses(row: tuple[int, int, str], before: list[tuple[int, int, str]]) -> bool:
    start, end = row[0], row[0] + row[1]
    return row[1] == 0 or any(start < a + n < end or start == a for a, n, _ in before)


# --- wherever the halves stand --------------------------------------------------------------------


def kineto_half(ph: str, name: str, ts: float, layout: str) -> str:
    """As an event in one of Kineto's layouts."""
    fields = [f'"ph": "{ph}"', '"cat": "user_annotation"', f'"name": "{name}"', '"pid": 1234',
              '"tid": 1234', f'"ts": {ts:.3f}']  # fmt: skip
    lines = ",\n    ".join(fields) if layout == "new" else ", ".join(fields[:5]) + ",\n    "
    if layout != "new":
        lines += fields[5]
    return "  {\n    " + lines + "\n  },\n"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_halves_in_a_long_file_are_seen(layout: str, tmp_path: Path) -> None:
    text = text_of(layout, steps=4, layers=24)
    event = "  {\n    "
    places = [at for at in range(len(text)) if text.startswith(event, at)]
    chosen = random.Random(1).sample(places, 40)
    for number, at in enumerate(sorted(chosen, reverse=True)):
        ph, name = ("B", "E")[number % 2], f"half {number // 2}"
        text = text[:at] + kineto_half(ph, name, 10.0 + number % 2, layout) + text[at:]
    path = write(tmp_path / "t.json.gz", text.encode())
    assert check_same(path).read > 0
    found = [each for each in _ranges(read_trace(path)) if each[0].startswith("half")]
    assert sorted(found) == sorted((f"half {number}", 10.0, 11.0) for number in range(20))


# --- cases ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["begin_end_host", "begin_end_device"])
def test_cases(case: str, tmp_path: Path) -> None:
    path = DATA / "cases" / case / "trace.json"
    found: Ledger = make_ledger(read_trace(path))
    own = {names[-1]: part.own.device_ns for names, part in found.rows}
    assert own == {"A": 30_000, "B": 20_000}
    assert found.findings == ()
    assert export.main([str(path), "--output-dir", str(tmp_path), "--report",
                        str(tmp_path / "r.html")]) == 0  # fmt: skip
    assert (tmp_path / "r.html").exists()


def test_a_half_without_a_time_is_damage(tmp_path: Path) -> None:
    path = write(tmp_path / "t.json", document(json.dumps(b("oops", "A")), json.dumps(e(3, "A"))))
    assert export.main([str(path), "--ledger", str(tmp_path / "l.json")]) == 3
