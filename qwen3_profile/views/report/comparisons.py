"""The bytes that the rows of the parts table move, and the executions that can be compared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from qwen3_profile.analysis.compare_configs import ExecutionComparison, compare_executions
from qwen3_profile.analysis.part_costs import Cost
from qwen3_profile.analysis.part_rows import PartPath, own_path, place_of
from qwen3_profile.passes.compiled.scopes import scope_names
from qwen3_profile.passes.pass_times import StepTimes
from qwen3_profile.run_folder.bytes_moved import Moved
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
    return [_comparison(each) for each in compare_executions([c.records for c in configs])]


def _paths(times: StepTimes) -> Iterator[tuple[PartPath, Moved]]:
    """The row in which each label lies, and each kernel, as the table has them."""
    phase = times.forward.name
    for label, moved in times.traffic.labels.items() if times.traffic else ():
        yield place_of((phase, *scope_names((label,))))[0], moved
    for kernel in times.compiled.kernels if times.compiled else ():
        yield place_of((phase, *scope_names(kernel.labels)))[0], kernel.moved


def _comparison(compared: ExecutionComparison) -> Json:
    executions = compared.executions
    return {
        "configs": list(compared.places),
        "on_device": compared.on_device,
        "names": [each.name for each in executions],
        "rows": [
            {"part": part, "cells": [asdict(e.parts.get(part, Cost())) for e in executions]}
            for part in compared.parts
        ],
        "whole": [asdict(each.whole) for each in executions],
        "bare": [each.bare_ns for each in executions],
    }
