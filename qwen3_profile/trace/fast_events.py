"""Text in one of the two layouts that Kineto writes in, as a block of columns.

As torch 2.12 and later write an event, one field a line:

      {
        "ph": "X",
        "cat": "cuda_runtime",
        "name": "cudaLaunchKernel",
        "pid": 408,
        "tid": 408,
        "ts": 4587026371543.110,
        "dur": 9.731
        ,
        "args": {
          "External id": 916484,      "cbid": 211, "correlation": 916501
        }
      },

As older ones do, with the arrow from the launch to its kernel:

      {
        "ph": "X", "cat": "cuda_runtime", "name": "cudaLaunchKernel", "pid": 408, "tid": 408,
        "ts": 4587026371543.110, "dur": 9.731,
        "args": {
          "External id": 916484,      "cbid": 211, "correlation": 916501
        }
      },
      {
        "ph": "s", "id": 916501, "pid": 408, "tid": 408, "ts": 4587026371543.110,
        "cat": "ac2g", "name": "ac2g"
      },

All events of a chunk are looked at together, found by their braces (`fast_layout.py`); the text
from `"ph"` to `"tid"` tells the key of an event (`fast_heads.py`). What is read is checked to the
letter; of what is not read (the rest of args) only that it is JSON. An event that is
written otherwise is left to `slow_events.py`. So is a whole chunk where a brace might begin an
event that is not found, or an event that is found does not end where its brace closes.

`ts` and `dur` are microseconds with up to three decimals, counted from `baseTimeNanoseconds` (2024
on) or from the epoch (before). They are read as text: a float64 of an epoch time is a multiple of
0.25 us.
"""

from __future__ import annotations

import re
from functools import partial

import msgspec
import numpy as np

from qwen3_profile.errors import TraceError
from qwen3_profile.trace.columns import NO_CORRELATION, Category
from qwen3_profile.trace.event_args import SEQUENCE_KEY, OddArgs, read_launch_config, read_sequence
from qwen3_profile.trace.event_keys import EITHER_SIDE, PASSED_OVER, EventKeys
from qwen3_profile.trace.fast_digits import Bool, Chunk, Int64, Words, read_integers
from qwen3_profile.trace.fast_heads import EventHeads
from qwen3_profile.trace.fast_layout import (
    CLOSED,
    OPEN,
    Found,
    Spans,
    UnknownLayoutError,
    find_events,
    find_spans,
)
from qwen3_profile.trace.fast_said import note_device, note_messages, odd_arrows
from qwen3_profile.trace.json_events import NOT_JSON, Event, decode_event, decode_events
from qwen3_profile.trace.packing import Block
from qwen3_profile.trace.said_twice import NOTED
from qwen3_profile.trace.text import Text

# What stands where a key would, in the place of an event that `slow_events.py` must look at.
_ODD = -2
_BEHIND_HEAD = b',\n    "ts": '
_CORRELATION = re.compile(rb'"correlation": (\d{1,16})(?=[,\n])')
_MOST_ROUNDS = 200

_pass_over = msgspec.json.Decoder(msgspec.Raw).decode


class KinetoText:
    """Reads chunks of one file, and learns its keys of events from them.

    count: how many events the last chunk had.
    """

    def __init__(self, keys: EventKeys) -> None:
        self._keys = keys
        # No method of this object, which would then be freed only with a search for garbage.
        self._heads = EventHeads(partial(_decode_head, keys))
        self.count = 0

    def read(self, text: Text, cut: int) -> tuple[Block, list[Event]] | None:
        """The events of `text` up to `cut`, which is behind one; None if that cannot be.

        Returns:
            The events that are as they should be, and those that `slow_events.py` must look at.
        """
        data, begin = text.data, text.data.find(OPEN, text.begin, cut)
        if begin < 0 or data[text.begin : begin].strip() or not data.endswith(CLOSED, 0, cut):
            return None
        chunk = Chunk(data, Words(data), begin, cut)
        if not _is_json(data, begin, cut):
            return None
        try:
            found = find_events(chunk)
            self.count = len(found.begin)
            block, odd = self._read(chunk, found)
            return block, _decode_odd(chunk, found, odd)
        except UnknownLayoutError:
            return None

    def _read(self, chunk: Chunk, found: Found) -> tuple[Block, Int64]:
        """The events that are as they should be; and which ones are not."""
        odd = [found.odd]
        spans = find_spans(chunk, found)
        if len(spans.event) < len(found.complete):
            odd.append(np.setdiff1d(found.complete, spans.event, assume_unique=True))
        key = self._heads.keys(chunk, spans.head, spans.ts)
        odd.append(spans.event[key == _ODD])
        key, spans = key[key >= 0], spans.take(key >= 0)
        columns = self._keys.columns
        correlation, id_at, good = _correlations(chunk, spans, columns.linked[key])
        if not good.all():
            odd.append(spans.event[~good])
            key, spans, correlation = key[good], spans.take(good), correlation[good]
            id_at = id_at[good]
        odd.append(odd_arrows(chunk, found, spans, correlation, id_at))
        note_device(chunk, spans, key, columns, id_at, self._keys.noted)
        note_messages(chunk, spans, key, columns, correlation, self._keys.noted)
        is_op = columns.category[key] == Category.CPU_OP
        numbered = _numbered(chunk, spans, is_op, columns.is_node[key])
        config = self._launch_configs(chunk, spans, correlation)
        block = Block(
            key, spans.start_ns, spans.dur_ns, correlation, *numbered, launch_config=config
        )
        return block, np.sort(np.concatenate(odd))

    def _launch_configs(self, chunk: Chunk, spans: Spans, correlation: Int64) -> Int64 | None:
        """How each event was launched, where that is asked for."""
        if not self._keys.launch_columns:
            return None
        at = np.flatnonzero(correlation != NO_CORRELATION)
        found = np.zeros(len(correlation), np.int64)
        found[at] = [
            self._keys.launch_number(read_launch_config(b"{" + args + b"}"))
            for args in chunk.cut(spans.args[at], spans.args_end[at])
        ]
        return found


def _decode_head(keys: EventKeys, head: bytes) -> int:
    if not head.endswith(_BEHIND_HEAD):
        return _ODD
    try:
        event = decode_event(b"{" + head.removesuffix(_BEHIND_HEAD) + b"}")
        category = keys.category(event)
        # What else the head may hold is no head of Kineto's.
        more = bytes(event.ts) or bytes(event.dur) or bytes(event.args)
        if more or keys.is_unread(event) or event.cat in EITHER_SIDE:
            return _ODD
        if event.cat in NOTED:
            return _ODD
        return PASSED_OVER if category is None else keys.number(event, category)
    except (*NOT_JSON, TraceError):
        return _ODD


def _is_json(data: bytearray, begin: int, cut: int) -> bool:
    """Whether the text, between brackets in place of what surrounds it, is a list in JSON.

    What is not read is looked at here alone: bytes that are lost there are lost elsewhere, too.
    """
    # To pass over a string says nothing of its encoding.
    is_ascii = np.frombuffer(data, np.int8)[begin:cut].min(initial=0) >= 0
    check = _pass_over if is_ascii else decode_events
    before, comma = data[begin - 1], data[cut - 2]
    data[begin - 1], data[cut - 2] = b"[]"
    try:
        check(memoryview(data)[begin - 1 : cut - 1])
    except NOT_JSON:
        return False
    finally:
        data[begin - 1], data[cut - 2] = before, comma
    return True


def _decode_odd(chunk: Chunk, found: Found, odd: Int64) -> list[Event]:
    """The events at `odd`, each decoded as JSON."""
    texts = chunk.cut(found.begin[odd], found.end[odd] - len(",\n"))
    try:
        return [decode_event(text) for text in texts]
    except NOT_JSON:
        raise UnknownLayoutError from None


def _correlations(chunk: Chunk, spans: Spans, linked: Bool) -> tuple[Int64, Int64, Bool]:
    """The ids in lines of args and where these stand; and which events have one, or surely none.

    Most stand as far from their line's start as that of another event.
    """
    found = np.full(len(linked), NO_CORRELATION, np.int64)
    place = np.zeros(len(linked), np.int64)
    left = np.flatnonzero(linked)
    good = ~linked
    for _ in range(_MOST_ROUNDS):
        if not len(left):
            break
        start, end = spans.args[left], spans.args_end[left]
        line = bytes(chunk.data[int(start[0]) : int(end[0]) + 1])
        match = _CORRELATION.search(line)
        if match is None:
            good[left[0]] = b'"correlation"' not in line
            left = left[1:]
            continue
        begin, stop = start + match.start(1), start + match.end(1)
        value, fits = read_integers(chunk.words, begin, stop)
        fits &= chunk.words.are(start + match.start(), '"correlation": ') & (stop <= end)
        behind = chunk.words.at(stop)[0] & _BYTE
        fits &= (behind == _COMMA) | (behind == _NEWLINE)
        found[left[fits]] = value[fits]
        place[left[fits]] = begin[fits]
        good[left[fits]] = True
        fits[0] = True
        left = left[~fits]
    if linked.any():
        good &= ~_are_twice(chunk, spans, linked)
    return found, place, good


def _are_twice(chunk: Chunk, spans: Spans, linked: Bool) -> Bool:
    """Which of the linked events have args in which the key may stand more than once."""
    twice = np.zeros(len(linked), bool)
    mine = np.flatnonzero(linked)
    begin, end = int(spans.args[mine[0]]), int(spans.args_end[mine[-1]])
    # A key may be written with escapes.
    if chunk.data.find(b"\\", begin, end) >= 0:
        twice[mine] = _count_inside(_ESCAPE, chunk, spans, mine) > 0
    if chunk.data.count(b'"correlation"', begin, end) > len(mine):
        twice[mine] |= _count_inside(_KEY, chunk, spans, mine) > 1
    return twice


def _count_inside(pattern: re.Pattern[bytes], chunk: Chunk, spans: Spans, events: Int64) -> Int64:
    """How often something stands in the args of each of some events."""
    found = pattern.finditer(chunk.data, chunk.begin, chunk.end)
    places = np.array([match.start() for match in found], np.int64)
    last = np.searchsorted(places, spans.args_end[events])
    return last - np.searchsorted(places, spans.args[events])


_KEY, _ESCAPE = re.compile(rb'"correlation"'), re.compile(rb"\\")
_BYTE = np.uint64(0xFF)
_COMMA, _NEWLINE = np.uint64(ord(",")), np.uint64(ord("\n"))


def _has(chunk: Chunk, key: str) -> bool:
    """Whether a key stands in the chunk; few of its texts have a capital letter of it."""
    capital = next(letter for letter in key if letter.isupper())
    return bool(chunk.words.are(chunk.places_of(capital) - key.index(capital), key).any())


def _numbered(chunk: Chunk, spans: Spans, is_op: Bool, is_node: Bool) -> tuple[Int64, Int64, Int64]:
    """What autograd numbered or evaluated: which events; their sequence and their thread."""
    with_key = is_op.any() and _has(chunk, SEQUENCE_KEY)
    asked = np.flatnonzero(is_op if with_key else is_node)
    rows = []
    args = chunk.cut(spans.args[asked], spans.args_end[asked])
    for at, node, inside in zip(asked.tolist(), is_node[asked].tolist(), args, strict=True):
        try:
            ids = read_sequence(b"{" + inside + b"}", is_node=node)
        except OddArgs:
            raise UnknownLayoutError from None
        if ids is not None:
            rows.append((at, *ids))
    numbered, sequence, thread = np.array(rows, np.int64).reshape(-1, 3).T
    return numbered, sequence, thread
