"""What is known of a trace besides its file: from the run that recorded it, or from its capture."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from qwen3_profile.errors import TraceError

if TYPE_CHECKING:
    from qwen3_profile.passes.compiled.read import CompiledPass
    from qwen3_profile.passes.undisturbed import Undisturbed
    from qwen3_profile.run_folder.clocked import ClockedPass
    from qwen3_profile.run_folder.run_json import ConfigResult, EagerPass, Measurement


@dataclass(frozen=True, slots=True)
class Capture:
    """The trace of a capture, or of an eager pass, whose graphs another trace replays."""

    path: Path


@dataclass(frozen=True, slots=True)
class MeasuredConfig:
    """The config of a run, whose traces lie in `folder`.

    compiled: what it was compiled to, with damage accepted or not; read once for all its traces.
    """

    folder: Path
    result: ConfigResult
    compiled: dict[bool, CompiledPass] = field(default_factory=dict, init=False)

    def eager(self, path: Path) -> EagerPass | None:
        """The eager pass next to the replay of a graph whose trace this is."""
        for each in self.result.measurements:
            if each.eager is not None and self.folder / each.trace == path:
                return each.eager
        return None

    def beside(self, path: Path) -> Undisturbed | None:
        """What was measured beside the pass of this trace, in passes that are disturbed less."""
        for each in self.result.measurements:
            if self.folder / each.trace == path and (each.clock or each.device):
                return self._beside(each)
        return None

    def _beside(self, measurement: Measurement) -> Undisturbed:
        from qwen3_profile.passes.undisturbed import DeviceTrace, Undisturbed
        from qwen3_profile.run_folder.clocked import read_clocked

        clock, device = None, None
        if measurement.clock:
            found = read_clocked(self.folder / measurement.clock).get(measurement.position)
            _check_clock(self.folder / measurement.clock, found, measurement.clock_ns)
            clock = None if found is None else found.labels
        if measurement.device is not None:
            seen = measurement.device
            device = DeviceTrace(self.folder / seen.trace, seen.started_ns, seen.wall_ns)
        return Undisturbed(self.result.phase, clock, device)


def _check_clock(path: Path, found: ClockedPass | None, wall_ns: int | None) -> None:
    """Refuses a clock pass that the run and its own file disagree about."""
    if found is not None and found.wall_ns != wall_ns:
        what = f"holds a clock pass of {found.wall_ns} ns, and run.json says {wall_ns}"
        raise TraceError(str(path), what, "it is not the file of this run; record the run again")


Known = Capture | MeasuredConfig
