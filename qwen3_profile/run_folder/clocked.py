"""What the labels of a pass took by the host's clock, with no profiler; and the file of it.

    {"schema_version": 1, "passes": [{"position": 0, "wall_ns": 24500000, "labels": {
        "names": ["prefill", "embed_tokens"], "label": [0, 1], "start_ns": [0, 8123],
        "dur_ns": [24310000, 61040]}}]}

gzip of JSON. Pure data: no torch, no numpy.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from qwen3_profile.run_folder.side_files import read_versioned
from qwen3_profile.system.files import write_atomic

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class ClockedLabels:
    """The labels of one pass in order of their begins; they nest. Parallel lists.

    label: an index into `names`. start_ns: since the first one began.
    """

    names: tuple[str, ...]
    label: list[int]
    start_ns: list[int]
    dur_ns: list[int]

    def __post_init__(self) -> None:
        if not len(self.label) == len(self.start_ns) == len(self.dur_ns):
            raise ValueError("its labels and their times are not of the same number")
        if any(not 0 <= number < len(self.names) for number in self.label):
            raise ValueError("a label has no name")


@dataclass(frozen=True, slots=True)
class ClockedPass:
    """A pass whose labels read the clock.

    position: of a decode step, how many came before it.
    wall_ns: between two synchronisations, as of a bare pass.
    """

    position: int
    wall_ns: int
    labels: ClockedLabels


@dataclass(frozen=True, slots=True)
class _File:
    schema_version: int
    passes: tuple[ClockedPass, ...]


def write_clocked(path: Path, passes: tuple[ClockedPass, ...]) -> None:
    """Writes the passes whole or not at all."""
    data = msgspec.json.encode(_File(SCHEMA_VERSION, passes))
    write_atomic(path, gzip.compress(data, compresslevel=6))


def read_clocked(path: Path) -> Mapping[int, ClockedPass]:
    """Position -> pass, as `write_clocked` wrote them.

    Raises:
        TraceError: it is not there, not ours, or of a newer schema.
    """
    found = read_versioned(path, _File, SCHEMA_VERSION, "file of clocked labels")
    return {each.position: each for each in found.passes}
