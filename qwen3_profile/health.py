"""A trace and its attribution in, findings out: what is to be doubted, and what refuses it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from qwen3_profile.errors import DamagedTraceError
from qwen3_profile.parts import Part
from qwen3_profile.scopes import ScopeTree
from qwen3_profile.trace.columns import Trace

NOTE, WARNING, DAMAGE = "note", "warning", "damage"


@dataclass(frozen=True, slots=True)
class Finding:
    """One kind of oddity in a trace.

    severity: "note" explains, "warning" is to be told, "damage" makes the figures wrong.
    code: a short name of the kind.
    message: one sentence with the figures in it.
    count: how many events; ns: their device time; example: one of them by name.
    """

    severity: str
    code: str
    message: str
    count: int
    ns: int
    example: str


def check_trace(trace: Trace, scopes: ScopeTree) -> tuple[Finding, ...]:
    """Looks for damage that shows without knowing what was to be recorded."""
    found = (_without_timestamps(trace), _crossing(scopes))
    return tuple(finding for finding in found if finding is not None)


def check_labels(parts: Iterable[Part], expected: Iterable[str]) -> tuple[Finding, ...]:
    """Compares the labels that a forward pass wrote with those that its model must write."""
    seen = {part.name for root in parts for _, part in root.walk()}
    missing = [name for name in expected if name not in seen]
    if not missing:
        return ()
    return (
        Finding(
            WARNING,
            "labels-missing",
            f"{len(missing)} labels are missing, the first is {missing[0]}; "
            "their time is in the row above them",
            count=len(missing),
            ns=0,
            example=missing[0],
        ),
    )


def check_log(messages: Sequence[str]) -> tuple[Finding, ...]:
    """Tells what the profiler complained of while it recorded; lost events show nowhere else."""
    if not messages:
        return ()
    message = f"the profiler's log has {len(messages)} warnings, the first: {messages[0]}"
    return (Finding(WARNING, "profiler-log", message, len(messages), 0, messages[0]),)


def refuse_damage(path: str, findings: Iterable[Finding]) -> None:
    """Raises DamagedTraceError for the first finding that makes the figures wrong."""
    for finding in findings:
        if finding.severity == DAMAGE:
            raise DamagedTraceError(path, finding.message, "record the trace again")


def _without_timestamps(trace: Trace) -> Finding | None:
    """Kineto wrote kernels with start 0 and duration 0 after a session spanned a graph capture."""
    device = trace.device
    blank = (device.start_ns == 0) & (device.dur_ns == 0)
    count = int(blank.sum())
    if count == 0 or trace.host.start_ns.min(initial=1) == 0:
        return None
    return Finding(
        DAMAGE,
        "no-timestamps",
        f"{count} of {len(device)} device events have neither a start nor a duration",
        count=count,
        ns=0,
        example=trace.names[device.name[blank][0]],
    )


def _crossing(scopes: ScopeTree) -> Finding | None:
    if not scopes.crossing:
        return None
    return Finding(
        WARNING,
        "labels-cross",
        f"{scopes.crossing} labels end after the label around them; they were cut at its end",
        count=scopes.crossing,
        ns=0,
        example="",
    )
