"""Findings: what of a trace is to be doubted, and what refuses it. `checks.py` makes most."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from qwen3_profile.attribution.parts import Part
from qwen3_profile.errors import DamagedTraceError

NOTE, WARNING, DAMAGE = "note", "warning", "damage"
# The code of what `check_fallbacks` finds.
FALLBACK = "torch-fallback"


@dataclass(frozen=True, slots=True)
class Finding:
    """One kind of oddity in a trace.

    severity: "note" explains, "warning" is to be told, "damage" makes the figures wrong.
    code: a short name of the kind.
    message: one sentence with the figures in it.
    count: how many events; example: one of them by name.
    ns: their time on the device; of launches without an event, of ranges and of clocks the time on
        the host that is concerned.
    """

    severity: str
    code: str
    message: str
    count: int
    ns: int
    example: str


def counted(count: int, noun: str) -> str:
    """`1 event`, `2 events`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def microseconds(time_ns: int) -> str:
    """A time as the file writes it."""
    sign = "-" if time_ns < 0 else ""
    return f"{sign}{abs(time_ns) // 1000}.{abs(time_ns) % 1000:03d}"


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


def check_unlabelled(lines: Sequence[str]) -> tuple[Finding, ...]:
    """Tells which modules of the model no label could be put on."""
    if not lines:
        return ()
    message = (
        f"{len(lines)} kinds of modules have no label, the first: {lines[0]}; "
        "their time is in the row above them, or between their neighbours"
    )
    return (Finding(WARNING, "unlabelled", message, len(lines), 0, lines[0]),)


def check_fallbacks(
    lines: Iterable[str],
    forward: Part,
    packages: Mapping[str, str],
    *,
    passes: int = 1,
    on_device: bool,
) -> tuple[Finding, ...]:
    """Tells which parts ran in transformers' own code for want of a package, and what they took.

    Args:
        lines: path of the part, a colon, and what was called. packages: path -> what has kernels.
        passes: `forward` is the sum of so many.
        on_device: whether the device's time counts, on which such kernels would run.
    """
    called = dict.fromkeys(line.partition(":")[0] for line in lines)
    paths = [path for path in called if path in packages]  # another version may know more of them
    if not paths:
        return ()
    mine = [part.total for part in _ending_in(forward, paths)]
    ns = sum(each.device_ns if on_device else each.cpu_ns for each in mine)
    whole = forward.total.device_ns if on_device else forward.total.cpu_ns
    names = " and ".join(path.rpartition(".")[2] for path in paths)
    wanted = " and ".join(dict.fromkeys(packages[path] for path in paths))
    message = (
        f"{names} ran in transformers' own torch code, not in the kernels of {wanted}: "
        f"{ns / passes / 1e6:.3f} ms, {ns / (whole or 1):.0%} of the pass"
    )
    severity = WARNING if on_device else NOTE
    return (Finding(severity, FALLBACK, message, len(mine), ns // passes, names),)


def _ending_in(forward: Part, paths: Sequence[str]) -> Iterator[Part]:
    """The parts of all layers that are one of `paths`, alone or fused with others."""
    wanted = {tuple(path.rsplit(".", 1)) for path in paths}
    for part in forward.each():
        block, _, name = part.name.rpartition(".")
        if any((block.rpartition(".")[2], each) in wanted for each in name.split("+")):
            yield part


def check_uncounted(reason: str) -> tuple[Finding, ...]:
    """Tells why it is not known what the operators of a pass move."""
    if not reason:
        return ()
    message = f"the bytes that its operators move could not be counted: {reason}"
    return (Finding(WARNING, "traffic-uncounted", message, 1, 0, reason),)


def check_memory(seen: int, allocator: int | None) -> tuple[Finding, ...]:
    """Tells where not all memory was recorded.

    Args:
        seen, allocator: the peak by what was recorded, and the allocator's own, in bytes; None
            where it keeps none.
    """
    if allocator in (None, seen):
        return ()
    message = f"the peak of what was recorded is {seen} bytes, the allocator's own {allocator}"
    return (Finding(WARNING, "memory-incomplete", message, 1, 0, ""),)


def check_energy(reason: str) -> tuple[Finding, ...]:
    """Tells why no energy was measured, where somebody asked for it; it makes no time wrong."""
    if not reason:
        return ()
    message = f"no energy was measured: {reason}"
    return (Finding(NOTE, "energy-not-measured", message, 1, 0, reason),)


def check_log(messages: Sequence[str]) -> tuple[Finding, ...]:
    """Tells what the profiler complained of while it recorded; lost events show nowhere else."""
    if not messages:
        return ()
    message = f"the profiler's log has {len(messages)} warnings, the first: {messages[0]}"
    return (Finding(WARNING, "profiler-log", message, len(messages), 0, messages[0]),)


def check_loud(reason: str) -> tuple[Finding, ...]:
    """Tells that a device pass took longer than it had to."""
    if not reason:
        return ()
    message = f"the device pass recorded calls of the driver too, which slows it: {reason}"
    return (Finding(NOTE, "device-pass-loud", message, 1, 0, reason),)


def refuse_damage(path: str, findings: Iterable[Finding]) -> None:
    """Raises DamagedTraceError for the first finding that makes the figures wrong."""
    for finding in findings:
        if finding.severity == DAMAGE:
            raise DamagedTraceError(
                path,
                finding.message,
                "record the trace again, or export what is left with --accept-damaged",
            )
