"""Events of any JSON as a block of columns: slow, and right about every oddity."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path

import numpy as np

from qwen3_profile.errors import DamagedTraceError
from qwen3_profile.trace.columns import NO_CORRELATION, Category
from qwen3_profile.trace.event_args import (
    OddArgs,
    is_on_device,
    read_correlation,
    read_launch_config,
    read_sequence,
)
from qwen3_profile.trace.event_keys import (
    EITHER_SIDE,
    LINKED,
    NODE_PREFIX,
    EventKeys,
    is_needed,
)
from qwen3_profile.trace.json_events import Event, damaged, shown
from qwen3_profile.trace.messages import CALL
from qwen3_profile.trace.packing import Block
from qwen3_profile.trace.said_twice import (
    NOTED,
    SYNCHRONISATIONS,
    WINDOW,
    Noted,
    copy_ns,
    place_in,
)

_INT64_MAX = 2**63 - 1
# Arithmetic with many digits takes the square of their number.
_LONGEST_NUMBER = 1000
_ENDS = {"s": 0, "f": 1}


def read_events(events: Iterable[Event], keys: EventKeys, path: Path) -> Block:
    """The events that are read, in their order.

    Raises:
        DamagedTraceError: one of them lacks what it needs, and that is not accepted.
    """
    rows: list[tuple[int, int, int, int]] = []
    autograd: list[tuple[int, int, int]] = []
    configs: list[int] = []
    last = (-1, -1, -1)
    for event in events:
        if event.cat in EITHER_SIDE and is_on_device(bytes(event.args), bytes(event.pid)):
            event.cat = "kernel"
        try:
            category = keys.category(event)
            if category is None:
                if event.cat in NOTED:
                    last = _note(event, keys, path, last)
                if keys.is_unread(event):
                    keys.count_unread(event.cat)
                continue
            start_ns, dur_ns = _time_ns(path, event, "ts"), _duration_ns(path, event)
            correlation = _correlation(path, event) if category in LINKED else NO_CORRELATION
            ids = _sequence(path, event) if category is Category.CPU_OP else None
            key = keys.number(event, category)
        except DamagedTraceError as error:
            _leave_out(event, keys, error)
            continue
        if ids is not None:
            autograd.append((len(rows), *ids))
        if category is Category.CPU_OP and event.name == CALL:
            keys.noted.note_call(keys.track_of(key), start_ns, dur_ns, bytes(event.args))
        if keys.launch_columns:
            known = correlation != NO_CORRELATION
            configs.append(keys.launch_number(read_launch_config(event.args)) if known else 0)
        rows.append((key, start_ns, dur_ns, correlation))
        if category in LINKED:
            last = (correlation, start_ns, keys.track_of(key))
            if category >= Category.KERNEL:
                note_args(keys.noted, bytes(event.args), key, start_ns, dur_ns, category)
            if category is Category.KERNEL:
                keys.noted.note_message(key, correlation, bytes(event.args))
    key_of, start, dur, links = np.array(rows, np.int64).reshape(-1, 4).T
    launch_config = np.array(configs, np.int64) if keys.launch_columns else None
    at, sequence, thread = np.array(autograd, np.int64).reshape(-1, 3).T
    return Block(key_of, start, dur, links, at, sequence, thread, launch_config)


def _leave_out(event: Event, keys: EventKeys, error: DamagedTraceError) -> None:
    """Counts an event that cannot be used.

    Raises:
        DamagedTraceError: it is needed, and that is not accepted.
    """
    if is_needed(event.cat):
        keys.losses.lose(error)
    else:
        keys.losses.pass_over(error.what)


def _note(
    event: Event, keys: EventKeys, path: Path, last: tuple[int, int, int]
) -> tuple[int, int, int]:
    """Notes an arrow, a synchronisation, or when the profiler recorded.

    What cannot be read says nothing.

    Args:
        last: id, start and track of the event in front.

    Returns:
        The same for the event behind.
    """
    try:
        # An arrow of an impossible time is an arrow all the same.
        start_ns = max(min(nanoseconds(bytes(event.ts)), _INT64_MAX // 2), -_INT64_MAX // 2)
        if event.cat == WINDOW:
            keys.noted.windows.append((start_ns, start_ns + _duration_ns(path, event)))
        elif event.cat in SYNCHRONISATIONS:
            last = (_correlation(path, event), start_ns, keys.track_number(event))
            keys.noted.waits.append((0, *last))
        elif event.ph in _ENDS:
            found = (int(bytes(event.id)), start_ns, keys.track_number(event))
            if found != last and abs(found[0]) <= _INT64_MAX:
                keys.noted.arrows.append((_ENDS[event.ph], *found))
    except (DamagedTraceError, ValueError, ArithmeticError):
        pass
    return last


def note_args(noted: Noted, args: bytes, key: int, start_ns: int, dur_ns: int, kind: int) -> None:
    """Notes what the args of a device event repeat."""
    place = place_in(args)
    if place is not None:
        noted.places[(key, *place)] += 1
    if kind != Category.KERNEL:
        wanted_ns = copy_ns(args)
        if wanted_ns is not None:
            noted.copies.append((key, start_ns, dur_ns, wanted_ns))


def nanoseconds(text: bytes) -> int:
    """Microseconds as JSON writes them, in exact integer nanoseconds.

    Digits beyond the third decimal are rounded, half to even.

    Raises:
        ValueError, ArithmeticError: `text` is not a finite number, or beyond all reason.
    """
    if len(text) > _LONGEST_NUMBER:
        raise ValueError
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
        raise damaged(path, f'event {event.name!r} has {shown(text)} as its "{key}"') from None
    if abs(time_ns) > _INT64_MAX // 2:
        raise damaged(path, f'event {event.name!r} has an impossible "{key}"')
    return time_ns


def _duration_ns(path: Path, event: Event) -> int:
    dur_ns = _time_ns(path, event, "dur")
    if dur_ns < 0:
        raise damaged(path, f"event {event.name!r} has a negative duration")
    return dur_ns


def _correlation(path: Path, event: Event) -> int:
    try:
        return read_correlation(bytes(event.args))
    except OddArgs as error:
        raise damaged(path, f"event {event.name!r} has odd args: {error}") from error


def _sequence(path: Path, event: Event) -> tuple[int, int] | None:
    is_node = event.name is not None and event.name.startswith(NODE_PREFIX)
    try:
        return read_sequence(bytes(event.args), is_node=is_node)
    except OddArgs as error:
        raise damaged(path, f"event {event.name!r} has odd args: {error}") from error
