"""Times as cycles of the SM clock: a change that is in them is of the work, and not of the clock.

The clock of a GPU follows its temperature and its power, and whoever locks it. Where it is known of
every pass of both sides, what is claimed of times has to hold of cycles, too. Times that do not
follow this clock, such as of what the memory holds up, are then withheld where the sides' clocks
differ: nobody can tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qwen3_profile.analysis.part_rows import PartPath
from qwen3_profile.records.quantiles import median

# Of one process each row in every pass, in ns.
Times = dict[PartPath, tuple[float, ...]]
# Of each process the SM clock in every pass, in MHz.
Clocks = Sequence[tuple[float, ...]]


@dataclass(frozen=True, slots=True)
class SideClocks:
    """The SM clock in every pass of each process of both sides, in MHz."""

    base: Clocks
    new: Clocks

    @property
    def middles(self) -> tuple[int, int]:
        """The median of each side."""
        return round(median(_all(self.base))), round(median(_all(self.new)))

    @property
    def words(self) -> str:
        """What keeps a claim of times from being one of cycles."""
        base, new = self.middles
        if base != new:
            return f"clocks differ: {base:,} against {new:,} MHz"
        every = [*_all(self.base), *_all(self.new)]
        return f"clocks vary: {min(every):,.0f} to {max(every):,.0f} MHz"


def _all(clocks: Clocks) -> list[float]:
    return [mhz for each in clocks for mhz in each]


def side_clocks(base: Clocks, new: Clocks) -> SideClocks | None:
    """None where they are not known of every process."""
    return SideClocks(base, new) if all((*base, *new)) else None


def as_cycles(side: Sequence[Times], clocks: Clocks) -> list[Times]:
    """The times of each process in cycles, pass by pass; rows without a time stay so."""
    return [
        {
            path: tuple(ns * mhz / 1e3 for ns, mhz in zip(passes, each, strict=True))
            for path, passes in times.items()
        }
        for times, each in zip(side, clocks, strict=True)
    ]
