"""The packed blocks of a file in, the columns of the whole trace or of a stretch of it out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

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
from qwen3_profile.trace.compact import PackedBlock
from qwen3_profile.trace.event_kinds import Kinds

_INT64_MAX = 2**63 - 1


class Recording:
    """All events of a file, held small; any stretch of its time as a `Trace`."""

    def __init__(
        self,
        info: TraceInfo,
        kinds: Kinds,
        tables: tuple[list[PackedBlock], ...],
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
        self, tables: tuple[list[PackedBlock], ...], span: Span, autograd: AutogradOps
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
