"""The clock of a GPU while its passes ran, as run.json keeps it."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

from qwen3_profile.run_folder.bounds import Size


@dataclass(frozen=True, slots=True)
class SmClock:
    """The clock of the GPU's multiprocessors, in MHz, before and after each kind of pass.

    Of decode steps that follow each other, before and after the first and the last one. Empty where
    NVML does not tell.
    """

    bare: tuple[Size, ...] = ()
    clock: tuple[Size, ...] = ()
    device: tuple[Size, ...] = ()
    traced: tuple[Size, ...] = ()

    def of(self, kind: str) -> float | None:
        """The median around one kind of pass; None where nobody told."""
        found: tuple[int, ...] = getattr(self, kind)
        return median(found) if found else None


UNKNOWN = SmClock()
