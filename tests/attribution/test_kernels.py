"""Which kernels each range ran: on paper, by law, in the ledger's file and on its page."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from make.kineto import document, driver, host, kernel, label, launch, memcpy, memset, read, write
from make.random_traces import traces

from qwen3_profile import export
from qwen3_profile.attribution.kernels import KernelRow
from qwen3_profile.attribution.selection import SCOPES
from qwen3_profile.records.ledger import make_ledger
from qwen3_profile.views.terminal.ledger import render_ledger

LAYER = "layer.{}.attn"

EVENTS = [
    label("prefill", 0, 900),
    label(LAYER.format(0), 100, 200),
    label(LAYER.format(0), 300, 400),
    label(LAYER.format(1), 500, 600),
    launch(1, 50, 55),
    launch(2, 110, 115),
    launch(3, 310, 315),
    driver(4, 350, 355),
    launch(5, 510, 515),
    launch(6, 950, 955),
    kernel(1, 60, 61, name="gemm"),
    kernel(2, 120, 122, name="gemm"),
    kernel(3, 320, 324, name="gemm"),
    kernel(4, 360, 376, name="softmax"),
    memset(5, 520, 528),
    kernel(6, 960, 992, name="gemm"),
    memcpy(99, 1000, 1064),
]
FIRST, SECOND = ("prefill", LAYER.format(0)), ("prefill", LAYER.format(1))


def kernels(*events: str) -> tuple[KernelRow, ...] | None:
    return make_ledger(read(*events), kernels=True).kernels


def test_which_kernels_ran_where() -> None:
    assert kernels(*EVENTS) == (
        KernelRow((), "no label open", "gemm", 1, 32),
        KernelRow((), "no launch record", "copy99", 1, 64),
        KernelRow(("prefill",), "", "gemm", 1, 1),
        KernelRow(FIRST, "", "softmax", 1, 16),
        KernelRow(FIRST, "", "gemm", 2, 2 + 4),
        KernelRow(SECOND, "", "set5", 1, 8),
    )


def test_a_name_in_two_places_has_two_paths() -> None:
    events = [
        label("a", 0, 100), label("in", 10, 20), label("b", 200, 300), label("in", 210, 220),
        label("in", 400, 500), label("in", 410, 420),
        *(launch(n, at, at + 1) for n, at in enumerate((15, 215, 405, 415), start=1)),
        *(kernel(n, 1000 * n, 1000 * n + n, name="k") for n in range(1, 5)),
    ]  # fmt: skip
    assert {row.path: row.device_ns for row in kernels(*events) or ()} == {
        ("a", "in"): 1, ("b", "in"): 2, ("in",): 3, ("in", "in"): 4
    }  # fmt: skip


@pytest.mark.parametrize("events", [pytest.param([], id="nothing"),
                                    pytest.param([label("a", 0, 9)], id="no device"),
                                    pytest.param([kernel(1, 0, 9)], id="no host")])  # fmt: skip
def test_a_trace_without_much(events: list[str]) -> None:
    found = make_ledger(read(*events), kernels=True)
    assert found.kernels is not None
    assert sum(row.device_ns for row in found.kernels) == found.times.device_ns


@given(traces())
@settings(max_examples=60)
def test_the_rows_are_all_device_time_path_by_path(events: list[str]) -> None:
    for scopes in SCOPES:
        found = make_ledger(read(*events), scopes, kernels=True)
        own: Counter[tuple[str, ...]] = Counter()
        spare: Counter[str] = Counter()
        assert found.kernels is not None
        for row in found.kernels:
            assert bool(row.path) != bool(row.reason)
            own[row.path] += row.device_ns
            spare[row.reason] += row.device_ns
        del own[()], spare[""]
        assert +own == +Counter({path: part.own.device_ns for path, part in found.rows})
        assert +spare == +Counter({each.reason: each.ns for each in found.times.unattributed})
        assert sum(row.events for row in found.kernels) == found.times.device_events


def test_the_flag_puts_them_into_file_and_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    events = [
        *EVENTS,
        label("late", 9000, 9900),
        host("cuda_runtime", "cudaGraphLaunch", 120, 125, correlation=7),
    ]
    long = f"void {'x' * 60}(int)\x1b[2J"
    trace = write(tmp_path / "t.json", document(*events, kernel(7, 2000, 7000, name=long)))
    file = tmp_path / "ledger.json"
    assert export.main([str(trace), "--ledger", str(file)]) == 0
    assert "kernels" not in json.loads(file.read_text())
    assert "kernel  " not in capsys.readouterr().out
    assert export.main([str(trace), "--ledger", str(file), "--kernels"]) == 0
    rows = json.loads(file.read_text())["kernels"]
    assert {"path": [], "reason": "no label open", "name": "gemm", "events": 1,
            "device_ns": 32} in rows  # fmt: skip
    page = capsys.readouterr().out
    lines = [line for line in page.splitlines() if str(tmp_path) not in line]
    assert all(line.isprintable() for line in lines)
    assert max(map(len, lines)) <= 100
    (line,) = (line for line in page.splitlines() if line.startswith("xxx"))
    assert line.split()[1:] == ["layer.*.attn", "1", "0.005", "97.5%"]


def test_layers_are_shown_together() -> None:
    events = [
        label("prefill", 0, 900), label("layer.0", 100, 200), label("layer.11", 300, 400),
        launch(1, 110, 111), launch(2, 310, 311),
        kernel(1, 1000, 3000, name="k"), kernel(2, 4000, 8000, name="k"),
    ]  # fmt: skip
    page = render_ledger(make_ledger(read(*events), kernels=True))
    (line,) = (line for line in page.splitlines() if line.startswith("k  "))
    assert line.split() == ["k", "layer.*", "2", "0.006", "100.0%"]


def test_alone_it_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = write(tmp_path / "t.json", document(*EVENTS))
    assert export.main([str(trace), "--kernels", "--output-dir", str(tmp_path)]) == 2
    assert "--kernels: goes with --ledger" in capsys.readouterr().err
