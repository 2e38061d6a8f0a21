"""The clock of a GPU while its passes ran, as run.json keeps it."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

from qwen3_profile.run_folder.bounds import Mhz


@dataclass(frozen=True, slots=True)
class SmClock:
    """The clock of the GPU's multiprocessors, in MHz, before and after each kind of pass.

    Of decode steps that follow each other, before and after the first and the last one. Empty where
    NVML does not tell.
    """

    bare: tuple[Mhz, ...] = ()
    clock: tuple[Mhz, ...] = ()
    device: tuple[Mhz, ...] = ()
    traced: tuple[Mhz, ...] = ()

    def of(self, kind: str) -> float | None:
        """The median around one kind of pass; None where nobody told."""
        found: tuple[int, ...] = getattr(self, kind)
        return median(found) if found else None


UNKNOWN = SmClock()
