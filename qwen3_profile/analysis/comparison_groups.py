"""The records of a run in, one table for each set of configs that differ in one thing only out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from qwen3_profile.config import RunConfig
from qwen3_profile.records.record import TimingRecord

# Draws the configs of one phase, the first being what the others are compared with; or nothing.
Table = Callable[[str, RunConfig, Sequence[Sequence[TimingRecord]]], str]


@dataclass(frozen=True, slots=True)
class Alike:
    """Configs of one run and phase that differ in one thing only.

    config: without that thing.
    groups: the records of each config. places: of each, where it stands among all that were given.
    """

    phase: str
    config: RunConfig
    groups: tuple[Sequence[TimingRecord], ...]
    places: tuple[int, ...]


def find_alike(
    groups: Sequence[Sequence[TimingRecord]], without: Callable[[RunConfig], RunConfig]
) -> Iterator[Alike]:
    """The configs of one run and phase that `without` makes equal, in the order of the first.

    Args:
        groups: records of one config and phase each, of one run or of several.
        without: a config without the thing in which those of one set differ.
    """
    alike: dict[tuple[str, str, RunConfig], list[int]] = {}
    for place, records in enumerate(groups):
        first = records[0]
        if first.config is not None:
            key = (first.facts.run, first.phase, without(first.config))
            alike.setdefault(key, []).append(place)
    for (_, phase, config), places in alike.items():
        yield Alike(phase, config, tuple(groups[at] for at in places), tuple(places))


def render_alike(
    groups: Sequence[Sequence[TimingRecord]],
    without: Callable[[RunConfig], RunConfig],
    table: Table,
) -> str:
    """The tables of what `find_alike` finds.

    Args:
        table: draws one; an empty text where there is nothing to compare.
    """
    found = find_alike(groups, without)
    tables = (table(each.phase, each.config, each.groups) for each in found)
    return "\n\n".join(text for text in tables if text)
