"""What a chunk of Kineto's text says twice: compared as text, so that it costs little.

The end of an arrow stands behind its event, and its id, its track and its time are written as they
are in that event. Those that are not are left to `slow_events.py`, which keeps them.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from qwen3_profile.trace.columns import NO_CORRELATION, Category
from qwen3_profile.trace.fast_digits import Bool, Chunk, Int64, Word, Words
from qwen3_profile.trace.messages import MESSAGE_KEY
from qwen3_profile.trace.said_twice import Noted, copy_ns, place_in

if TYPE_CHECKING:
    from qwen3_profile.trace.event_keys import KeyColumns
    from qwen3_profile.trace.fast_layout import Found, Spans

_MOST_WORDS = 5  # of a text that is compared
_BEFORE_ID = ('  {\n    "ph": "f", "id": ', '  {\n    "ph": "f",\n    "id": ')
_BEHIND_ID = '"pid": '
_CORRELATION_KEY = len('"correlation": ')
_TENS = np.array([10**n for n in range(1, 17)], np.int64)
_MOST_ROUNDS = 40
_NOT_READ = -1


def odd_arrows(chunk: Chunk, found: Found, spans: Spans, correlation: Int64, id_at: Int64) -> Int64:
    """Which arrows of a chunk do not repeat what the event in front of them says.

    Args:
        spans: of the events that were read.
        id_at: where the id of each stands in its args.
    """
    arrow, end = found.arrow, found.arrow_end
    if not len(arrow) or not len(spans.event):
        return arrow
    words = chunk.words
    place = np.full(len(found.begin), _NOT_READ)
    place[spans.event] = np.arange(len(spans.event))
    event = place[arrow - 1]
    begin = found.begin[arrow]
    first = int(begin[0])
    flat = chunk.data[first + len(_BEFORE_ID[0]) - 7 : first + len(_BEFORE_ID[0])] == b' "id": '
    before_id = len(_BEFORE_ID[0] if flat else _BEFORE_ID[1])
    before_ts = len(', "ts": ' if flat else ',\n    "ts": ')
    between = len(", " if flat else ",\n    ")
    ids = correlation[event]
    good = (event != _NOT_READ) & (ids != NO_CORRELATION) & (arrow > 0)
    digits = np.searchsorted(_TENS, ids, side="right") + 1
    id_end = begin + before_id + digits
    good &= _same(words, id_end, id_at[event] + digits, digits)
    track = id_end + between
    good &= words.are(track, _BEHIND_ID)
    ts, ts_end = spans.ts[event], spans.ts_end[event]
    good &= _same(words, end, ts_end, ts_end - ts)
    track_end = end - (ts_end - ts) - before_ts
    # Between the track of an event and its time stands what layouts of today and before have.
    gap = len(',\n    "ts": ')
    good &= _same(words, track_end, ts - gap, track_end - track)
    odd: Int64 = arrow[~good]
    return odd


def _same(words: Words, one: Int64, other: Int64, length: Int64) -> Bool:
    """Whether texts that end there are the same; of a long one that is not said."""
    shortest, longest = int(length.min()), int(length.max())
    count = min(max(-(-longest // 8), 1), _MOST_WORDS)
    fits = None
    if shortest < 0 or longest > 8 * count:
        fits = (length >= 0) & (length <= 8 * count)
        length = np.where(fits, length, 0)
    differ = words.at(one - 8 * count, count)
    differ ^= words.at(other - 8 * count, count)
    masks = _last(count)
    alike = shortest == longest and fits is None
    same: Bool = np.ones(len(length), bool)
    for number in range(count):
        mask = masks[number, longest] if alike else masks[number].take(length)
        same &= (differ[number] & mask) == 0
    return same if fits is None else same & fits


@lru_cache
def _last(count: int) -> Word:
    """uint64[count, 8 * count + 1]: for each length of a text at their end the bits of words."""
    inside = np.arange(8 * count)[::-1] < np.arange(8 * count + 1)[:, None]
    bits: Word = (inside * np.uint8(0xFF)).astype(np.uint8).view("<u8")
    return np.ascontiguousarray(bits.T)


def note_device(
    chunk: Chunk, spans: Spans, key: Int64, columns: KeyColumns, id_at: Int64, noted: Noted
) -> None:
    """Notes what the args of device events repeat."""
    category = columns.category[key]
    on_device = (category >= Category.KERNEL) & (category <= Category.GPU_MEMSET)
    mine = np.flatnonzero(on_device)
    _note_places(chunk, spans, key, mine, id_at, noted)
    copies = np.flatnonzero(on_device & (category != Category.KERNEL))
    texts = chunk.cut(spans.args[copies], spans.args_end[copies])
    for at, args in zip(copies.tolist(), texts, strict=True):
        wanted_ns = copy_ns(args)
        if wanted_ns is not None:
            noted.copies.append(
                (int(key[at]), int(spans.start_ns[at]), int(spans.dur_ns[at]), wanted_ns)
            )


def note_messages(
    chunk: Chunk, spans: Spans, key: Int64, columns: KeyColumns, correlation: Int64, noted: Noted
) -> None:
    """Notes what collectives carry, as their kernels and calls say; few chunks have any."""
    begin, end = int(spans.args[:1].sum()), int(spans.args_end[-1:].sum())
    if chunk.data.find(MESSAGE_KEY, begin, end) < 0:
        return
    at = np.flatnonzero(columns.category[key] == Category.KERNEL)
    links = correlation[at].tolist()
    texts = chunk.cut(spans.args[at], spans.args_end[at])
    for number, link, args in zip(key[at].tolist(), links, texts, strict=True):
        noted.note_message(number, link, b"{" + args + b"}")
    at = np.flatnonzero(columns.is_call[key])
    tracks = columns.track[key[at]].tolist()
    times = zip(spans.start_ns[at].tolist(), spans.dur_ns[at].tolist(), strict=True)
    texts = chunk.cut(spans.args[at], spans.args_end[at])
    for track, (start_ns, dur_ns), args in zip(tracks, times, texts, strict=True):
        noted.note_call(track, start_ns, dur_ns, b"{" + args + b"}")


def _note_places(
    chunk: Chunk, spans: Spans, key: Int64, left: Int64, id_at: Int64, noted: Noted
) -> None:
    """Device and stream stand in front of the id; most events have the same text there."""
    for _ in range(_MOST_ROUNDS):
        if not len(left):
            return
        at = int(left[0])
        end = int(id_at[at]) - _CORRELATION_KEY
        begin = chunk.data.rfind(b'"device": ', int(spans.args[at]), max(end, 0))
        if begin < 0 or end - begin > 100:
            break
        text = chunk.data[begin:end].decode("latin-1")
        place = place_in(bytes(chunk.data[begin:end])) if text.isascii() else None
        if place is None or -1 in place:
            break
        same = chunk.words.are(id_at[left] - _CORRELATION_KEY - len(text), text)
        same &= id_at[left] > 0
        if not same[0]:
            break
        _count(key[left[same]], place, noted)
        left = left[~same]
    for at, args in zip(
        left.tolist(), chunk.cut(spans.args[left], spans.args_end[left]), strict=True
    ):
        found = place_in(args)
        if found is not None:
            noted.places[(int(key[at]), *found)] += 1


def _count(key: Int64, place: tuple[int, int], noted: Noted) -> None:
    counts = np.bincount(key)
    for number in np.flatnonzero(counts).tolist():
        noted.places[(number, *place)] += int(counts[number])
