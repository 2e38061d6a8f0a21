"""Events of any JSON in, one block of columns out: slow, and right about every oddity."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np

from qwen3_profile.trace.columns import NO_CORRELATION, NO_SEQUENCE, Category
from qwen3_profile.trace.compact import Block
from qwen3_profile.trace.event_kinds import LINKED, NODE_PREFIX, Kinds
from qwen3_profile.trace.json_events import Event, damaged

_INT64_MAX = 2**63 - 1
SEQUENCE_KEY = '"Sequence number"'

OddArgs = (msgspec.DecodeError, UnicodeDecodeError)


class LinkArgs(msgspec.Struct, gc=False):
    """What the args of a launch or a device event say."""

    correlation: Annotated[int, msgspec.Meta(ge=-(2**63), le=_INT64_MAX)] | None = None


class _OpArgs(msgspec.Struct, gc=False):
    sequence: int = msgspec.field(name="Sequence number", default=NO_SEQUENCE)
    forward_thread: int = msgspec.field(name="Fwd thread id", default=0)


_link_args = msgspec.json.Decoder(LinkArgs).decode
_op_args = msgspec.json.Decoder(_OpArgs).decode


def read_events(events: Iterable[Event], kinds: Kinds, path: Path) -> Block:
    """The events that are read, in their order.

    Raises:
        DamagedTraceError: one of them lacks what it needs.
    """
    rows: list[tuple[int, int, int, int]] = []
    autograd: list[tuple[int, int, int]] = []
    for event in events:
        category = kinds.category(event)
        if category is None:
            if kinds.is_unread(event):
                kinds.count_unread(event.cat)
            continue
        start_ns, dur_ns = _time_ns(path, event, "ts"), _duration_ns(path, event)
        correlation = _correlation(path, event) if category in LINKED else NO_CORRELATION
        if category is Category.CPU_OP:
            ids = _sequence(path, event)
            if ids is not None:
                autograd.append((len(rows), *ids))
        rows.append((kinds.number(event, category), start_ns, dur_ns, correlation))
    columns = np.array(rows, np.int64).reshape(-1, 4).T
    return Block(*columns, *np.array(autograd, np.int64).reshape(-1, 3).T)


def read_sequence(args: bytes, *, is_node: bool) -> tuple[int, int] | None:
    """Sequence number and forward thread of what autograd numbered or evaluated, else None.

    Raises:
        OddArgs: the args of the operator are no such JSON.
    """
    none = (NO_SEQUENCE, 0) if is_node else None
    if SEQUENCE_KEY.encode() not in args:
        return none
    found = _op_args(args)
    known = 0 <= found.sequence <= _INT64_MAX and 0 <= found.forward_thread <= _INT64_MAX
    return (found.sequence, found.forward_thread) if known else none


def nanoseconds(text: bytes) -> int:
    """Microseconds as JSON writes them, in exact integer nanoseconds.

    Digits beyond the third decimal are rounded, half to even.

    Raises:
        ValueError, ArithmeticError: `text` is not a finite number, or beyond all reason.
    """
    whole, _, decimals = text.partition(b".")
    if len(decimals) <= 3 and decimals.isdigit() and whole.isdigit():
        return int(whole) * 1000 + int(decimals.ljust(3, b"0"))
    if not decimals and whole.isdigit():
        return int(whole) * 1000
    exact = Decimal(text.decode("ascii")) * 1000
    return int(exact.to_integral_value())


def _time_ns(path: Path, event: Event, key: str) -> int:
    text = bytes(event.ts if key == "ts" else event.dur)
    try:
        time_ns = nanoseconds(text)
    except (ValueError, ArithmeticError):
        shown = text.decode(errors="replace") or "nothing"
        raise damaged(path, f'event {event.name!r} has {shown} as its "{key}"') from None
    if abs(time_ns) > _INT64_MAX // 2:
        raise damaged(path, f'event {event.name!r} has an impossible "{key}"')
    return time_ns


def _duration_ns(path: Path, event: Event) -> int:
    dur_ns = _time_ns(path, event, "dur")
    if dur_ns < 0:
        raise damaged(path, f"event {event.name!r} has a negative duration")
    return dur_ns


def _correlation(path: Path, event: Event) -> int:
    if not bytes(event.args):
        return NO_CORRELATION
    try:
        correlation = _link_args(event.args).correlation
    except OddArgs as error:
        raise damaged(path, f"event {event.name!r} has odd args: {error}") from error
    return NO_CORRELATION if correlation is None else correlation


def _sequence(path: Path, event: Event) -> tuple[int, int] | None:
    is_node = event.name is not None and event.name.startswith(NODE_PREFIX)
    try:
        return read_sequence(bytes(event.args), is_node=is_node)
    except OddArgs as error:
        raise damaged(path, f"event {event.name!r} has odd args: {error}") from error
