"""Blocks of events in, in the order of the file; a recording of them all out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from qwen3_profile.trace.columns import Bool, Category, Int64, Span, TraceInfo, around
from qwen3_profile.trace.compact import Block, Packed, PackedBlock, span_of
from qwen3_profile.trace.event_kinds import Kinds
from qwen3_profile.trace.json_events import damaged
from qwen3_profile.trace.recording import Recording

_INT64_MAX = 2**63 - 1
_HOST = (Category.CPU_OP, Category.USER_ANNOTATION, Category.PYTHON_FUNCTION)
_LAUNCH = (Category.RUNTIME, Category.DRIVER)
_DEVICE = (Category.KERNEL, Category.GPU_MEMCPY, Category.GPU_MEMSET)
_TABLES = (_HOST, _LAUNCH, _DEVICE, (Category.GPU_USER_ANNOTATION,))
_TABLE_OF = np.array(
    [next(i for i, table in enumerate(_TABLES) if each in table) for each in Category], np.int8
)


class Store:
    """Gathers blocks."""

    def __init__(self, path: Path, keeps_op: Callable[[str], bool] | None = None) -> None:
        self.kinds = Kinds(path, keeps_op)
        self._path = path
        self._tables: tuple[list[PackedBlock], ...] = tuple([] for _ in _TABLES)
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
            span = span_of(block.start_ns[~kept], block.dur_ns[~kept])
            self._left_out = span if self._left_out is None else self._left_out | span
        self._add_autograd(block)

    def _pack(self, block: Block, inside: Bool, table: int) -> PackedBlock:
        at = np.flatnonzero(inside)
        start_ns, dur_ns = block.start_ns[at], block.dur_ns[at]
        self._total_ns[table] += float(dur_ns.sum(dtype=np.float64))
        return PackedBlock(
            Packed(block.kind[at]),
            Packed(start_ns),
            Packed(dur_ns),
            Packed(block.correlation[at]),
            span_of(start_ns, dur_ns),
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
            kind = Packed(numbers[block.kind.unpacked()])
            self._tables[table].append(replace(block, kind=kind))
        for packed in self._tables:
            packed.sort(key=lambda block: block.span.first_ns)

    def recording(self, info: TraceInfo) -> Recording:
        """What was gathered.

        Raises:
            DamagedTraceError: sums of the durations would not fit.
        """
        if max(self._total_ns) > _INT64_MAX // 2:
            raise damaged(self._path, "has durations that add up to more than a century")
        return Recording(info, self.kinds, self._tables, self._autograd, self._left_out)
