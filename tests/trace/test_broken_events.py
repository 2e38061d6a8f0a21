"""An event that is broken costs itself alone, or nothing at all where nobody needs it."""

from __future__ import annotations

import gzip
import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from make.broken import EVENTS, LAYOUTS, NUMBERS, QUOTES, TEXTS, Broken, broken, text_of
from make.kineto_texts import assert_read_alike
from make.paths import DATA

from qwen3_profile import export
from qwen3_profile.attribution.findings import DAMAGE
from qwen3_profile.errors import EXIT_BAD_INPUT, EXIT_DAMAGED, BrokenTextError, ProfileError
from qwen3_profile.records.ledger import Ledger, make_ledger
from qwen3_profile.trace import read_trace

CASES = DATA / "cases"
Sums = tuple[int, dict[str, int]]
WHOLE: Sums = (50_000, {"A": 30_000, "B": 20_000})


def sums(ledger: Ledger) -> Sums:
    """All device time, and that of each label by its first letter."""
    own = {path[-1]: part.own.device_ns for path, part in ledger.rows}
    return ledger.times.device_ns, {name[:1]: ns for name, ns in own.items()}


def damages(ledger: Ledger) -> list[str]:
    return [each.message for each in ledger.findings if each.severity == DAMAGE]


@pytest.fixture
def ledger_of(tmp_path: Path) -> Callable[..., Ledger]:
    def make(data: bytes, *, accept_damaged: bool = False) -> Ledger:
        path = tmp_path / "t.json"
        path.write_bytes(data)
        return make_ledger(read_trace(path, accept_damaged=accept_damaged))

    return make


# --- traces as people have them -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("case", "code", "told"),
    [
        pytest.param("text_bad_utf8", 0, "event 1 ", id="a file's name that is no UTF-8"),
        pytest.param("text_raw_quote", 0, "event 1 ", id="raw quotes"),
        pytest.param("text_control_char", 0, "event 1 ", id="a control character"),
        pytest.param("text_bom", 0, "a byte order mark", id="a byte order mark"),
        pytest.param("annotation_without_tid", 0, 'nothing as its "tid"', id="a device range"),
        pytest.param("negative_dur_python", 0, "", id="a frame of Python"),
        pytest.param("id_over_int64", 0, "", id="unsigned ids"),
        pytest.param(
            "text_control_char_in_label", EXIT_BAD_INPUT, r"event 1 \(.*\) is not JSON at byte 256",
            id="a label with a control character",
        ),
        pytest.param(
            "text_lone_surrogate", EXIT_BAD_INPUT, r"event 1 \(.*\) is not JSON at byte 263",
            id="a label with half a pair",
        ),
        pytest.param("negative_dur_op", EXIT_DAMAGED, "'aten::odd' has a negative", id="operator"),
        pytest.param(
            "negative_dur_runtime", EXIT_DAMAGED, "'cudaEventRecord' has a negative", id="call"
        ),
        pytest.param("null_dur", EXIT_DAMAGED, "'A' has null as its \"dur\"", id="a label"),
    ],
)  # fmt: skip
def test_a_case(
    case: str, code: int, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, ledger = CASES / case / "trace.json", tmp_path / "l.json"
    assert export.main([str(path), "--ledger", str(ledger)]) == code
    assert re.search(told, " ".join(("".join(capsys.readouterr())).split()))
    assert ledger.exists() == (code == 0)
    assert export.main([str(path), "--ledger", str(ledger), "--accept-damaged"]) == 0
    found = make_ledger(read_trace(path, accept_damaged=True))
    lost = {"A": 30_000} if case == "null_dur" else {}
    labels = {name: ns for name, ns in WHOLE[1].items() if name not in lost}
    assert sums(found) == (50_000, labels)
    assert len(damages(found)) == (code != 0)
    assert_read_alike(path)


# --- any event, broken in any way -----------------------------------------------------------------


def expected(case: Broken) -> tuple[Sums, ...]:
    """What may come of it: all, or all but the event."""
    kept = [event for number, event in enumerate(EVENTS, 1) if number != case.number]
    return WHOLE, _sums_of(kept)


def _sums_of(events: list[dict[str, object]]) -> Sums:
    path = Path(f"/dev/shm/{id(events)}.json")
    try:
        path.write_bytes(text_of(events, "plain"))
        return sums(make_ledger(read_trace(path)))
    finally:
        path.unlink()


@given(st.integers(0, 2**32))
def test_one_event_costs_itself_alone(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    case = broken(random.Random(seed))
    path = tmp_path_factory.getbasetemp() / "broken.json"
    path.write_bytes(case.data)
    assert_read_alike(path)
    refusal = ""
    try:
        strict: Ledger | None = make_ledger(read_trace(path))
    except ProfileError as error:
        strict, refusal = None, str(error)
    accepted = make_ledger(read_trace(path, accept_damaged=True))
    if case.way in TEXTS or case.way in QUOTES:
        assert sums(accepted) in expected(case)
        if strict is not None:
            assert sums(strict) == WHOLE
            # Of args that nobody reads the encoding is not looked at.
            told = any(finding.code == "odd-text" for finding in strict.findings)
            assert told or case.place == "args"
    if strict is None:
        assert len(damages(accepted)) == 1
        assert (
            f"event {case.number} (" in refusal or repr(EVENTS[case.number - 1]["name"]) in refusal
        )
    if refusal and " is not JSON " in refusal:
        place = int(refusal.split("at byte ")[1].split(":")[0])
        begin = case.data.index(b'"ph"')
        assert begin <= place < len(case.data)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("text", [pytest.param(put, id=way) for way, put in TEXTS.items()])
def test_the_byte_that_is_named_is_the_first_bad_one(
    layout: str, text: bytes, ledger_of: Callable[..., Ledger]
) -> None:
    events = [dict(event) for event in EVENTS]
    events[1]["name"] = "prefill @@"
    data = text_of(events, layout).replace(b"@@", text)
    with pytest.raises(BrokenTextError) as caught:
        ledger_of(data)
    place = int(str(caught.value).split("at byte ")[1].split(":")[0])
    begin = data.index(text)
    assert begin <= place <= begin + len(text) + 1


@pytest.mark.parametrize("layout", LAYOUTS)
def test_of_two_broken_events_both_are_lost(layout: str, ledger_of: Callable[..., Ledger]) -> None:
    events = [dict(event) for event in EVENTS]
    for number in (6, 7):  # the last kernel but three, and the operator behind it
        events[number]["cat"] = "@@"
    data = text_of(events, layout).replace(b"@@", b"\xff")
    found = ledger_of(data, accept_damaged=True)
    assert sums(found) == (40_000, {"A": 20_000, "B": 20_000})
    (told,) = damages(found)
    assert told.startswith("2 events left out")
    assert "event 7 " in told
    assert "event 8 " in told


@pytest.mark.parametrize("number", [1, len(EVENTS)])
def test_the_first_and_the_last_event(number: int, ledger_of: Callable[..., Ledger]) -> None:
    for layout in LAYOUTS:
        events = [dict(event) for event in EVENTS]
        events[number - 1]["cat"] = "kernel@@"
        data = text_of(events, layout).replace(b"@@", b"\x01")
        found = ledger_of(gzip.compress(data), accept_damaged=True)
        assert sums(found) == WHOLE
        assert f"event {number} (" in damages(found)[0]


@pytest.mark.parametrize("value", ["NaN", "-Infinity", "-inf", "nan", "-nan(ind)", "1.#INF"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_numbers_that_nobody_reads(
    layout: str, value: str, ledger_of: Callable[..., Ledger]
) -> None:
    events = [dict(event) for event in EVENTS]
    for event in events:
        event["args"] = {**event["args"], "x": "@@"}
    data = text_of(events, layout).replace(b'"@@"', value.encode())
    found = ledger_of(data)
    assert sums(found) == WHOLE
    (told,) = [each.message for each in found.findings]
    assert told.startswith(f"{len(EVENTS)} events odd")


@pytest.mark.parametrize("put", [*TEXTS.values(), b"NaN"], ids=[*TEXTS, "no number"])
def test_a_header_that_is_not_json(put: bytes, ledger_of: Callable[..., Ledger]) -> None:
    data = text_of(EVENTS, "new")
    for place in (b'{"id": 0}', b'"t.json"'):
        value = put if put == b"NaN" else b'"x' + put + b'"'
        changed = value if place == b'"t.json"' else b'{"id": 0, "name": ' + value + b"}"
        found = ledger_of(data.replace(place, changed))
        assert sums(found) == WHOLE


def test_a_broken_event_in_a_file_that_is_cut_off(ledger_of: Callable[..., Ledger]) -> None:
    data = text_of(EVENTS, "new").replace(b"aten::mm", b"aten::\xff", 1)
    data = data[: data.rindex(b'"Buffer"')]
    with pytest.raises(ProfileError):
        ledger_of(data)
    found = ledger_of(data, accept_damaged=True)
    assert sums(found) == WHOLE
    assert len(damages(found)) == 2  # cut off, and a name


def test_every_event_is_broken(ledger_of: Callable[..., Ledger]) -> None:
    data = text_of(EVENTS, "old").replace(b'"X"', b'"X')
    with pytest.raises(ProfileError, match="is cut off or not JSON"):
        ledger_of(data, accept_damaged=True)


# --- values that cannot be used -------------------------------------------------------------------


@pytest.mark.parametrize("place", ["ts", "dur", "pid", "tid", "correlation", "stream", "bytes"])
@pytest.mark.parametrize("value", [value for value in NUMBERS if value])
@pytest.mark.parametrize("number", range(1, 8))
def test_a_value_costs_no_other_event(
    place: str, value: str, number: int, ledger_of: Callable[..., Ledger]
) -> None:
    events = [dict(event) for event in EVENTS]
    event = events[number - 1]
    if place in event:
        event[place] = "@@"
    else:
        event["args"] = {**event["args"], place: "@@"}
    data = text_of(events, "old").replace(b'"@@"', value.encode())
    others = sums(ledger_of(data, accept_damaged=True))
    if event["cat"] in ("python_function", "gpu_user_annotation", "cpu_op"):
        assert others == WHOLE
    if event["cat"] == "gpu_user_annotation":
        assert sums(ledger_of(data)) == WHOLE
    assert others[0] in (WHOLE[0], WHOLE[0] - 10_000) or place in ("ts", "dur")
    assert others[1].get("B", 20_000) == 20_000 or number == 3
