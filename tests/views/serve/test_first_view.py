"""Where the view of a trace begins, of sound traces and of any others."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest

from qwen3_profile.views.serve import first_view
from qwen3_profile.views.serve.first_view import first_layers_ns


def packed(*ranges: tuple[str, Any, Any]) -> bytes:
    events = [{"ph": "X", "name": name, "ts": ts, "dur": dur, "pid": 1} for name, ts, dur in ranges]
    return gzip.compress(json.dumps({"traceEvents": events}).encode())


def test_it_begins_at_the_first_pass_and_ends_with_the_layers_that_are_told_apart() -> None:
    layers = [(f"layer.{n}", 1000 + 10 * n, 10) for n in range(20)]
    found = first_layers_ns(packed(("decode", 5000, 1), ("prefill", 1000, 500), *layers))
    # 8 layers of 10 us, and 2% of them on either side.
    assert found == (1_000_000 - 1600, 1_080_000 + 1600)


@pytest.mark.parametrize(
    "trace",
    [
        pytest.param(b"not packed", id="no gzip"),
        pytest.param(packed(("prefill", 1, 9))[:-30], id="cut off"),
        pytest.param(packed(("other", 1, 9)), id="no pass"),
        pytest.param(packed(("prefill", 1e308, 1e308)), id="beyond all clocks"),
        pytest.param(gzip.compress(b'{"traceEvents":' + b"[" * 100_000), id="nested"),
        pytest.param(gzip.compress(b'{"\xff":1}'), id="no text"),
    ],
)
def test_what_has_no_view_is_shown_from_its_begin(trace: bytes) -> None:
    assert first_layers_ns(trace) is None


def test_no_more_is_unpacked_than_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    trace = packed(("prefill", 1, 9))
    assert first_layers_ns(trace) is not None
    monkeypatch.setattr(first_view, "_MOST_BYTES", 20)
    assert first_layers_ns(trace) is None
