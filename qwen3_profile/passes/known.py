"""What is known of a trace beside its file: from the run that recorded it, or from its capture."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qwen3_profile.passes.compiled.read import CompiledPass
    from qwen3_profile.passes.undisturbed import Undisturbed
    from qwen3_profile.run_folder.run_json import ConfigResult, EagerPass, Measurement


@dataclass(frozen=True, slots=True)
class Capture:
    """The trace of a capture, or of an eager pass, whose graphs another trace replays."""

    path: Path


@dataclass(frozen=True, slots=True)
class MeasuredConfig:
    """The config of a run, whose traces lie in `folder`."""

    folder: Path
    result: ConfigResult
    _compiled: dict[bool, CompiledPass] = field(default_factory=dict, init=False)

    def eager(self, path: Path) -> EagerPass | None:
        """The eager pass beside the replay of a graph whose trace this is."""
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
            clock = None if found is None else found.labels
        if measurement.device is not None:
            seen = measurement.device
            device = DeviceTrace(self.folder / seen.trace, seen.started_ns)
        return Undisturbed(self.result.phase, clock, device)

    @property
    def is_compiled(self) -> bool:
        return self.result.compiled is not None

    def compiled(self, *, accept_damaged: bool) -> CompiledPass:
        """What a compiled config was compiled to; read once for all of its traces."""
        from qwen3_profile.passes.compiled.read import load_compiled

        assert self.result.compiled is not None
        if accept_damaged not in self._compiled:
            self._compiled[accept_damaged] = load_compiled(
                self.folder, self.result.compiled, self.result.phase, accept=accept_damaged
            )
        return self._compiled[accept_damaged]


Known = Capture | MeasuredConfig
