"""What must hold of the ledger of any bytes, and the traces that fuzzing starts from."""

from __future__ import annotations

import gzip
import os
import tempfile
from pathlib import Path

import msgspec

from make.kineto import (
    cpu_op,
    document,
    driver,
    forward_pass,
    host,
    kernel,
    label,
    launch,
    memcpy,
    step,
)
from make.plain import plain
from qwen3_profile.attribution.findings import DAMAGE
from qwen3_profile.attribution.selection import SCOPES
from qwen3_profile.errors import ProfileError
from qwen3_profile.records.ledger import Ledger, make_ledger
from qwen3_profile.trace import read_trace
from qwen3_profile.views.terminal.ledger import render_ledger

# Fuzzing writes thousands of files a minute; where it can, not on a disk.
_FOLDER = "/dev/shm" if Path("/dev/shm").is_dir() else None


def seeds() -> dict[str, bytes]:
    """Small traces of every shape that the reader knows, by name."""
    labels = [
        step(1, 0, 90_000), label("prefill", 10, 80_000), cpu_op("layer.0.attn", 20, 40_000),
        host("python_function", "nn.Module: Linear_0", 15, 60_000),
    ]  # fmt: skip
    work = [
        launch(1, 30, 35), driver(1, 31, 33), kernel(1, 50, 70), launch(2, 45_000, 45_010),
        memcpy(2, 45_020, 45_050), kernel(9, 46_000, 46_010), kernel(None, 1, 2),
    ]  # fmt: skip
    graph = host("cuda_runtime", "cudaGraphLaunch", 50, 60, correlation=5)
    whole = document(*labels, *work, base_time_ns=1_700_000_000_000_000_000)
    return {
        "labels": whole,
        "list": f"[{','.join([*labels, *work])}]".encode(),
        "graph": document(*labels, graph, kernel(5, 70, 80), kernel(5, 75, 90, 8)),
        "pass": document(*forward_pass(1))[:3000],
        "packed": gzip.compress(whole, mtime=0),
        "whole microseconds": whole.replace(b".000", b"").replace(b"user_annotation", b"cpu_op"),
        "facts": whole.replace(
            b'"schemaVersion": 1',
            b'"schemaVersion": 1, "deviceProperties": [{"id": 0, "name": "H100"}], "WARNING": ["x"]'
            b', "distributedInfo": {"rank": 1, "world_size": 2}, "cuda_driver_version": 13000',
        ),
    }


def check_bytes(data: bytes) -> Ledger | None:
    """The ledger of `data` as a file, or None where it is refused in one line.

    Raises:
        AssertionError: the ledger does not balance, or is not what plain reading finds.
    """
    with tempfile.NamedTemporaryFile(dir=_FOLDER, suffix=".json", delete=False) as file:
        file.write(data)
    path = Path(file.name)
    try:
        found = _ledger(path)
    finally:
        os.unlink(path)
    if found is not None:
        check_ledger(found)
        if not any(finding.severity == DAMAGE for finding in found.findings):
            check_against_plain(found, data)
    return found


def _ledger(path: Path) -> Ledger | None:
    try:
        trace = read_trace(path)
        for scopes in SCOPES[1:]:
            check_ledger(make_ledger(trace, scopes, kernels=True))
        return make_ledger(trace)
    except ProfileError as error:
        refusal = str(error)
    assert len(refusal.splitlines()) == 1
    _accept(path)
    return None


def _accept(path: Path) -> None:
    """What --accept-damaged makes of a refused file is refused, or is told."""
    try:
        found = make_ledger(read_trace(path, accept_damaged=True))
    except ProfileError:
        return
    assert any(finding.severity == DAMAGE for finding in found.findings)
    check_ledger(found)


def check_ledger(ledger: Ledger) -> None:
    """What holds of every ledger, be its trace damaged or not."""
    text = msgspec.json.decode(ledger.to_bytes())
    assert len(text["rows"]) == len(ledger.rows)
    assert all(line.isprintable() for line in render_ledger(ledger).splitlines())
    if any(finding.code == "clock-jump" for finding in ledger.findings):
        return  # sums of such times may not fit, and nobody is shown them unasked
    assert ledger.times.balances
    total = dict(ledger.rows)
    below: dict[tuple[str, ...], int] = {}
    for path, part in ledger.rows:
        assert min(*part.total, *part.own) >= 0, part
        below[path[:-1]] = below.get(path[:-1], 0) + part.total.device_ns
        assert part.total.graph_events <= part.total.device_events
    if ledger.kernels is not None:
        assert sum(row.device_ns for row in ledger.kernels) == ledger.times.device_ns
        assert sum(row.events for row in ledger.kernels) == ledger.times.device_events
    for path, part in total.items():
        assert part.total.device_ns == part.own.device_ns + below.get(path, 0)
    busy_ns = ledger.busy_ns.values()
    assert max(busy_ns, default=0) <= ledger.times.busy_ns <= sum(busy_ns)


def check_against_plain(ledger: Ledger, data: bytes) -> None:
    """Sums, links, busy time and the time of each label, as plain reading finds them."""
    try:
        truth = plain(data)
    except ValueError:
        # Plain reading knows JSON alone; what is odd elsewhere in a text nobody needs.
        assert any(finding.code == "odd-text" for finding in ledger.findings)
        return
    if ledger.apart_events:
        # Which events these are is not for plain reading to say.
        whole_ns = ledger.times.device_ns + ledger.apart_ns
        assert whole_ns == sum(event.dur for event in truth.device)
        return
    assert ledger.times.device_ns == sum(event.dur for event in truth.device)
    assert ledger.times.device_events == len(truth.device)
    linked = [
        event for event, call in zip(truth.device, truth.launch_of(), strict=True) if call
    ]  # fmt: skip
    assert ledger.linked_events == len(linked)
    assert ledger.linked_ns == sum(event.dur for event in linked)
    assert {name: ns for (_, name), ns in ledger.busy_ns.items()} == truth.busy()
    found: dict[str, int] = {}
    for path, part in ledger.rows:
        if part.own.device_ns:
            found[path[-1]] = found.get(path[-1], 0) + part.own.device_ns
    assert found == dict(truth.self_ns())
