"""Text in one of the two layouts that Kineto writes in, its events as a block of columns out.

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

All events of a piece are looked at together, found by their braces (`lines.py`); the text from
`"ph"` to `"tid"` tells the kind of an event (`heads.py`). What is read is checked to the letter; of
what is not read (arrows, the rest of args) only that it is JSON. An event that is written otherwise
is left to `general.py`, and so is a whole piece whose events do not follow each other as above.

`ts` and `dur` are microseconds with up to three decimals, counted from `baseTimeNanoseconds` (2024
on) or from the epoch (before). They are read as text: a float64 of an epoch time is a multiple of
0.25 us.
"""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import numpy as np

from qwen3_profile.trace.columns import NO_CORRELATION, Bool, Category, Int64
from qwen3_profile.trace.compact import Block
from qwen3_profile.trace.event_kinds import Kinds
from qwen3_profile.trace.fast_digits import Words, read_integers
from qwen3_profile.trace.fast_heads import ODD, Heads
from qwen3_profile.trace.fast_layout import (
    CLOSED,
    OPEN,
    Found,
    Piece,
    Spans,
    UnknownLayoutError,
    demand,
    find_events,
    find_spans,
)
from qwen3_profile.trace.json_events import NOT_JSON, Event, decode_events
from qwen3_profile.trace.slow_events import SEQUENCE_KEY, OddArgs, read_events, read_sequence
from qwen3_profile.trace.text import Text

_CORRELATION = re.compile(rb'"correlation": (\d{1,16})(?=[,\n])')
_MOST_ROUNDS = 200

_pass_over = msgspec.json.Decoder(msgspec.Raw).decode


class KinetoText:
    """Reads pieces of one file, and learns its kinds of events from them."""

    def __init__(self, path: Path, kinds: Kinds) -> None:
        self._path = path
        self._kinds = kinds
        self._heads = Heads(kinds)

    def read(self, text: Text, cut: int) -> tuple[Block, ...] | None:
        """The events of `text` up to `cut`, which is behind one; None if that cannot be.

        Raises:
            DamagedTraceError: an event lacks what it needs.
        """
        data, begin = text.data, text.data.find(OPEN, text.begin, cut)
        if begin < 0 or data[text.begin : begin].strip() or not data.endswith(CLOSED, 0, cut):
            return None
        piece = Piece(data, Words(data), begin, cut)
        if not _is_json(data, begin, cut):
            return None
        try:
            found = find_events(piece)
            block, odd = self._read(piece, found)
            events = _decode_odd(piece, found, odd)
        except UnknownLayoutError:
            return None
        return (block, read_events(events, self._kinds, self._path)) if events else (block,)

    def _read(self, piece: Piece, found: Found) -> tuple[Block, Int64]:
        """The events that are as they should be; and which ones are not, for `general.py`."""
        odd = [found.odd]
        spans = find_spans(piece, found)
        if len(spans.event) < len(found.complete):
            odd.append(np.setdiff1d(found.complete, spans.event, assume_unique=True))
        kind = self._heads.kinds(piece, spans)
        odd.append(spans.event[kind == ODD])
        kind, spans = kind[kind >= 0], spans.take(kind >= 0)
        columns = self._kinds.columns
        correlation, good = _correlations(piece, spans, columns.linked[kind])
        if not good.all():
            odd.append(spans.event[~good])
            kind, spans, correlation = kind[good], spans.take(good), correlation[good]
        is_op = columns.category[kind] == Category.CPU_OP
        numbered = _numbered(piece, spans, is_op, columns.is_node[kind])
        block = Block(kind, spans.start_ns, spans.dur_ns, correlation, *numbered)
        return block, np.sort(np.concatenate(odd))


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


def _decode_odd(piece: Piece, found: Found, odd: Int64) -> list[Event]:
    """The events at `odd`, each decoded as JSON."""
    if not len(odd):
        return []
    texts = piece.cut(found.begin[odd], found.end[odd] - len(",\n"))
    try:
        events = decode_events(b"[" + b",".join(texts) + b"]")
    except NOT_JSON:
        raise UnknownLayoutError from None
    demand(len(events) == len(texts))
    return events


def _correlations(piece: Piece, spans: Spans, linked: Bool) -> tuple[Int64, Bool]:
    """The ids in lines of args; and which events have one that can be read, or none.

    Most stand as far from their line's start as that of another event.
    """
    found = np.full(len(linked), NO_CORRELATION, np.int64)
    good = ~linked
    left = np.flatnonzero(linked)
    for _ in range(_MOST_ROUNDS):
        if not len(left):
            break
        start, end = spans.args[left], spans.args_end[left]
        line = bytes(piece.data[int(start[0]) : int(end[0]) + 1])
        match = _CORRELATION.search(line)
        if match is None:
            good[left[0]] = b'"correlation"' not in line
            left = left[1:]
            continue
        begin, stop = start + match.start(1), start + match.end(1)
        value, fits = read_integers(piece.words, begin, stop)
        fits &= piece.words.are(start + match.start(), '"correlation": ') & (stop <= end)
        behind = piece.words.at(stop)[0] & _BYTE
        fits &= (behind == _COMMA) | (behind == _NEWLINE)
        found[left[fits]] = value[fits]
        good[left[fits]] = True
        fits[0] = True
        left = left[~fits]
    return found, good


_BYTE = np.uint64(0xFF)
_COMMA, _NEWLINE = np.uint64(ord(",")), np.uint64(ord("\n"))


def _has(piece: Piece, key: str) -> bool:
    """Whether a key stands in the piece; few of its texts have a capital letter of it."""
    capital = next(letter for letter in key if letter.isupper())
    return bool(piece.words.are(piece.places_of(capital) - key.index(capital), key).any())


def _numbered(piece: Piece, spans: Spans, is_op: Bool, is_node: Bool) -> tuple[Int64, Int64, Int64]:
    """What autograd numbered or evaluated: which events; their sequence and their thread."""
    with_key = is_op.any() and _has(piece, SEQUENCE_KEY)
    asked = np.flatnonzero(is_op if with_key else is_node)
    rows = []
    args = piece.cut(spans.args[asked], spans.args_end[asked])
    for at, node, inside in zip(asked.tolist(), is_node[asked].tolist(), args, strict=True):
        try:
            ids = read_sequence(b"{" + inside + b"}", is_node=node)
        except OddArgs:
            raise UnknownLayoutError from None
        if ids is not None:
            rows.append((at, *ids))
    numbered, sequence, thread = np.array(rows, np.int64).reshape(-1, 3).T
    return numbered, sequence, thread
