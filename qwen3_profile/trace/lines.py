"""A piece of Kineto's text in, where its events and their parts begin and end out.

The two layouts are shown in `kineto.py`. A field is found by the number of its line in the event,
and what stands between two fields is looked at to the letter.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from qwen3_profile.trace.columns import Bool, Int64
from qwen3_profile.trace.digits import Words

OPEN = b"  {\n"
CLOSED = b"\n  },\n"
_BORDER = "  },\n  {\n"
_LONGEST_NUMBER = 24


class UnknownLayoutError(Exception):
    """The text is in no layout that is known here."""


def demand(holds: Bool | bool) -> None:
    if not (holds if isinstance(holds, bool) else holds.all()):
        raise UnknownLayoutError


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """Whole events: `data[begin:end]`."""

    data: bytearray
    words: Words
    begin: int
    end: int

    def cut(self, start: Int64, end: Int64) -> list[bytes]:
        data = self.data
        return [bytes(data[a:b]) for a, b in zip(start.tolist(), end.tolist(), strict=True)]


@dataclass(frozen=True, slots=True, eq=False)
class Lines:
    """The lines of a piece, and which of them begin an event.

    newline: where each line ends. first: the number of each event's first line.
    begin: where each event begins. complete: which events are, by their first field.
    odd: which are neither complete nor arrows or instants, as Kineto writes these.
    """

    newline: Int64
    first: Int64
    begin: Int64
    complete: Int64
    odd: Int64


@dataclass(frozen=True, slots=True, eq=False)
class Spans:
    """Where parts of complete events begin and end; args that are not there end at once.

    event: which event of the piece it is.
    head: from `"ph"` on; it goes up to the number of `ts`.
    """

    event: Int64
    head: Int64
    ts: Int64
    ts_end: Int64
    dur: Int64
    dur_end: Int64
    args: Int64
    args_end: Int64

    def take(self, chosen: Bool) -> Spans:
        if chosen.all():
            return self
        return Spans(*(getattr(self, each.name)[chosen] for each in fields(self)))


def find_lines(piece: Piece) -> Lines:
    """The events of a piece.

    Raises:
        UnknownLayoutError: something else stands between two events than in Kineto's layouts.
    """
    text = np.frombuffer(piece.data, np.uint8)[piece.begin : piece.end]
    newline = np.flatnonzero(text == ord("\n")) + piece.begin
    # The line that opens an event is the shortest of all but by chance: it is looked at again.
    first = np.flatnonzero(newline[1:] - newline[:-1] == len(OPEN)) + 1
    first = np.concatenate((np.zeros(1, np.int64), first))
    begin = newline[first] - len("  {")
    words = piece.words
    demand(words.are(begin[1:] - len("  },\n"), _BORDER))
    complete = words.are(begin, '  {\n    "ph": "X')
    others = np.flatnonzero(~complete)
    count = (np.append(first[1:], len(newline)) - first)[others]
    known = _is_passed_over(words, newline, first[others], count)
    return Lines(newline, first, begin, np.flatnonzero(complete), others[~known])


# What arrows are called: from a launch to its kernel, and from an operator to its backward.
_ARROWS = ("ac2g", "fwdbwd")
_INSTANT = '"ph": "i", "cat": "cpu_instant_event", "s": "t", "name": "[memory]", '


def _is_passed_over(words: Words, newline: Int64, first: Int64, count: Int64) -> Bool:
    """Which of the events that are not complete are the arrows and instants of Kineto.

    Args:
        first: the number of the first line of each. count: of its lines.
    """
    field = newline[first] + len("\n    ")
    # In one layout the second line of an arrow has its name, in the other the sixth and seventh.
    named = newline[first + np.where(count == 4, 1, np.minimum(count, 7) - 2)] + 1
    known = np.zeros(len(first), bool)
    for name in _ARROWS:
        known |= words.are(named, f'    "cat": "{name}", "name": "{name}"') & (count == 4)
        lines = f'    "cat": "{name}",\n    "name": "{name}"\n'
        known |= words.are(named, lines) & (count == 10)
    arrow = words.are(field, '"ph": "s"') | words.are(field, '"ph": "f"')
    return (known & arrow) | words.are(field, _INSTANT)


def find_spans(piece: Piece, lines: Lines) -> Spans:
    """Those complete events that are in the layout of the first one."""
    head = lines.begin[lines.complete] + len("  {\n    ")
    count = (np.append(lines.first[1:], len(lines.newline)) - lines.first)[lines.complete]
    if piece.words.are(head[:1], '"ph": "X", "cat"').any():
        return _two_lines_a_head(piece, lines, head, count)
    return _one_field_a_line(piece, lines, head, count)


def _one_field_a_line(piece: Piece, lines: Lines, head: Int64, count: Int64) -> Spans:
    words, newline = piece.words, lines.newline
    known = (count == 13) | (count == 10)
    event, head, has_args = lines.complete[known], head[known], count[known] == 13
    first = lines.first[event]
    ts_end, dur_end = newline[first + 6] - len(","), newline[first + 7]
    good = words.are(ts_end, ',\n    "dur": ')
    before_args = words.are(dur_end, '\n    ,\n    "args": {\n')
    good &= np.where(has_args, before_args, words.are(dur_end, "\n    \n  }"))
    args, args_end, also_good = _args(words, newline, first + 10, has_args)
    spans = Spans(
        event=event,
        head=head,
        ts=newline[first + 5] + len('\n    "ts": '),
        ts_end=ts_end,
        dur=ts_end + len(',\n    "dur": '),
        dur_end=dur_end,
        args=args,
        args_end=args_end,
    )
    return spans.take(good & also_good)


def _two_lines_a_head(piece: Piece, lines: Lines, head: Int64, count: Int64) -> Spans:
    words, newline = piece.words, lines.newline
    known = (count == 7) | (count == 4)
    event, head, has_args = lines.complete[known], head[known], count[known] == 7
    first = lines.first[event]
    ts = newline[first + 1] + len('\n    "ts": ')
    ts_end = _find_dur(piece, ts)
    dur_end = newline[first + 2] - has_args * len(",")
    good = words.are(dur_end, ',\n    "args": {\n') | ~has_args
    args, args_end, also_good = _args(words, newline, first + 4, has_args)
    spans = Spans(
        event=event,
        head=head,
        ts=ts,
        ts_end=ts_end,
        dur=ts_end + len(', "dur": '),
        dur_end=dur_end,
        args=args,
        args_end=args_end,
    )
    return spans.take(good & also_good & (ts_end > ts))


def _args(words: Words, newline: Int64, line: Int64, has_args: Bool) -> tuple[Int64, Int64, Bool]:
    """The span of the one line of args, in the events that have it; and whether it is one."""
    line = np.where(has_args, line, 1)
    begin, end = newline[line - 1] + 1, newline[line]
    good = words.are(end, "\n    }\n") | ~has_args
    return begin, np.where(has_args, end, begin), good


def _find_dur(piece: Piece, ts: Int64) -> Int64:
    """Where the text between `ts` and `dur` begins, or `ts` itself where there is none.

    Most numbers are of one length.
    """
    found = ts.copy()
    left = np.arange(len(ts))
    while len(left):
        begin = int(ts[left[0]])
        length = piece.data.find(b",", begin, begin + _LONGEST_NUMBER) - begin
        fits = piece.words.are(ts[left] + length, ', "dur": ')
        found[left[fits]] = ts[left[fits]] + length
        fits[0] = True
        left = left[~fits]
    return found
