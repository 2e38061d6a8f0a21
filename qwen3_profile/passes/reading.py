"""What one trace was read as: its forward passes with their sums, and what these are sums of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from qwen3_profile.attribution.attribute import Attribution, union_ns
from qwen3_profile.attribution.collective_times import Collectives, no_collectives
from qwen3_profile.attribution.collectives import communication, summed
from qwen3_profile.attribution.find_collectives import find_collectives
from qwen3_profile.attribution.findings import Finding
from qwen3_profile.attribution.pass_parts import layers
from qwen3_profile.attribution.processes import Process
from qwen3_profile.errors import DamagedTraceError
from qwen3_profile.passes.pass_times import PassTimes
from qwen3_profile.trace import Trace, TraceInfo
from qwen3_profile.trace.columns import occurring

# What tells the passes: our labels, nn.Module ranges, whatever ranges there are, the launches of
# captured graphs, or labels and the provenance of compiled kernels.
Source = Literal["label", "module", "range", "replay", "compiled"]


@dataclass(frozen=True, slots=True)
class Origin:
    """How a pass and its phase are known.

    phase_source: "label" of ours, "annotation: " and its text of a serving engine, or "unknown".
    model: the number of the model that it is of; a trace of another program may hold several.
    model_class: of that model, where the trace names it.
    process, rank: of a file with several processes, which one, and its rank if it says so.
    """

    phase_source: str = "label"
    model: int = 0
    model_class: str | None = None
    process: str | None = None
    rank: int | None = None


@dataclass(frozen=True, slots=True)
class DeviceTotals:
    """All device events of a trace, in whatever part.

    ns: their duration. busy_ns: the union of them.
    communication: who carried data between devices, and for how many ns.
    """

    ns: int
    events: int
    busy_ns: int
    communication: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """One trace as it was read.

    device: the names of the devices that worked; None where the trace names none.
    passes: in time order; none where the trace shows no forward pass. origins: one of each.
    findings: what is odd in the trace, and what could not be told of its passes.
    attribution: what the passes are sums of; None of a long trace that was read by windows.
    ranges: how many of its scopes, the first ones, lie on a time line. Those behind them were made
        to hold sums.
    eager: of the replay of a graph in a run, the reading of the eager pass next to it.
    traced: the attribution with the times of the trace itself, where those of less disturbed passes
        were taken; else None.
    processes: of a file with several, the reading of each, by its name.
    collectives: what the process exchanged with others.
    """

    path: Path
    info: TraceInfo
    source: Source
    device: str | None
    totals: DeviceTotals
    passes: tuple[PassTimes, ...]
    origins: tuple[Origin, ...]
    findings: tuple[Finding, ...]
    attribution: Attribution | None = None
    ranges: int = 0
    eager: Reading | None = None
    traced: Attribution | None = None
    processes: tuple[tuple[str, Reading], ...] = ()
    collectives: Collectives = field(default_factory=no_collectives)

    @property
    def has_layers(self) -> bool:
        return any(layers(each.forward) for each in self.passes)

    @property
    def is_empty(self) -> bool:
        """Whether the trace has no events."""
        return self.attribution is not None and self.attribution.trace.span is None

    @property
    def sums(self) -> Reading:
        """The same without what the sums are of: small, and quick to send to another process."""
        processes = tuple((name, each.sums) for name, each in self.processes)
        return replace(self, attribution=None, traced=None, processes=processes)


def reading_of(
    path: Path,
    source: Source,
    attribution: Attribution,
    ranges: int,
    passes: Sequence[PassTimes],
    findings: tuple[Finding, ...],
    origins: Sequence[Origin] = (),
    traced: Attribution | None = None,
) -> Reading:
    """What was read of a trace, with what the trace says of itself.

    Args:
        origins: one of each pass; none where our labels tell all of them.
        traced: with the times of the trace itself, where others were taken.
    """
    trace = attribution.trace
    return Reading(
        path=path,
        info=trace.info,
        source=source,
        device=used_devices(trace),
        totals=device_totals(trace),
        passes=tuple(passes),
        origins=tuple(origins) or (Origin(),) * len(passes),
        findings=findings,
        attribution=attribution,
        ranges=ranges,
        traced=traced,
        collectives=find_collectives(attribution, traced or attribution, ranges),
    )


def join_processes(
    path: Path, trace: Trace, told: Finding, processes: Sequence[tuple[Process, Reading]]
) -> Reading:
    """The passes of all processes of a file, one process after the other.

    Args:
        told: of there being several.
    """
    origins: list[Origin] = []
    for process, reading in processes:
        models = len({origin.model for origin in origins})
        origins += [
            replace(each, model=models + each.model, process=process.name, rank=process.rank)
            for each in reading.origins
        ]
    readings = [reading for _, reading in processes]
    findings = (finding for reading in readings for finding in reading.findings)
    return Reading(
        path=path,
        info=trace.info,
        source=readings[0].source,
        device=used_devices(trace),
        totals=device_totals(trace),
        passes=tuple(each for reading in readings for each in reading.passes),
        origins=tuple(origins),
        findings=(told, *dict.fromkeys(findings)),
        processes=tuple((process.name, reading) for process, reading in processes),
    )


def demand_balance(path: Path, passes: Iterable[PassTimes]) -> None:
    """Refuses passes whose parts and rest are not the sum of their device events."""
    for each in passes:
        if not each.balances:
            raise DamagedTraceError(
                str(path),
                f"step {each.number} does not balance: {each.forward.name} with "
                f"{each.forward.total.device_ns} ns and {each.unattributed_ns} ns without label "
                f"are not the {each.device_ns} ns of its device events",
                "a step may hold one forward pass, and no label outside it",
            )


def device_totals(trace: Trace) -> DeviceTotals:
    device = trace.device
    return DeviceTotals(
        ns=int(device.dur_ns.sum()),
        events=len(device),
        busy_ns=union_ns(device.start_ns, device.end_ns),
        communication=communication(trace),
    )


def sum_totals(several: Iterable[DeviceTotals]) -> DeviceTotals:
    """Those of traces that follow each other, where no event of one reaches into another."""
    found = tuple(several)
    return DeviceTotals(
        ns=sum(each.ns for each in found),
        events=sum(each.events for each in found),
        busy_ns=sum(each.busy_ns for each in found),
        communication=summed(each.communication for each in found),
    )


def used_devices(trace: Trace) -> str | None:
    """The names of the devices that worked; a trace lists all that its host has."""
    names = trace.info.devices
    if len(trace.device):
        pids = sorted({trace.tracks[at].pid for at in occurring(trace.device.track).tolist()})
        used = [int(pid) for pid in pids if pid.isascii() and pid.isdecimal() and len(pid) < 6]
        names = tuple(names[number] for number in used if number < len(names)) or names
    return ", ".join(dict.fromkeys(filter(None, names))) or None
