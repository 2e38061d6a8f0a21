"""Where the events of a chunk of Kineto's text, and their parts, begin and end.

The two layouts are shown in `fast_events.py`. Events are found by their braces, and a number of an
event by what stands behind it, from the brace of the args or the end of the event backwards:

        "ts": 4587026371543.110,
        "dur": 9.731
        ,
        "args": {
                ^ dur ends 18 bytes before it and begins behind a space; ts ends 12 bytes before dur

What stands between two numbers is looked at to the letter.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import msgspec
import numpy as np

from qwen3_profile.trace.fast_digits import Bool, Chunk, Int64, Word, Words, read_times, word_of
from qwen3_profile.trace.json_events import NOT_JSON

_pass_over = msgspec.json.Decoder(msgspec.Raw).decode

OPEN = b"  {\n"
CLOSED = b"\n  },\n"


class UnknownLayoutError(Exception):
    """The text is in no layout that is known here."""


def demand(holds: Bool | bool) -> None:
    if not (holds if isinstance(holds, bool) else holds.all()):
        raise UnknownLayoutError


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """The events of a chunk.

    begin, end: where each begins, and where the next one does.
    args: where the brace of its args stands; 0 without any.
    nested: whether there are braces in its args.
    complete: which events are, by their first field.
    odd: which are neither complete nor arrows or instants, as Kineto writes these.
    arrow: which are arrows from launches to device events; arrow_end: where the time of each ends.
    """

    begin: Int64
    end: Int64
    args: Int64
    nested: Bool
    complete: Int64
    odd: Int64
    arrow: Int64
    arrow_end: Int64


@dataclass(frozen=True, slots=True, eq=False)
class Spans:
    """Parts of complete events, and where they begin and end; args that are not there end at once.

    event: which event of the chunk it is.
    head: from `"ph"` on; it goes up to the number of `ts`.
    start_ns, dur_ns: what `ts` and `dur` say.
    """

    event: Int64
    head: Int64
    ts: Int64
    ts_end: Int64
    start_ns: Int64
    dur_ns: Int64
    args: Int64
    args_end: Int64

    def take(self, chosen: Bool) -> Spans:
        if chosen.all():
            return self
        return Spans(*(getattr(self, each.name)[chosen] for each in fields(self)))


_NEXT = word_of("  },\n  {")
_ARGS = word_of('args": {')
_COMPLETE, _FROM, _TO, _INSTANT = (word_of(f'"ph": "{letter}') for letter in "Xsfi")


def find_events(chunk: Chunk) -> Found:
    """The events of a chunk, which begins and ends as those of Kineto's layouts do.

    Raises:
        UnknownLayoutError: some event of it does not follow the one before as in these.
    """
    words = chunk.words
    brace = chunk.places_of("{")
    line = np.flatnonzero(np.frombuffer(chunk.data, np.uint8)[brace + 1] == ord("\n"))
    before = words.at(brace[line] - len("  },\n  "))[0]
    opens = before == _NEXT
    opens[0] = True
    first = line[opens]
    of_args = np.flatnonzero(before == _ARGS)
    begin = brace[first] - len("  ")
    # Of several braces of an event the first is that of its args; the brace -1 is none.
    args = np.full(len(begin), -1)
    args[np.cumsum(opens)[of_args][::-1] - 1] = line[of_args][::-1]
    _demand_no_event_inside(chunk, np.delete(brace, np.concatenate((first, args[args >= 0]))))
    last = np.append(first[1:], len(brace)) - 1
    end = np.append(begin[1:], chunk.end)
    kind = words.at(begin + len("  {\n    "))[0]
    complete = kind == _COMPLETE
    others = np.flatnonzero(~complete)
    is_flat = last[others] == np.maximum(args, first)[others]
    known, tail = _is_passed_over(words, kind[others], begin[others], end[others])
    known &= is_flat
    arrow = others[known & (tail > 0)]
    arrow_end = end[arrow] - tail[known & (tail > 0)]
    return Found(
        begin, end, np.where(args >= 0, brace[args], 0), (args >= 0) & (last > args),
        np.flatnonzero(complete), others[~known], arrow, arrow_end,
    )  # fmt: skip


_SPACE = np.array([chr(code) in " \t\r\n" for code in range(256)])


def _demand_no_event_inside(chunk: Chunk, brace: Int64) -> None:
    """Demands that no event begins at these braces: in front of it would stand a comma."""
    before = np.frombuffer(chunk.data, np.uint8)[brace - 1]
    demand(bool((before != ord(",")).all()))
    for at in brace[_SPACE[before]].tolist():
        space = at - 1
        while chunk.data[space] in b" \t\r\n":
            space -= 1
        demand(chunk.data[space] != ord(","))


# How arrows end: from a launch to its kernel, and from an operator to its backward.
_ARROWS = tuple(
    text % {"name": name}
    for name in ("ac2g", "fwdbwd")
    for text in (
        '    "cat": "%(name)s",\n    "name": "%(name)s"\n    \n  },\n',
        '    "cat": "%(name)s",\n    "name": "%(name)s"\n    , "bp": "e"\n  },\n',
        '    "cat": "%(name)s", "name": "%(name)s"\n  },\n',
        '    "cat": "%(name)s", "name": "%(name)s", "bp": "e"\n  },\n',
    )
)
_TO_DEVICE = "ac2g"
_LONGEST_ARROW = 256
_BEHIND_ARGS = "\n    }\n  },\n"
_INSTANT_HEAD = '"ph": "i", "cat": "cpu_instant_event", "s": "t", "name": "[memory]", '


def _is_passed_over(words: Words, kind: Word, begin: Int64, end: Int64) -> tuple[Bool, Int64]:
    """Which of the events that are not complete are the arrows and instants of Kineto.

    Returns:
        That, and of arrows to device events how far before their end their time ends; of others 0.
    """
    field = begin + len("  {\n    ")
    known, tail = np.zeros(len(kind), bool), np.zeros(len(kind), np.int64)
    if (kind == _INSTANT).any():
        known = words.are(field, _INSTANT_HEAD)
        known &= words.are(end - len(_BEHIND_ARGS), _BEHIND_ARGS)
    arrow = ((kind == _FROM) | (kind == _TO)) & (end - begin <= _LONGEST_ARROW)
    left = np.flatnonzero(arrow)
    flat = bool(words.are(field[left[:1]] + len('"ph": "f'), '", "id": ').any())
    for text in sorted(_ARROWS, key=lambda text: ('", "name"' in text) != flat):
        if not len(left):
            break
        fits = words.are(end[left] - len(text), text)
        known[left[fits]] = True
        if _TO_DEVICE in text:
            tail[left[fits]] = len(text) + len(",\n")
        left = left[~fits]
    return known, tail


@dataclass(frozen=True, slots=True)
class _Layout:
    """What stands between dur and args, behind dur where there are none, and before dur."""

    before_args: str
    at_end: str
    before_dur: str


_ONE_FIELD_A_LINE = _Layout('\n    ,\n    "args": {\n', "\n    \n  },\n", ',\n    "dur": ')
_TWO_LINES_A_HEAD = _Layout(',\n    "args": {\n', "\n  },\n", ', "dur": ')


def find_spans(chunk: Chunk, found: Found) -> Spans:
    """Those complete events that are in the layout of the first one."""
    words, event = chunk.words, found.complete
    begin, end, brace = found.begin[event], found.end[event], found.args[event]
    head = begin + len("  {\n    ")
    first_has_both = bool(words.are(head[:1], '"ph": "X", "cat"').any())
    layout = _TWO_LINES_A_HEAD if first_has_both else _ONE_FIELD_A_LINE
    has_args = brace > 0
    dur_end = np.where(has_args, brace - len(layout.before_args[:-2]), end - len(layout.at_end))
    args = np.where(has_args, brace + len("{\n"), end)
    args_end = np.where(has_args, end - len(_BEHIND_ARGS), end)
    dur, dur_ns, good, followed = read_times(words, dur_end, layout.before_args)
    followed &= words.are(args_end, _BEHIND_ARGS)
    if not has_args.all():
        followed = np.where(has_args, followed, words.are(dur_end, layout.at_end))
    ts_end = dur - len(layout.before_dur)
    ts, start_ns, also, before_dur = read_times(words, ts_end, layout.before_dur)
    good &= followed & also & before_dur & (ts > head) & (args_end >= args)
    nested = np.flatnonzero(good & found.nested[event])
    good[nested] = [_is_inside(text) for text in chunk.cut(args[nested], args_end[nested])]
    return Spans(event, head, ts, ts_end, start_ns, dur_ns, args, args_end).take(good)


def _is_inside(args: bytes) -> bool:
    """Whether a text is what stands between the braces of one object."""
    try:
        _pass_over(b"{" + args + b"}")
    except NOT_JSON:
        return False
    return True
