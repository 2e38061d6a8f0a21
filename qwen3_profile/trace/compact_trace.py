"""All events of a file held compactly: added by blocks, given as a trace or a stretch of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from qwen3_profile.trace.columns import (
    LONG_OP_NS,
    NO_CORRELATION,
    AutogradOps,
    Bool,
    Category,
    Events,
    Int64,
    SaidTwice,
    Span,
    Trace,
    TraceInfo,
    Track,
    around,
    no_autograd_ops,
    occurring,
    which,
)
from qwen3_profile.trace.doubled import leave_out_doubled
from qwen3_profile.trace.event_keys import EventKeys, KeyColumns
from qwen3_profile.trace.json_events import damaged
from qwen3_profile.trace.messages import Message, MessageCall
from qwen3_profile.trace.packing import Block, Packed, PackedBlock, pack, span_of
from qwen3_profile.trace.said_twice import as_columns

_INT64_MAX = 2**63 - 1
_HOST = (Category.CPU_OP, Category.USER_ANNOTATION, Category.PYTHON_FUNCTION)
_LAUNCH = (Category.RUNTIME, Category.DRIVER)
_DEVICE = (Category.KERNEL, Category.GPU_MEMCPY, Category.GPU_MEMSET)
_TABLES = (_HOST, _LAUNCH, _DEVICE, (Category.GPU_USER_ANNOTATION,))
_TABLE_OF = np.array(
    [next(i for i, table in enumerate(_TABLES) if each in table) for each in Category], np.int8
)


class ColumnBuilder:
    """Gathers the events of a file, block by block.

    Args:
        path: names the file in errors.
        keeps_op: which operators are kept, by name, besides long ones; None for all of them.
        launch_columns: whether launches and device events are to say how they were launched.
    """

    def __init__(
        self,
        path: Path,
        keeps_op: Callable[[str], bool] | None = None,
        *,
        launch_columns: bool = False,
    ) -> None:
        self.keys = EventKeys(path, keeps_op, launch_columns=launch_columns)
        self._path = path
        self._tables: tuple[list[PackedBlock], ...] = tuple([] for _ in _TABLES)
        self._total_ns = [0.0] * len(_TABLES)
        self._autograd: list[Int64] = []
        self._left_out: Span | None = None

    def add(self, block: Block) -> None:
        if not block.correlation.all():
            # The runtimes count from 1: RCCL's kernels, for one, are written with 0 for no id.
            correlation = np.where(block.correlation == 0, NO_CORRELATION, block.correlation)
            block = replace(block, correlation=correlation)
        keys = self.keys.columns
        table = _TABLE_OF[keys.category[block.key]]
        kept = keys.kept[block.key] | (block.dur_ns >= LONG_OP_NS)
        for number, packed in enumerate(self._tables):
            inside = kept & (table == number)
            if inside.any():
                at = np.flatnonzero(inside)
                self._total_ns[number] += float(block.dur_ns[at].sum(dtype=np.float64))
                packed.append(pack(block, at))
        if not kept.all():
            span = span_of(block.start_ns[~kept], block.dur_ns[~kept])
            self._left_out = span if self._left_out is None else self._left_out | span
        self._add_autograd(block)

    def _add_autograd(self, block: Block) -> None:
        at = block.numbered
        if not len(at):
            return
        start_ns = block.start_ns[at]
        columns = (
            block.key[at], start_ns, start_ns + block.dur_ns[at], block.sequence,
            block.forward_thread,
        )  # fmt: skip
        self._autograd.append(np.stack(columns))

    def messages(self) -> Iterator[object]:
        """All that was gathered, in parts that can be sent to another process."""
        keys = self.keys
        yield (
            keys.keys(), keys.launch_configs, keys.unread,
            self._total_ns, self._autograd, self._left_out, keys.track_texts(), keys.noted,
        )  # fmt: skip
        for number, packed in enumerate(self._tables):
            for block in packed:
                yield number, block

    def receive(self, messages: Iterator[Any]) -> None:
        """Adds what another process gathered from the same file."""
        keys, configs, unread, total_ns, autograd, left_out, tracks, noted = next(messages)
        numbers = (self.keys.numbers(keys), self.keys.launch_numbers(configs))
        for category, count in unread:
            self.keys.count_unread(category, count)
        self._total_ns = [a + b for a, b in zip(self._total_ns, total_ns, strict=True)]
        self._left_out = around((self._left_out, left_out))
        self.keys.noted.receive(noted, numbers[0], self.keys.track_numbers(tracks))
        for columns in autograd:
            columns[0] = numbers[0][columns[0]]
            self._autograd.append(columns)
        for table, block in messages:
            key, *others = block.columns
            # Behind start, duration and correlation, where it is.
            others[3:] = [Packed(numbers[1][column.unpacked()]) for column in others[3:]]
            key = Packed(numbers[0][key.unpacked()])
            self._tables[table].append(replace(block, columns=(key, *others)))
        for packed in self._tables:
            packed.sort(key=lambda block: block.span.first_ns)

    def compact_trace(self, info: TraceInfo) -> CompactTrace:
        """What was gathered.

        Raises:
            DamagedTraceError: sums of the durations would not fit.
        """
        if max(self._total_ns) > _INT64_MAX // 2:
            raise damaged(self._path, "has durations that add up to more than a century")
        return CompactTrace(info, self.keys, self._tables, self._autograd, self._left_out)


class CompactTrace:
    """All events of a file, held small; any stretch of its time as a `Trace`."""

    def __init__(
        self,
        info: TraceInfo,
        keys: EventKeys,
        tables: tuple[list[PackedBlock], ...],
        autograd: list[Int64],
        left_out: Span | None,
    ) -> None:
        self.info = info
        self.left_out = left_out
        self.names, self._tracks = keys.names(), keys.tracks()
        self._launch_configs = keys.launch_configs
        self._keys = keys.sorted_columns()
        self._said = _said_twice(keys, self._keys)
        self._messages = _messages(keys, self._keys)
        self._message_calls = _message_calls(keys)
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
        is_wanted = which(self.names, wanted)[self._keys.name]
        found = [taken for block in host if (taken := block.take(is_wanted)) is not None]
        return self._trace((found, *([] for _ in others)), _ALWAYS, no_autograd_ops())

    def __len__(self) -> int:
        """How many host events, launches and device events there are."""
        return sum(len(block) for table in self._tables[:3] for block in table)

    @property
    def is_empty(self) -> bool:
        """Whether nothing was read at all, not even what was left out then."""
        return not len(self) and self.left_out is None and not self._tables[3]

    def has(self, category: Category) -> bool:
        """Whether there is an event of this category."""
        return bool((self._keys.category == category).any())

    @property
    def host_tracks(self) -> list[Track]:
        """Where host events and launches lie, also those that were left out."""
        category = self._keys.category
        numbers = self._keys.track[category < Category.KERNEL]
        return [self._tracks[number] for number in occurring(numbers).tolist()]

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
            _, start_ns, dur_ns, *_ = block.unpacked()
            first = np.searchsorted(times_ns, start_ns, side="right")
            last = np.searchsorted(times_ns, start_ns + dur_ns, side="left")
            over = last > first
            np.add.at(changes, first[over], 1)
            np.subtract.at(changes, last[over], 1)
        quiet: Bool = np.cumsum(changes)[:-1] == 0
        return quiet

    def _trace(
        self, tables: tuple[list[PackedBlock], ...], span: Span, autograd: AutogradOps
    ) -> Trace:
        found = [self._events(table, span) for table in tables]
        (host, launches, device), doubled = leave_out_doubled(found[:3])
        return Trace(
            info=self.info,
            names=self.names,
            tracks=self._tracks,
            host=host,
            launches=launches,
            device=device,
            gpu_annotations=found[3],
            autograd=autograd,
            left_out=self.left_out,
            launch_configs=self._launch_configs,
            said=self._said.between(span),
            doubled=doubled,
            messages=self._messages,
            message_calls=self._message_calls,
        )

    def _events(self, blocks: list[PackedBlock], span: Span) -> Events:
        parts = []
        for block in blocks:
            if block.span.last_ns < span.first_ns or block.span.first_ns > span.last_ns:
                continue
            part = np.stack(block.unpacked())
            start_ns = part[1]
            if start_ns.min() < span.first_ns or start_ns.max() > span.last_ns:
                part = part[:, (start_ns >= span.first_ns) & (start_ns <= span.last_ns)]
            parts.append(part)
        none = np.empty((5 if self._launch_configs else 4, 0), np.int64)
        key, start_ns, dur_ns, correlation, *config = np.concatenate((none, *parts), axis=1)
        keys = self._keys
        events = Events(
            category=keys.category[key],
            name=keys.name[key],
            track=keys.track[key],
            start_ns=start_ns,
            dur_ns=dur_ns,
            correlation=correlation,
            launch_config=config[0].astype(np.int32) if config else None,
        )
        if (start_ns[1:] < start_ns[:-1]).any():
            events = events.take(np.argsort(start_ns, kind="stable"))
        return _settle_ties(events)

    def _autograd_ops(self) -> AutogradOps:
        key, start_ns, end_ns, sequence, thread = (
            np.concatenate(self._autograd, axis=1) if self._autograd else np.empty((5, 0), np.int64)
        )
        name, track = self._keys.name[key], self._keys.track[key]
        # Of those that start together the longer one is outside.
        order = np.lexsort((thread, sequence, name, track, -end_ns, start_ns))
        return AutogradOps(name, track, start_ns, end_ns, sequence, thread).take(order)


def _said_twice(keys: EventKeys, columns: KeyColumns) -> SaidTwice:
    """What was noted, with the numbers of names and tracks of a trace."""
    noted, tracks = keys.noted, keys.sorted_tracks()
    arrows, waits = as_columns(noted.arrows, 4), as_columns(noted.waits, 4)
    arrows[3], waits[3] = tracks[arrows[3]], tracks[waits[3]]
    copies = as_columns(noted.copies, 4)
    copies[0] = columns.name[copies[0]]
    places = as_columns([(key, *rest, count) for (key, *rest), count in noted.places.items()], 4)
    key, *rest = places
    places = np.stack((columns.name[key], columns.track[key], *rest))
    window = around(Span(begin, end) for begin, end in noted.windows)
    return SaidTwice(arrows, waits, places, copies, window)


def _messages(keys: EventKeys, columns: KeyColumns) -> dict[tuple[int, int, int], Message]:
    """What collectives carry, with the numbers of names and tracks of a trace."""
    return {
        (int(columns.name[key]), int(columns.track[key]), link): message
        for (key, link), message in keys.noted.messages.items()
        if link != NO_CORRELATION
    }


def _message_calls(keys: EventKeys) -> dict[int, tuple[MessageCall, ...]]:
    """The calls of collectives by their track, by start."""
    tracks = keys.sorted_tracks()
    found: dict[int, list[MessageCall]] = {}
    for track, start_ns, dur_ns, message in keys.noted.calls:
        call = MessageCall(start_ns, start_ns + dur_ns, message)
        found.setdefault(int(tracks[track]), []).append(call)
    return {track: tuple(sorted(calls, key=_in_order)) for track, calls in found.items()}


def _in_order(call: MessageCall) -> tuple[int, int, str]:
    return call.start_ns, -call.end_ns, repr(call.message)


_ALWAYS = Span(-_INT64_MAX, _INT64_MAX)


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
