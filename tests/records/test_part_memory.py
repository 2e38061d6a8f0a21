"""The memory of labels, from small streams of events that are worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from make.samples import record

from qwen3_profile.analysis.memory_fit import MemoryFit, memory_fit
from qwen3_profile.attribution.findings import check_memory
from qwen3_profile.config import RunConfig
from qwen3_profile.records.part_memory import LabelMemory, pass_memory
from qwen3_profile.run_folder.memory_events import BLOCK, CLOSE, WORKSPACE, MemoryPass

Event = tuple[int, int, int]
LABELS = ("prefill", "layer.0", "layer.0.attn.kv_cache", "layer.1")


def stream(*events: Event, start: int = 0, **facts: int) -> MemoryPass:
    what, sizes, blocks = zip(*events, strict=True) if events else ((), (), ())
    return MemoryPass(0, LABELS, what, sizes, blocks, start, 50, **facts)


HAND = stream(
    (0, 0, 0), (BLOCK, 10, 1),
    (1, 0, 0), (BLOCK, 30, 2), (WORKSPACE, 40, 3), (WORKSPACE, -40, 3), (BLOCK, -10, 1),
    (2, 0, 0), (BLOCK, 20, 1), (CLOSE, 0, 0),
    (BLOCK, -30, 2), (CLOSE, 0, 0),
    (CLOSE, 0, 0),
    start=100,
)  # fmt: skip


def test_by_hand() -> None:
    memory = pass_memory(HAND)
    assert memory.whole == LabelMemory("", 180, 80, 20, 80, 40, 0)
    assert memory.parts == (
        LabelMemory("prefill", 180, 80, 20, 80, 40, 0),
        LabelMemory("layer.0", 180, 70, 20, 70, 40, 10),
        LabelMemory("layer.0.attn.kv_cache", 150, 20, 20, 0, 20, 0),
    )
    assert memory.at_peak == {"kv_cache": 0, "activations": 40, "workspace": 40}
    assert (memory.lasting_bytes, memory.workspace_bytes) == (50, 40)


def test_layers_stand_in_one_row_with_their_largest_figures() -> None:
    memory = pass_memory(
        stream(
            (1, 0, 0), (BLOCK, 10, 1), (CLOSE, 0, 0), (3, 0, 0), (BLOCK, 20, 2), (BLOCK, -20, 2),
            (BLOCK, 5, 2), (CLOSE, 0, 0),
        )
    )  # fmt: skip
    assert memory.by_part()["layer.*"] == LabelMemory("layer.*", 30, 20, 10, 20, 20, 0)


def test_the_kinds_at_the_peak() -> None:
    memory = pass_memory(stream((2, 0, 0), (BLOCK, 7, 1), (CLOSE, 0, 0), (BLOCK, 5, 2)))
    assert memory.at_peak == {"kv_cache": 7, "activations": 5, "workspace": 0}


@pytest.mark.parametrize(("allocator", "complete"), [(None, True), (180, True), (181, False)])
def test_a_peak_that_is_not_the_allocators_is_told(allocator: int | None, complete: bool) -> None:
    memory = pass_memory(replace(HAND, allocator_peak_bytes=allocator))
    assert memory.is_complete == complete
    found = check_memory(memory.whole.peak_bytes, memory.allocator_peak_bytes)
    assert [each.code for each in found] == ([] if complete else ["memory-incomplete"])


@st.composite
def streams(draw: st.DrawFn) -> MemoryPass:
    """Labels that nest, and blocks that are given back after they were taken."""
    events: list[Event] = []
    live: dict[int, int] = {}
    depth = 0
    for _ in range(draw(st.integers(0, 60))):
        choice = draw(st.sampled_from(["open", "close", "take", "give"]))
        if choice == "open" and depth < 4:
            events.append((draw(st.integers(0, 3)), 0, 0))
            depth += 1
        elif choice == "close" and depth:
            events.append((CLOSE, 0, 0))
            depth -= 1
        elif choice == "take":
            block = len(live) + sum(1 for e in events if e[1] < 0) + 1000
            live[block] = draw(st.integers(1, 10**9))
            events.append((BLOCK, live[block], block))
        elif choice == "give" and live:
            block = draw(st.sampled_from(sorted(live)))
            events.append((BLOCK, -live.pop(block), block))
    return stream(*events, *[(CLOSE, 0, 0)] * depth, start=draw(st.integers(0, 10**10)))


@given(streams())
def test_what_is_retained_and_freed_is_the_change_of_the_total(events: MemoryPass) -> None:
    memory = pass_memory(events)
    totals = [events.start_bytes]
    for size in events.bytes:
        totals.append(totals[-1] + size)
    whole = memory.whole
    assert whole.retained_bytes - whole.freed_bytes == totals[-1] - totals[0]
    assert whole.peak_bytes == max(totals)
    assert sum(memory.at_peak.values()) == max(totals) - totals[0]
    for each in memory.parts:
        assert 0 <= each.rise_bytes <= whole.peak_bytes - min(totals)
        assert each.largest_bytes <= each.retained_bytes + each.transient_bytes
        assert each.peak_bytes <= whole.peak_bytes


@pytest.mark.parametrize(
    ("attention", "expected"),
    [("sdpa", MemoryFit(4, 22, 45, 40.0)), ("eager", MemoryFit(4, 22, None, 40.0))],
)
def test_what_would_fit(attention: str, expected: MemoryFit) -> None:
    """80 bytes for 2 sequences of 4 tokens, and 900 free beside the 100 that were there."""
    given_record = replace(
        record(),
        config=RunConfig(batch_size=2, input_len=4),
        facts=replace(record().facts, attn_implementation=attention, model=None),
        memory=pass_memory(replace(HAND, capacity_bytes=1000)),
    )
    assert memory_fit(given_record) == expected
    assert memory_fit(replace(given_record, phase="decode")) is None
    of_graph = replace(HAND, capacity_bytes=1000, graph_pool_bytes=0)
    assert memory_fit(replace(given_record, memory=pass_memory(of_graph))) is None
    unknown = replace(given_record, memory=pass_memory(HAND))
    assert memory_fit(unknown) is None
