"""The records of a run in, one table for each set of configs that differ in one thing only out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from qwen3_profile.config import RunConfig
from qwen3_profile.records import TimingRecord

# Draws the configs of one phase, the first being what the others are compared with; or nothing.
Table = Callable[[str, RunConfig, Sequence[Sequence[TimingRecord]]], str]


def render_alike(
    groups: Sequence[Sequence[TimingRecord]],
    without: Callable[[RunConfig], RunConfig],
    table: Table,
) -> str:
    """The tables of the configs of one run and phase that `without` makes equal.

    Args:
        groups: records of one config and phase each, of one run or of several.
        without: a config without the thing in which those of one table differ.
        table: draws one; an empty text where there is nothing to compare.
    """
    alike: dict[tuple[str, str, RunConfig], list[Sequence[TimingRecord]]] = {}
    for records in groups:
        first = records[0]
        if first.config is not None:
            key = (first.facts.run, first.phase, without(first.config))
            alike.setdefault(key, []).append(records)
    tables = (table(phase, config, same) for (_, phase, config), same in alike.items())
    return "\n\n".join(text for text in tables if text)
