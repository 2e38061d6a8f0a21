"""What the files of one config are called in its run's folder, and the number of each session."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from qwen3_profile.run_folder.bytes_moved import Traffic, write_traffic
from qwen3_profile.run_folder.clocked import ClockedPass, write_clocked
from qwen3_profile.run_folder.layout import RAW_FOLDER
from qwen3_profile.run_folder.memory_events import MemoryPass, write_memory
from qwen3_profile.run_folder.run_json import write_nodes


@dataclass(frozen=True, slots=True)
class TraceSlot:
    """Where one session of the profiler is to go.

    step: k of its `ProfilerStep#k`, which is unique in the config.
    trace: its file, relative to the run's folder.
    """

    folder: Path
    trace: str
    step: int

    @property
    def path(self) -> Path:
        return self.folder / self.trace


class ConfigFiles:
    """The files of one config. All names are relative to the run's folder.

    Args:
        folder: the run's.
        worker: with which all names begin.
    """

    def __init__(self, folder: Path, worker: str) -> None:
        self.worker = worker
        self._folder = folder
        self._sessions = 0

    def slot(self, phase: str, what: str) -> TraceSlot:
        """For the next session; `what` tells it from the others of its phase, such as `run0`."""
        name = f"{RAW_FOLDER}/{self.worker}_{phase}.{what}.kineto.json.gz"
        self._sessions += 1
        return TraceSlot(self._folder, name, self._sessions - 1)

    def write_nodes(self, phase: str, run_index: int, labels: Mapping[int, str]) -> str:
        """Keeps the label of each node of a phase's graph; gives the file."""
        name = f"{RAW_FOLDER}/{self.worker}_{phase}.run{run_index}.nodes.json"
        write_nodes(self._folder / name, labels)
        return name

    def write_clocked(self, phase: str, run_index: int, passes: tuple[ClockedPass, ...]) -> str:
        """Keeps what the labels of each pass took by the clock; gives the file."""
        name = f"{RAW_FOLDER}/{self.worker}_{phase}.run{run_index}.clock.json.gz"
        write_clocked(self._folder / name, passes)
        return name

    def write_traffic(self, phase: str, passes: Mapping[int, Traffic]) -> str:
        """Keeps what each position of a phase moves; gives the file."""
        name = f"{self.worker}_{phase}.traffic.json"
        write_traffic(self._folder / name, passes)
        return name

    def write_memory(self, phase: str, passes: Sequence[MemoryPass]) -> str:
        """Keeps what passes of a phase allocated; gives the file."""
        name = f"{self.worker}_{phase}.memory.json.gz"
        write_memory(self._folder / name, passes)
        return name

    def provenance(self) -> tuple[str, Path]:
        """The file of what compiled kernels were compiled from, and where it lies."""
        name = f"{self.worker}.provenance.json"
        return name, self._folder / name
