"""Processes for comparisons: their records have the times that a test gives them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from make.samples import record
from qwen3_profile.attribution.parts import Part, PartTree
from qwen3_profile.records.process import Process
from qwen3_profile.records.record import TimingRecord


def scaled(whole: TimingRecord, factor: float, index: int) -> TimingRecord:
    """A record whose times are a million times as long, times a factor."""
    forward = whole.times.forward
    times = forward.tree.times()
    times = (times * 1_000_000 * factor).astype(int)
    tree = PartTree.of(forward.tree.names, forward.tree.name, forward.tree.parent, times)
    passed = replace(whole.times, forward=Part(tree, forward.row))
    return replace(
        whole, times=passed, run_index=index, total_ns=1e6 * factor, id=f"A-c0-r{index}-prefill"
    )


def process(
    name: str, passes: Sequence[float], *, minute: int = 0, whole: TimingRecord | None = None
) -> Process:
    """A process of these passes, each so many times as long as the others' usual one."""
    whole = whole or record()
    started = f"2026-01-02T03:{minute:02d}:05+00:00"
    records = [
        replace(scaled(whole, each, at), timestamp=started) for at, each in enumerate(passes)
    ]
    return Process(name, name, (tuple(records),))


def side(
    name: str, processes: Sequence[Sequence[float]], *, first: int = 0, every: int = 2
) -> tuple[Process, ...]:
    """Processes that began every so many minutes, from the first on."""
    return tuple(
        process(f"{name}{at}", passes, minute=first + every * at)
        for at, passes in enumerate(processes)
    )
