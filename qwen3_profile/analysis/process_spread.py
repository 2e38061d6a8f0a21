"""How much processes of the same config differ, and what so many of them could tell apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np

from qwen3_profile.analysis.comparison.rows import WHOLE
from qwen3_profile.analysis.comparison.samples import middle, samples_of
from qwen3_profile.analysis.comparison.settings import describe, members_of
from qwen3_profile.analysis.comparison.statistics import mean_time, smallest_change
from qwen3_profile.analysis.median_pass import is_on_device
from qwen3_profile.analysis.part_rows import PartPath
from qwen3_profile.records.process import Process


@dataclass(frozen=True, slots=True)
class Spread:
    """One time of one config in several processes.

    between, within: standard deviation of the processes' medians, and of the passes of a process;
    as shares. sees: the smallest slowdown that so many processes a side would find with 80 %.
    """

    config: str
    path: PartPath
    processes: int
    mean_ns: float
    between: float
    within: float
    sees: float


def spreads_of(processes: Sequence[Process], alpha: float) -> Iterator[Spread]:
    """The bare passes of each config, and the times of its parts together.

    Args:
        processes: two at least.
    """
    for members in members_of(processes).values():
        on_device = all(is_on_device(records) for _, records in members)
        each = [samples_of(*member, "part", on_device, lambda *_: ()) for member in members]
        config = describe(each[0].records[0])
        whole = (each[0].records[0].phase,)
        if all(one.bare_ns for one in each):
            yield _spread(config, WHOLE, [one.bare_ns for one in each], alpha)
        yield _spread(config, whole, [one.rows[whole] for one in each], alpha)


def _spread(config: str, path: PartPath, passes: Sequence[Sequence[float]], alpha: float) -> Spread:
    logs = np.log([middle(each) for each in passes])
    between = float(logs.std(ddof=1))
    several = [np.log(each).var(ddof=1) for each in passes if len(each) > 1]
    within = sqrt(float(np.mean(several))) if several else 0.0
    sees = smallest_change(between, len(passes), alpha)
    return Spread(config, path, len(passes), mean_time(logs), between, within, sees)
