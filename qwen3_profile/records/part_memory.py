"""The memory of each part of a pass, from what was allocated and freed while it ran.

Of a label's time, t0 to t1: `peak` is the most that was allocated, `rise` that less what was at t0;
`retained` is what it took and what lives on at t1, `transient` what it took and gave back,
`largest` its largest block. Maxima of parts do not add up to their layer's: their times differ.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qwen3_profile import labels
from qwen3_profile.attribution.findings import Finding, check_memory
from qwen3_profile.run_folder.memory_events import (
    BLOCK,
    CLOSE,
    WORKSPACE,
    MemoryPass,
    read_memory,
)

if TYPE_CHECKING:
    from qwen3_profile.run_folder.run_json import ConfigResult

KV_CACHE, WORKSPACES, ACTIVATIONS = "kv_cache", "workspace", "activations"
_CACHES = ("kv_cache", "state_cache")


@dataclass(frozen=True, slots=True)
class LabelMemory:
    """What a label did with the memory, in bytes. freed: of blocks that were there before it."""

    label: str
    peak_bytes: int
    rise_bytes: int
    retained_bytes: int
    transient_bytes: int
    largest_bytes: int
    freed_bytes: int


@dataclass(frozen=True, slots=True)
class PassMemory:
    """The memory of one pass.

    whole: of all of it. parts: each label, in the order in which they begin.
    at_peak: what the pass had taken at its peak: KV cache, workspace of operators, activations.
    lasting_bytes, workspace_bytes: the most of its own at once, of blocks that outlive the operator
        that took them, and of those that do not.
    start_bytes, weights_bytes, allocator_peak_bytes, capacity_bytes, graph_pool_bytes: as of a
        `MemoryPass`.
    """

    whole: LabelMemory
    parts: tuple[LabelMemory, ...]
    at_peak: dict[str, int]
    lasting_bytes: int
    workspace_bytes: int
    start_bytes: int
    weights_bytes: int
    allocator_peak_bytes: int | None
    capacity_bytes: int | None
    graph_pool_bytes: int | None = None

    @property
    def is_complete(self) -> bool:
        """Whether its peak is the allocator's own, to the byte; also where that keeps none."""
        return self.allocator_peak_bytes in (None, self.whole.peak_bytes)

    def by_part(self) -> dict[str, LabelMemory]:
        """Name of a part -> the largest figures that it has in any layer."""
        found: dict[str, LabelMemory] = {}
        for each in self.parts:
            name = labels.every_layer(each.label)
            found[name] = _larger(found[name], each, name) if name in found else each
        return found


def config_memory(
    folder: Path, result: ConfigResult
) -> tuple[PassMemory | None, tuple[Finding, ...]]:
    """What a pass of a saved config allocates, and what is to be said of how that was recorded."""
    if not result.memory:
        return None, ()
    found = pass_memory(read_memory(folder / result.memory)[-1])
    return found, check_memory(found.whole.peak_bytes, found.allocator_peak_bytes)


def memory_json(memory: PassMemory) -> dict[str, Any]:
    """A pass's memory under its own names; of parts the largest figures that any layer has."""
    found = asdict(memory)
    found["parts"] = {name: _figures(each) for name, each in memory.by_part().items()}
    found["labels"] = {each.label: _figures(each) for each in memory.parts}
    return found | {"whole": _figures(memory.whole)}


def _figures(each: LabelMemory) -> dict[str, Any]:
    found = asdict(each)
    found.pop("label")
    return found


@dataclass(slots=True)
class _Open:
    """A label that has not ended yet."""

    label: str
    start_bytes: int
    peak_bytes: int
    taken_bytes: int = 0
    largest_bytes: int = 0
    freed_bytes: int = 0
    live: dict[int, int] = field(default_factory=dict)

    def change(self, block: int, size: int, total: int) -> None:
        if size > 0:
            self.taken_bytes += size
            self.largest_bytes = max(self.largest_bytes, size)
            self.live[block] = size
        elif self.live.pop(block, None) is None:
            self.freed_bytes -= size
        self.peak_bytes = max(self.peak_bytes, total)

    def closed(self) -> LabelMemory:
        retained = sum(self.live.values())
        return LabelMemory(
            label=self.label,
            peak_bytes=self.peak_bytes,
            rise_bytes=self.peak_bytes - self.start_bytes,
            retained_bytes=retained,
            transient_bytes=self.taken_bytes - retained,
            largest_bytes=self.largest_bytes,
            freed_bytes=self.freed_bytes,
        )


def pass_memory(events: MemoryPass) -> PassMemory:
    """The memory of a pass and of each label in it."""
    whole, *parts = (each for _, each in sorted(_labels(events), key=lambda each: each[0]))
    return PassMemory(
        whole=whole,
        parts=tuple(parts),
        at_peak=_at_peak(events, whole.peak_bytes),
        lasting_bytes=_most(events, BLOCK),
        workspace_bytes=_most(events, WORKSPACE),
        start_bytes=events.start_bytes,
        weights_bytes=events.weights_bytes,
        allocator_peak_bytes=events.allocator_peak_bytes,
        capacity_bytes=events.capacity_bytes,
        graph_pool_bytes=events.graph_pool_bytes,
    )


def _labels(events: MemoryPass) -> Iterator[tuple[int, LabelMemory]]:
    """The number of each label, by when it begins, and its memory; 0 is that of the whole pass."""
    total, begun = events.start_bytes, 0
    waiting = [(begun, _Open("", total, total))]
    for what, size, block in zip(events.what, events.bytes, events.block, strict=True):
        if what == CLOSE:
            number, ended = waiting.pop()
            yield number, ended.closed()
        elif what in (BLOCK, WORKSPACE):
            total += size
            for _, each in waiting:
                each.change(block, size, total)
        else:
            begun += 1
            waiting.append((begun, _Open(events.labels[what], total, total)))
    yield 0, waiting[0][1].closed()


def _at_peak(events: MemoryPass, peak_bytes: int) -> dict[str, int]:
    """What lives of the pass's own blocks when the peak is reached for the first time, by kind."""
    total, live, open_labels = events.start_bytes, dict[int, tuple[str, int]](), [""]
    for what, size, block in zip(events.what, events.bytes, events.block, strict=True):
        if total == peak_bytes and live:
            break
        if what == CLOSE:
            open_labels.pop()
        elif what >= 0:
            open_labels.append(events.labels[what])
        elif size > 0:
            live[block] = (_kind(what, open_labels[-1]), size)
        else:
            live.pop(block, None)
        total += size
    found: Counter[str] = Counter({KV_CACHE: 0, ACTIVATIONS: 0, WORKSPACES: 0})
    for kind, size in live.values():
        found[kind] += size
    return dict(found)


def _most(events: MemoryPass, kind: int) -> int:
    """The most that was there at once of blocks of one kind, beside what was there before."""
    sizes = (size for what, size in zip(events.what, events.bytes, strict=True) if what == kind)
    return max(accumulate(sizes, initial=0))


def _kind(what: int, label: str) -> str:
    if what == WORKSPACE:
        return WORKSPACES
    return KV_CACHE if label.rpartition(".")[2] in _CACHES else ACTIVATIONS


def _larger(one: LabelMemory, other: LabelMemory, name: str) -> LabelMemory:
    return LabelMemory(
        label=name,
        peak_bytes=max(one.peak_bytes, other.peak_bytes),
        rise_bytes=max(one.rise_bytes, other.rise_bytes),
        retained_bytes=max(one.retained_bytes, other.retained_bytes),
        transient_bytes=max(one.transient_bytes, other.transient_bytes),
        largest_bytes=max(one.largest_bytes, other.largest_bytes),
        freed_bytes=max(one.freed_bytes, other.freed_bytes),
    )
