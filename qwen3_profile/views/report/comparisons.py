"""A config or several in; the bytes that each row of the parts table moves, and the executions that
ran side by side, out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from qwen3_profile.analysis.comparison_groups import Alike, find_alike
from qwen3_profile.analysis.side_by_side import (
    Cost,
    execution_names,
    median_bare_ns,
    part_costs,
    parts_of,
    whole_cost,
    without_execution,
)
from qwen3_profile.passes.compiled.scopes import scope_names
from qwen3_profile.passes.pass_times import StepTimes
from qwen3_profile.run_folder.bytes_moved import Moved
from qwen3_profile.views.report.rows import PartPath, own_path, place_of
from qwen3_profile.views.report.section_data import Config

Json = dict[str, Any]


def row_bytes(config: Config) -> tuple[int | None, ...]:
    """What each of `config.rows` moves, with the rows below it; None where that is not known.

    Nothing at all where no pass was counted.
    """
    times = config.shown.times
    if times.traffic is None:
        return ()
    moved: dict[PartPath, Moved] = {}
    known = {row.path for row in config.rows}
    for path, each in _paths(times):
        own = own_path(path, known)
        for depth in range(1, len(own) + 1):
            moved[own[:depth]] = moved.get(own[:depth], Moved()) + each
    return tuple(
        moved[row.path].bytes if row.path in moved else None if row.times.device_events else 0
        for row in config.rows
    )


def comparisons(configs: Sequence[Config]) -> list[Json]:
    """The configs that differ in nothing but how they were executed, part by part."""
    found = find_alike([config.records for config in configs], without_execution)
    return [
        _comparison(each, [configs[at] for at in each.places])
        for each in found
        if len(each.places) > 1
    ]


def _paths(times: StepTimes) -> Iterator[tuple[PartPath, Moved]]:
    """The row in which each label lies, and each kernel, as the table has them."""
    phase = times.forward.name
    for label, moved in times.traffic.labels.items() if times.traffic else ():
        yield place_of((phase, *scope_names((label,))))[0], moved
    for kernel in times.compiled.kernels if times.compiled else ():
        yield place_of((phase, *scope_names(kernel.labels)))[0], kernel.moved


def _comparison(alike: Alike, configs: Sequence[Config]) -> Json:
    shown = [config.shown for config in configs]
    on_device = any(config.on_device for config in configs)
    costs = [part_costs(record, on_device) for record in shown]
    bare = [median_bare_ns(records) for records in alike.groups]
    return {
        "configs": list(alike.places),
        "on_device": on_device,
        "names": execution_names(shown),
        "rows": [
            {"part": part, "cells": [asdict(each.get(part, Cost())) for each in costs]}
            for part in parts_of(costs)
        ],
        "whole": [asdict(whole_cost(record, on_device)) for record in shown],
        "bare": bare,
    }
