"""The kinds of mutants: each changes the text of a few events, or of the file.

Texts of events stay as they were written, so that the fast reader is asked as well as the slow one.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

_DEVICE = ("kernel", "gpu_memcpy", "gpu_memset")
_CALLS = ("cuda_runtime", "cuda_driver")
_CATEGORIES = (*_DEVICE, *_CALLS, "cpu_op", "user_annotation", "overhead")
_EVENTS = re.compile(r'"traceEvents"\s*:\s*\[\s*')


@dataclass(frozen=True)
class Pieces:
    """A file in pieces: what is in front of its events, the text of each, and what is behind."""

    head: str
    events: tuple[str, ...]
    between: str
    tail: str

    def text(self) -> str:
        return self.head + self.between.join(self.events) + self.tail

    def pick(self, chance: random.Random, *cats: str) -> int:
        """The number of an event of some category, of any without one.

        Raises:
            LookupError: there is none.
        """
        found = [
            number
            for number, text in enumerate(self.events)
            if not cats or any(f'"cat": "{cat}"' in text for cat in cats)
        ]
        found = [n for n in found if not cats or '"ph": "X"' in self.events[n]]
        if not found:
            raise LookupError
        return chance.choice(found)

    def with_event(self, number: int, *texts: str) -> Pieces:
        """With these in place of one."""
        return replace(self, events=(*self.events[:number], *texts, *self.events[number + 1 :]))


def pieces_of(text: str) -> Pieces:
    """Cuts a text at its events."""
    found = _EVENTS.search(text)
    assert found is not None
    at, texts, between = found.end(), [], ""
    decoder = json.JSONDecoder()
    while text[at] == "{":
        _, end = decoder.raw_decode(text, at)
        texts.append(text[at:end])
        rest = re.compile(r"\s*,?\s*").match(text, end)
        assert rest is not None
        if text[rest.end()] == "{":
            between, at = between or rest[0], rest.end()
        else:
            return Pieces(text[: found.end()], tuple(texts), between, text[end:])
    return Pieces(text[:at], (), ",", text[at:])


def number_in(text: str, key: str) -> str:
    """The text of a number of an event.

    Raises:
        LookupError: it has none.
    """
    found = re.search(rf'"{re.escape(key)}":\s*(-?[0-9.eE+]+)', text)
    if found is None:
        raise LookupError
    return found[1]


def with_value(text: str, key: str, value: str) -> str:
    return re.sub(
        rf'("{re.escape(key)}":\s*)("[^"]*"|[^\s,}}\]]+)', rf"\g<1>{value}", text, count=1
    )


def _later(text: str, us: float, key: str = "ts") -> str:
    whole, _, part = number_in(text, key).partition(".")
    ns = int(whole) * 1000 + int(part[:3].ljust(3, "0")) + round(us * 1000)
    ns = max(ns, 0)
    return with_value(
        text, key, f"{ns // 1000}.{ns % 1000:03d}" if part or ns % 1000 else str(ns // 1000)
    )


def truncate(given: Pieces, chance: random.Random) -> str:
    text = given.text()
    return text[: chance.randrange(len(given.head), len(text) - 2)]


def flip_digit(given: Pieces, chance: random.Random) -> str:
    number = given.pick(chance)
    text = given.events[number]
    places = [found.start() for found in re.finditer(r"\d", text)]
    at = chance.choice(places)
    return given.with_event(number, f"{text[:at]}{chance.randrange(10)}{text[at + 1 :]}").text()


def drop(given: Pieces, chance: random.Random) -> str:
    return given.with_event(given.pick(chance)).text()


def duplicate(given: Pieces, chance: random.Random) -> str:
    number = given.pick(chance)
    return replace(given, events=(*given.events, given.events[number])).text()


def swap(given: Pieces, chance: random.Random) -> str:
    events = list(given.events)
    one, other = given.pick(chance), given.pick(chance)
    events[one], events[other] = events[other], events[one]
    return replace(given, events=tuple(events)).text()


def category(given: Pieces, chance: random.Random) -> str:
    number = given.pick(chance, *_CATEGORIES)
    text = with_value(given.events[number], "cat", f'"{chance.choice(_CATEGORIES)}"')
    return given.with_event(number, text).text()


def merge(given: Pieces, chance: random.Random) -> str:
    """The file with itself, or a part of it again; ids and places are the same."""
    count = chance.choice((len(given.events), len(given.events) // 2))
    return replace(given, events=given.events + given.events[:count]).text()


def shift_clock(given: Pieces, chance: random.Random) -> str:
    """All events of one stream, without their arrows."""
    first = given.events[given.pick(chance, *_DEVICE)]
    pid, tid = (json.loads(first)[key] for key in ("pid", "tid"))
    us = chance.choice((400.0, 5000.0, 9e6))
    events = [_later(text, us) if _is_at(text, pid, tid) else text for text in given.events]
    return replace(given, events=tuple(events)).text()


def _is_at(text: str, pid: Any, tid: Any) -> bool:
    if not any(f'"cat": "{cat}"' in text for cat in _DEVICE):
        return False
    event = json.loads(text)
    return bool(event["pid"] == pid and event["tid"] == tid)


def not_a_number(given: Pieces, chance: random.Random) -> str:
    number = given.pick(chance, *_DEVICE, *_CALLS, "user_annotation")
    key, value = chance.choice(("ts", "dur")), chance.choice(("NaN", "Infinity", "-1e400"))
    return given.with_event(number, with_value(given.events[number], key, value)).text()


def _moved(*cats: str) -> Callable[[Pieces, random.Random], str]:
    def move(given: Pieces, chance: random.Random) -> str:
        number = given.pick(chance, *cats)
        us = chance.choice((-200.0, 50.0, 3000.0, 9e6))
        return given.with_event(number, _later(given.events[number], us)).text()

    return move


def _elsewhere(key: str, *cats: str) -> Callable[[Pieces, random.Random], str]:
    def put(given: Pieces, chance: random.Random) -> str:
        number = given.pick(chance, *cats)
        value = str(chance.choice((4, 9, 31)))
        return given.with_event(number, with_value(given.events[number], key, value)).text()

    return put


def lose_device_events(given: Pieces, chance: random.Random) -> str:
    for _ in range(chance.choice((1, 3))):
        given = given.with_event(given.pick(chance, *_DEVICE))
    return given.text()


def lose_copy(given: Pieces, chance: random.Random) -> str:
    return given.with_event(given.pick(chance, "gpu_memcpy")).text()


def change_bytes(given: Pieces, chance: random.Random) -> str:
    number = given.pick(chance, "gpu_memcpy", "gpu_memset")
    text = given.events[number]
    value = int(number_in(text, "bytes")) * chance.choice((8, 1000)) + 1
    return given.with_event(number, with_value(text, "bytes", str(value))).text()


def double_label(given: Pieces, chance: random.Random) -> str:
    number = given.pick(chance, "user_annotation")
    return replace(given, events=(*given.events, given.events[number])).text()


def double_kernel(given: Pieces, chance: random.Random) -> str:
    number = given.pick(chance, *_DEVICE)
    return given.with_event(number, *(given.events[number],) * 2).text()


def longer_call(given: Pieces, chance: random.Random) -> str:
    number = given.pick(chance, *_CALLS)
    us = chance.choice((500.0, 1e5, 1e8))
    return given.with_event(number, _later(given.events[number], us, "dur")).text()


def no_durations(given: Pieces, chance: random.Random) -> str:
    share = chance.choice((0.6, 1.0))
    events = tuple(
        with_value(text, "dur", "0")
        if '"cat": "kernel"' in text and chance.random() < share
        else text
        for text in given.events
    )
    if events == given.events:
        raise LookupError
    return replace(given, events=events).text()


KINDS: dict[str, Callable[[Pieces, random.Random], str]] = {
    "cut off": truncate,
    "digit": flip_digit,
    "event dropped": drop,
    "event twice": duplicate,
    "events swapped": swap,
    "other category": category,
    "merged with itself": merge,
    "clock of a stream": shift_clock,
    "no number": not_a_number,
    "device event moved": _moved(*_DEVICE),
    "call moved": _moved(*_CALLS),
    "label moved": _moved("user_annotation"),
    "call on other thread": _elsewhere("tid", *_CALLS),
    "other stream": _elsewhere("tid", *_DEVICE),
    "other device": _elsewhere("pid", *_DEVICE),
    "device events lost": lose_device_events,
    "copy lost": lose_copy,
    "bytes changed": change_bytes,
    "label twice": double_label,
    "device event twice": double_kernel,
    "call longer": longer_call,
    "no durations": no_durations,
}
