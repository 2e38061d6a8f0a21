"""Finds what each event of a replayed graph repeats; or says why that cannot be told.

A replay is one call on the host: its kernels carry no label and no launch of their own. They run in
the order in which the graph was captured, so the n-th of them is the n-th launch of the labelled
pass that the graph repeats. That is believed only where it can be checked: as many events, and each
of the same kind and name, of the same grid and block where both sides know them. This module is
pure, and never guesses: it gives a whole match or the first difference.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

_SHOWN = 120  # characters of a kernel's name; templates make thousands of them


@dataclass(frozen=True, slots=True)
class Work:
    """A kernel, copy or fill that was launched or has run.

    kind: "kernel", "copy" or "fill".
    name: of the kernel, the copy or the fill; empty where a launch does not tell it.
    grid, block: None where they are not known.
    stream: where it ran; empty where it has not run.
    """

    kind: str
    name: str = ""
    grid: tuple[int, ...] | None = None
    block: tuple[int, ...] | None = None
    stream: str = ""


@dataclass(frozen=True, slots=True)
class Match:
    """Which work of the reference each event of a replay is; or why that cannot be said.

    places: one index into the reference per event of the replay; empty where it is refused.
    difference: one sentence with the first difference; empty where they match.
    """

    places: tuple[int, ...] = ()
    difference: str = ""


def match(
    replay: Sequence[Work],
    reference: Sequence[Work],
    what: str,
    *,
    ordered: bool = False,
    ran: str = "replay",
) -> Match:
    """Matches the events of a replay with the work of what it repeats, one to one and in order.

    Args:
        replay: in the order of their nodes, or of their start on each stream.
        reference: in the order of the launches.
        what: the reference's name in a sentence, such as "the eager step".
        ordered: whether `replay` is in the order of its nodes, which is that of the launches,
            whatever ran next to what.
        ran: what `replay` is in a sentence.
    """
    if ordered or len({work.stream for work in replay}) <= 1:
        difference = first_difference(replay, reference, what, ran)
        return Match((), difference) if difference else Match(tuple(range(len(replay))))
    return _match_streams(replay, reference, what, ran)


def first_difference(
    replay: Sequence[Work], reference: Sequence[Work], what: str, ran: str = "replay"
) -> str:
    """The first event in which the two differ, in a sentence; empty where they do not."""
    for index, (each, launched) in enumerate(zip(replay, reference, strict=False)):
        field = _differs(each, launched)
        if field:
            return (
                f"event {index} is {_told(each, field, launched)} in the {ran} and "
                f"{_told(launched, field, each)} in {what}"
            )
    if len(replay) != len(reference):
        return f"the {ran} has {len(replay)} events and {what} {len(reference)}"
    return ""


def _differs(one: Work, other: Work) -> str:
    """The field in which two differ, of those that both know."""
    if one.kind != other.kind:
        return "kind"
    for field in ("name", "grid", "block"):
        here, there = getattr(one, field), getattr(other, field)
        if here and there and here != there:
            return field
    return ""


def _told(work: Work, field: str, other: Work) -> str:
    if field in ("grid", "block"):
        return f"{short_kernel(work.name)} with a {field} of {list(getattr(work, field))}"
    return short_kernel(work.name, other.name) if work.name else f"a {work.kind}"


def short_kernel(name: str, other: str = "") -> str:
    """A kernel's name as far as it is read; where `other` begins alike, from where they part."""
    same = next((i for i, (a, b) in enumerate(zip(name, other, strict=False)) if a != b), 0)
    start = same - _SHOWN // 2 if same >= _SHOWN else 0
    cut = name[start : start + _SHOWN]
    return f"{'...' if start else ''}{cut}{'...' if start + _SHOWN < len(name) else ''}"


def _match_streams(replay: Sequence[Work], reference: Sequence[Work], what: str, ran: str) -> Match:
    """Each stream of the replay against the one stream of the reference that ran the same."""
    streams, launched = _by_stream(replay), _by_stream(reference)
    if len(streams) != len(launched):
        return Match(
            (),
            f"the {ran} ran on {len(streams)} streams without node ids and {what} on "
            f"{len(launched)}, so that the order of its events tells nothing",
        )
    places = [0] * len(replay)
    for stream, events in streams.items():
        mine = [replay[i] for i in events]
        same = [
            other
            for other in launched.values()
            if not first_difference(mine, [reference[i] for i in other], what)
        ]
        if len(same) != 1:
            return Match(
                (),
                f"stream {stream} of the {ran}, with {len(mine)} events, is like {len(same)} "
                f"streams of {what}, not like one",
            )
        for event, place in zip(events, same[0], strict=True):
            places[event] = place
    if len(set(places)) != len(places):
        return Match((), f"two streams of the {ran} are like one stream of {what}")
    return Match(tuple(places))


def _by_stream(work: Sequence[Work]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = defaultdict(list)
    for index, each in enumerate(work):
        found[each.stream].append(index)
    return dict(found)
