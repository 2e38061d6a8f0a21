"""Replays that a run measured, with the labels of the eager pass that was traced next to them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from qwen3_profile.attribution.attribute import Attribution
from qwen3_profile.attribution.findings import Finding
from qwen3_profile.passes.cuda_graphs.assign import Reassign, label_replays
from qwen3_profile.passes.cuda_graphs.reference import find_step_reference
from qwen3_profile.passes.labelled import read_label_ranges, read_labels
from qwen3_profile.passes.reading import Reading
from qwen3_profile.run_folder.run_json import EagerPass, read_nodes
from qwen3_profile.trace import Trace, read_trace


@dataclass(frozen=True, slots=True)
class MeasuredReplay:
    """The replay of a graph in a run.

    path: its trace. folder: the run's.
    beside: the eager pass that it repeats.
    quantised: as of `read_labels`.
    """

    path: Path
    folder: Path
    phase: str
    beside: EagerPass
    quantised: tuple[str, ...] = ()

    def read(self, *, accept_damaged: bool, with_eager: bool) -> Reading:
        """The passes of the replay's trace.

        Args:
            with_eager: also those of the eager pass.

        Raises:
            TraceError: a file is not there, or not a trace.
            DamagedTraceError: a trace whose figures would be wrong, unless that is accepted.
        """
        path, eager_path = self.path, self.folder / self.beside.trace
        trace, eager = self._traces(accept_damaged)
        beside = None
        if with_eager:
            found = read_labels(
                eager_path, eager, accept_damaged=accept_damaged, quantised=self.quantised
            )
            beside = found.sums
        reassign = self._reassign(eager)
        found = read_labels(path, trace, accept_damaged=accept_damaged, reassign=reassign)
        return replace(found, eager=beside)

    def read_ranges(self, *, accept_damaged: bool) -> Reading:
        """The labels of the replay's trace alone, as they lie in it, and those of its events."""
        trace, eager = self._traces(accept_damaged)
        return read_label_ranges(self.path, trace, self._reassign(eager))

    def _traces(self, accept_damaged: bool) -> tuple[Trace, Trace]:
        """That of the replay, and that of the eager pass."""
        replay, eager = (
            read_trace(path, accept_damaged=accept_damaged, launch_columns=True)
            for path in (self.path, self.folder / self.beside.trace)
        )
        return replay, eager

    def _reassign(self, eager: Trace) -> Reassign:
        """What gives the replay's device events the labels of the eager pass.

        Where that launched other kernels, the pass on the code for captures is looked at.
        """
        beside, phase = self.beside, self.phase
        nodes = read_nodes(self.folder / beside.nodes) if beside.nodes else {}

        def reassign(attribution: Attribution) -> tuple[Attribution, tuple[Finding, ...]]:
            first = find_step_reference(eager, beside.step, phase, "the eager pass", self.quantised)
            references = [] if first is None else [first]
            labelled, told = label_replays(attribution, references)
            if not told:
                return label_replays(attribution, references, nodes) if nodes else (labelled, ())
            captured = read_trace(self.folder / beside.captured_trace, launch_columns=True)
            what = "the eager pass on the code for captures"
            other = find_step_reference(captured, beside.captured_step, phase, what, self.quantised)
            references += [] if other is None else [other]
            return label_replays(attribution, references, nodes)

        return reassign
