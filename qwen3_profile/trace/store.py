"""Blocks of events in, in the order of the file; the columns of the whole trace out.

Between the two every block is held as small as its values allow: what lies in one megabyte of a
file began within some milliseconds, so the start of an event is four bytes above its block's first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from qwen3_profile.trace.columns import (
    AutogradOps,
    Bool,
    Category,
    Events,
    Int64,
    Span,
    Trace,
    TraceInfo,
    around,
    no_autograd_ops,
    which,
)
from qwen3_profile.trace.document import damaged
from qwen3_profile.trace.kinds import Kinds

_INT64_MAX = 2**63 - 1
_HOST = (Category.CPU_OP, Category.USER_ANNOTATION, Category.PYTHON_FUNCTION)
_LAUNCH = (Category.RUNTIME, Category.DRIVER)
_DEVICE = (Category.KERNEL, Category.GPU_MEMCPY, Category.GPU_MEMSET)
_TABLES = (_HOST, _LAUNCH, _DEVICE, (Category.GPU_USER_ANNOTATION,))
_TABLE_OF = np.array(
    [next(i for i, table in enumerate(_TABLES) if each in table) for each in Category], np.int8
)


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Some events of a file, as parallel arrays; times as in `Events`.

    kind: int64[n], a number of `Kinds`. correlation: -1 for an event that has none.
    numbered: int64[m], which of the events autograd numbered or evaluated.
    sequence, forward_thread: int64[m], as in `AutogradOps`.
    """

    kind: Int64
    start_ns: Int64
    dur_ns: Int64
    correlation: Int64
    numbered: Int64
    sequence: Int64
    forward_thread: Int64


class _Packed:
    """int64 values in the fewest bytes above their least."""

    __slots__ = ("_above", "_least")

    def __init__(self, values: Int64) -> None:
        self._least = int(values.min())
        above = (values - self._least).view(np.uint64)
        largest = int(above.max())
        width: Any = next(width for width, most in _WIDTHS if largest <= most)
        self._above: npt.NDArray[Any] = above.astype(width)

    def unpacked(self) -> Int64:
        return self._above.astype(np.int64) + self._least

    def __len__(self) -> int:
        return len(self._above)


_WIDTHS = tuple((t, np.iinfo(t).max) for t in (np.uint8, np.uint16, np.uint32, np.uint64))


@dataclass(frozen=True, slots=True, eq=False)
class _PackedBlock:
    """Events of one table that stood near each other in the file."""

    kind: _Packed
    start_ns: _Packed
    dur_ns: _Packed
    correlation: _Packed
    span: Span

    def unpacked(self) -> tuple[Int64, Int64, Int64, Int64]:
        """Kind, start, duration, correlation."""
        return (
            self.kind.unpacked(), self.start_ns.unpacked(), self.dur_ns.unpacked(),
            self.correlation.unpacked(),
        )  # fmt: skip

    def take(self, wanted: Bool) -> _PackedBlock | None:
        """The events of those kinds, told by a flag each; None if there are none."""
        kind = self.kind.unpacked()
        at = np.flatnonzero(wanted[kind])
        if not len(at):
            return None
        return _PackedBlock(
            _Packed(kind[at]),
            _Packed(self.start_ns.unpacked()[at]),
            _Packed(self.dur_ns.unpacked()[at]),
            _Packed(self.correlation.unpacked()[at]),
            self.span,
        )


class Store:
    """Gathers blocks."""

    def __init__(self, path: Path, keeps_op: Callable[[str], bool] | None = None) -> None:
        self.kinds = Kinds(path, keeps_op)
        self._path = path
        self._tables: tuple[list[_PackedBlock], ...] = tuple([] for _ in _TABLES)
        self._total_ns = [0.0] * len(_TABLES)
        self._autograd: list[Int64] = []
        self._left_out: Span | None = None

    def add(self, block: Block) -> None:
        kinds = self.kinds.columns
        table = _TABLE_OF[kinds.category[block.kind]]
        kept = kinds.kept[block.kind]
        for number, packed in enumerate(self._tables):
            inside = kept & (table == number)
            if inside.any():
                packed.append(self._pack(block, inside, number))
        if not kept.all():
            span = _span(block.start_ns[~kept], block.dur_ns[~kept])
            self._left_out = span if self._left_out is None else self._left_out | span
        self._add_autograd(block)

    def _pack(self, block: Block, inside: Bool, table: int) -> _PackedBlock:
        at = np.flatnonzero(inside)
        start_ns, dur_ns = block.start_ns[at], block.dur_ns[at]
        self._total_ns[table] += float(dur_ns.sum(dtype=np.float64))
        return _PackedBlock(
            _Packed(block.kind[at]),
            _Packed(start_ns),
            _Packed(dur_ns),
            _Packed(block.correlation[at]),
            _span(start_ns, dur_ns),
        )

    def _add_autograd(self, block: Block) -> None:
        at = block.numbered
        if not len(at):
            return
        start_ns = block.start_ns[at]
        columns = (
            block.kind[at], start_ns, start_ns + block.dur_ns[at], block.sequence,
            block.forward_thread,
        )  # fmt: skip
        self._autograd.append(np.stack(columns))

    def messages(self) -> Iterator[object]:
        """All that was gathered, in pieces that can be sent to another process."""
        kinds = self.kinds
        yield kinds.keys(), kinds.unread, self._total_ns, self._autograd, self._left_out
        for number, packed in enumerate(self._tables):
            for block in packed:
                yield number, block

    def receive(self, messages: Iterator[Any]) -> None:
        """Adds what the store of another process gathered from the same file."""
        keys, unread, total_ns, autograd, left_out = next(messages)
        numbers = self.kinds.numbers(keys)
        for category, count in unread:
            self.kinds.count_unread(category, count)
        self._total_ns = [a + b for a, b in zip(self._total_ns, total_ns, strict=True)]
        self._left_out = around((self._left_out, left_out))
        for columns in autograd:
            columns[0] = numbers[columns[0]]
            self._autograd.append(columns)
        for table, block in messages:
            kind = _Packed(numbers[block.kind.unpacked()])
            self._tables[table].append(replace(block, kind=kind))

    def recording(self, info: TraceInfo) -> Recording:
        """What was gathered.

        Raises:
            DamagedTraceError: sums of the durations would not fit.
        """
        if max(self._total_ns) > _INT64_MAX // 2:
            raise damaged(self._path, "has durations that add up to more than a century")
        return Recording(info, self.kinds, self._tables, self._autograd, self._left_out)


class Recording:
    """All events of a file, held small; any stretch of its time as a `Trace`."""

    def __init__(
        self,
        info: TraceInfo,
        kinds: Kinds,
        tables: tuple[list[_PackedBlock], ...],
        autograd: list[Int64],
        left_out: Span | None,
    ) -> None:
        self.info = info
        self.left_out = left_out
        self._names, self._tracks = kinds.names(), kinds.tracks()
        self._kinds = kinds.sorted_columns()
        self._tables = tables
        self._autograd = autograd

    def trace(self) -> Trace:
        """The columns, by start; the order of the file leaves no trace in them."""
        return self._trace(self._tables, _ALWAYS, self._autograd_ops())

    def between(self, begin_ns: int, end_ns: int) -> Trace:
        """The events that started from `begin_ns` up to, and without, `end_ns`; no autograd's."""
        return self._trace(self._tables, Span(begin_ns, end_ns - 1), no_autograd_ops())

    def host(self, wanted: Callable[[str], bool]) -> Trace:
        """Those host events alone whose name is wanted."""
        host, *others = self._tables
        is_wanted = which(self._names, wanted)[self._kinds.name]
        found = [taken for block in host if (taken := block.take(is_wanted)) is not None]
        return self._trace((found, *([] for _ in others)), _ALWAYS, no_autograd_ops())

    def __len__(self) -> int:
        """How many host events, launches and device events there are."""
        return sum(len(block.kind) for table in self._tables[:3] for block in table)

    def has(self, category: Category) -> bool:
        """Whether there is an event of this category."""
        return bool((self._kinds.category == category).any())

    @property
    def has_autograd(self) -> bool:
        """Whether autograd numbered or evaluated any of the operators."""
        return bool(self._autograd)

    @property
    def span(self) -> Span | None:
        """As `Trace.span`."""
        spans = [block.span for table in self._tables[:3] for block in table]
        return around((self.left_out, *spans))

    def is_quiet(self, times_ns: Int64) -> Bool:
        """At which times, in order, no range, launch or device event is under way."""
        changes = np.zeros(len(times_ns) + 1, np.int64)
        for block in (block for table in self._tables[:3] for block in table):
            _, start_ns, dur_ns, _ = block.unpacked()
            first = np.searchsorted(times_ns, start_ns, side="right")
            last = np.searchsorted(times_ns, start_ns + dur_ns, side="left")
            over = last > first
            np.add.at(changes, first[over], 1)
            np.subtract.at(changes, last[over], 1)
        quiet: Bool = np.cumsum(changes)[:-1] == 0
        return quiet

    def _trace(
        self, tables: tuple[list[_PackedBlock], ...], span: Span, autograd: AutogradOps
    ) -> Trace:
        host, launches, device, annotations = (self._events(table, span) for table in tables)
        return Trace(
            info=self.info,
            names=self._names,
            tracks=self._tracks,
            host=host,
            launches=launches,
            device=device,
            gpu_annotations=annotations,
            autograd=autograd,
            left_out=self.left_out,
        )

    def _events(self, blocks: list[_PackedBlock], span: Span) -> Events:
        parts = []
        for block in blocks:
            if block.span.last_ns < span.first_ns or block.span.first_ns > span.last_ns:
                continue
            part = np.stack(block.unpacked())
            start_ns = part[1]
            if start_ns.min() < span.first_ns or start_ns.max() > span.last_ns:
                part = part[:, (start_ns >= span.first_ns) & (start_ns <= span.last_ns)]
            parts.append(part)
        none = np.empty((4, 0), np.int64)
        kind, start_ns, dur_ns, correlation = np.concatenate((none, *parts), axis=1)
        kinds = self._kinds
        events = Events(
            category=kinds.category[kind],
            name=kinds.name[kind],
            track=kinds.track[kind],
            start_ns=start_ns,
            dur_ns=dur_ns,
            correlation=correlation,
        )
        if (start_ns[1:] < start_ns[:-1]).any():
            events = events.take(np.argsort(start_ns, kind="stable"))
        return _settle_ties(events)

    def _autograd_ops(self) -> AutogradOps:
        kind, start_ns, end_ns, sequence, thread = (
            np.concatenate(self._autograd, axis=1) if self._autograd else np.empty((5, 0), np.int64)
        )
        name, track = self._kinds.name[kind], self._kinds.track[kind]
        # Of those that start together the longer one is outside.
        order = np.lexsort((thread, sequence, name, track, -end_ns, start_ns))
        return AutogradOps(name, track, start_ns, end_ns, sequence, thread).take(order)


_ALWAYS = Span(-_INT64_MAX, _INT64_MAX)


def _span(start_ns: Int64, dur_ns: Int64) -> Span:
    return Span(int(start_ns.min()), int((start_ns + dur_ns).max()))


def _settle_ties(events: Events) -> Events:
    """Events in order of their start, those of one start in an order that no file decides."""
    same = np.diff(events.start_ns) == 0
    if not same.any():
        return events
    tied = np.zeros(len(events), bool)
    tied[1:] |= same
    tied[:-1] |= same
    at = np.flatnonzero(tied)
    few = events.take(at)
    keys = (few.correlation, few.name, few.dur_ns, few.track, few.category, few.start_ns)
    order = np.arange(len(events))
    order[at] = at[np.lexsort(keys)]
    return events.take(order)
