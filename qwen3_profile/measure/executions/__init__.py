"""The ways of running one forward pass: eager, training step, CUDA graph, compiled, a call of
one's own. Each is an `Execution`, and the loop in `measurement` knows no more of it.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from qwen3_profile.config import RunConfig
from qwen3_profile.measure.config_files import ConfigFiles
from qwen3_profile.measure.instrument import Instrumentation
from qwen3_profile.measure.pass_kinds import PassKind, SeriesOfPasses
from qwen3_profile.measure.ranges import PROFILER_RANGES, LabelMaker, Phase
from qwen3_profile.run_folder.run_json import Compiled


class Execution(Protocol):
    """A way of running the forward passes of one config.

    phases: what is measured, in this order.
    kinds: the kinds of pass that one run is made of, in this order.
    lengths: the tokens of each sequence of the input.
    """

    @property
    def config(self) -> RunConfig: ...  # pragma: no cover

    @property
    def phases(self) -> tuple[Phase, ...]: ...  # pragma: no cover

    @property
    def lengths(self) -> tuple[int, ...]: ...  # pragma: no cover

    def prepared(self, files: ConfigFiles) -> AbstractContextManager[Compiled | None]:
        """Round all passes: the model as the config wants it; how it was compiled, if it was."""

    @property
    def kinds(self) -> tuple[PassKind, ...]: ...  # pragma: no cover

    def labelled(
        self, labels: LabelMaker = PROFILER_RANGES
    ) -> AbstractContextManager[Instrumentation]:
        """The model with its labels, as far as this way of running it lets them be."""

    def warm_up(self) -> None:
        """Runs once what is measured later."""

    def passes(self, kind: PassKind) -> SeriesOfPasses:
        """What one run measures under `kind`."""

    def counted(self) -> SeriesOfPasses:
        """Passes of each phase whose bytes can be counted; their chosen ones are.

        Raises:
            UncountedError: those of the model cannot be.
        """


class UncountedError(Exception):
    """Why the bytes of an execution are not counted, in words for the user."""
