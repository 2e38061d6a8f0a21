"""Ledgers of long traces, made window by window, against those made in one piece."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest
from long_trace import write_trace
from make.kineto import document, driver, kernel, label, launch, step, write

from qwen3_profile.attribution.selection import SCOPES, is_asked_for
from qwen3_profile.passes import windows
from qwen3_profile.records import ledger
from qwen3_profile.records.ledger import make_ledger, make_long_ledger
from qwen3_profile.trace import read_compact, read_trace


def steps(
    count: int, *, first: int = 0, thread: int = 1, device: int = 0, apart: int = 1000
) -> list[str]:
    """Steps that have nothing to do with each other: labels, two launches, two kernels."""
    found = []
    for number in range(first, first + count):
        at = apart * number
        found += [
            step(number, at, at + 900),
            label("decode", at + 10, at + 800, thread),
            label(f"part {number % 3}", at + 20, at + 300, thread),
            launch(2 * number + 1, at + 30, at + 40, thread),
            kernel(2 * number + 1, at + 50, at + 90, device=device),
            launch(2 * number + 2, at + 400, at + 410, thread),
            kernel(2 * number + 2, at + 500, at + 560 + number, stream=9, device=device),
        ]
    return found


SOUND = {
    "one thread": steps(8),
    "no steps in between": [*steps(3), *steps(3, first=6)],
    "a stray in one window": [*steps(8), launch(99, 7950, 7960), kernel(99, 7970, 7980)],
    "strays in two windows": [
        launch(1, 500, 510), kernel(1, 520, 530), *steps(8, first=1),
        launch(99, 8950, 8960), kernel(99, 8970, 8980),
    ],
    "two devices": [part for n in range(8) for part in steps(1, first=n, device=n % 2)],
    "two threads in each": [
        part
        for n in range(0, 16, 2)
        for part in (*steps(1, first=n), *steps(1, first=n + 1, thread=2, apart=1000))
    ],
}  # fmt: skip
# What must be seen as a whole: none of these may be cut, or none of its windows be believed.
ODD = {
    "a kernel over a border": [*steps(8), launch(99, 3500, 3510), kernel(99, 3600, 4100)],
    "a label over a border": [*steps(8), label("around", 2950, 5100)],
    "a kernel in the next step": [*steps(8), launch(99, 3500, 3510), kernel(99, 4010, 4020)],
    "the same id twice": [*steps(8), launch(3, 6600, 6610), driver(3, 6620, 6630)],
    "ids that count down": [
        *steps(4), launch(99, 100, 110), kernel(99, 120, 130), *steps(4, first=4)
    ],
    "a thread with labels in one step": [*steps(8), label("other", 3100, 3200, 5)],
    "a launch on a thread without labels": [
        *steps(8), launch(99, 7100, 7110, 3), kernel(99, 7150, 7160)
    ],
    "a stray on a device that ran before": [
        launch(1, 500, 510), kernel(1, 520, 530, device=1), *steps(8, first=1),
        launch(99, 8950, 8960), kernel(99, 8970, 8980, device=1),
    ],
    "a launch without an event": [*steps(8), launch(99, 7600, 7610)],
    "kernels that overlap": [*steps(8), launch(99, 7600, 7610), kernel(99, 7550, 7640, stream=9)],
    "no step at all": [label("mine", 0, 9), *(kernel(None, n, n + 1) for n in range(9))],
    "clocks that lie apart": [*steps(4), *steps(4, first=10**13)],
}  # fmt: skip


@pytest.mark.parametrize("scopes", SCOPES)
@pytest.mark.parametrize(
    "events", [pytest.param(events, id=name) for name, events in (SOUND | ODD).items()]
)
def test_window_by_window_is_as_in_one_piece(
    events: list[str], scopes: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "t.json", document(*events))
    monkeypatch.setattr(windows, "_WINDOW_EVENTS", 9)
    found = make_long_ledger(read_compact(path), scopes)
    assert found.to_bytes() == make_ledger(read_trace(path), scopes).to_bytes()


@pytest.mark.parametrize("events", [pytest.param(each, id=name) for name, each in SOUND.items()])
def test_a_sound_trace_is_never_looked_at_as_a_whole(
    events: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "t.json", document(*events))
    monkeypatch.setattr(windows, "_WINDOW_EVENTS", 9)
    with mock.patch.object(ledger, "make_ledger") as whole:
        make_long_ledger(read_compact(path))
    whole.assert_not_called()


@pytest.mark.parametrize("gpu", [pytest.param(True, id="GPU"), pytest.param(False, id="CPU")])
def test_what_no_account_asks_for_may_be_left_out(
    gpu: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = io.StringIO()
    write_trace(out, 4, layers=1, gpu=gpu)
    path = write(tmp_path / "t.json", out.getvalue().encode())
    monkeypatch.setattr(windows, "_WINDOW_EVENTS", 60)
    few = read_compact(path, keeps_op=is_asked_for)
    assert make_long_ledger(few).to_bytes() == make_ledger(read_trace(path)).to_bytes()
    assert len(few.trace().host) < len(read_trace(path).host)
    assert few.trace().span == read_trace(path).span
    assert replace(few.info) == read_trace(path).info
