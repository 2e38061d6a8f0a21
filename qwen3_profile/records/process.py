"""One process of a comparison.

A process is what made its passes fast or slow together: its place in memory, its threads, the
clock of its card. So a run's folder is one, a folder of runs one for each run, a file of records
one for each run that it holds, a folder of such files all of theirs, and a trace is one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from qwen3_profile.attribution.kernels import KernelRow
from qwen3_profile.records.record import TimingRecord

Group = tuple[TimingRecord, ...]


@dataclass(frozen=True, slots=True)
class Process:
    """One process that measured.

    id: unique. name: what a reader knows it by.
    groups: its records, by config and phase.
    source: the run's folder or the trace in which its kernels can be seen; None where the records
        are all there is. capture: of a trace of replays, the trace of their capture.
    kernels: of a ledger, its kernels; None where they were not asked for.
    """

    id: str
    name: str
    groups: tuple[Group, ...]
    source: Path | None = None
    capture: Path | None = None
    kernels: tuple[KernelRow, ...] | None = None

    @property
    def span(self) -> tuple[str, str]:
        """When its first run began, and its last; empty where nobody knows."""
        times = [record.timestamp for group in self.groups for record in group]
        return min(times), max(times)


@dataclass(frozen=True, slots=True)
class PassKernels:
    """The kernels of the traced passes of one run: those of each part by itself.

    passes: how many they are.
    """

    passes: int
    rows: tuple[KernelRow, ...]


# Reads the kernels of each run of a group; none where they cannot be seen.
ReadKernels = Callable[[Process, Group], tuple[PassKernels, ...]]
