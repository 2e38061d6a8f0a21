"""What tables and pages say of the passes of a config in sentences: what dominates, where the times
are from, how far they can be trusted.

Terminal, report and TensorBoard all say it, so that none contradicts another.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from qwen3_profile import labels
from qwen3_profile.analysis.median_pass import is_on_device, ns_of
from qwen3_profile.analysis.verdict import device_share
from qwen3_profile.attribution.findings import NOTE, Finding
from qwen3_profile.attribution.idle import IdleTimes
from qwen3_profile.attribution.idle_stretches import IdleStretch
from qwen3_profile.attribution.parts import Part
from qwen3_profile.attribution.pass_parts import collectives, short_name
from qwen3_profile.label_parts import blocks
from qwen3_profile.passes.pass_times import PassTimes
from qwen3_profile.records.quantiles import median
from qwen3_profile.records.record import TimingRecord
from qwen3_profile.records.summary import NOISY, is_noisy, spread

if TYPE_CHECKING:
    from qwen3_profile.analysis.totals import Totals

_NAMED_PARTS = 5
# Of the pass: less than this would be printed as 0.0 %.
_LEAST_SHARE = 0.0005
# Of the idle time: less than this would be printed as 0 %.
_LEAST_IDLE = 0.005
# Of a trace's device time: what may lie outside of its ranges without a word.
_MUCH_OUTSIDE = 0.05
# Of the longest idle times so many are named, if they are more than this share of the pass.
_NAMED_STRETCHES = 3
_LONG_SHARE = 0.02
_NS_PER_MS = 1e6


def sentences(records: Sequence[TimingRecord], shown: TimingRecord) -> tuple[str, ...]:
    """What dominates: the device or the wait for it, and the largest parts.

    Args:
        records: of one config and phase, at least one.
        shown: the one of them whose parts the tables show.
    """
    share = device_share(records)
    found = [share.sentence] if share is not None else []
    found.append(largest_parts(shown.times.forward, share is not None))
    return (*found, *_outside_of_ranges(shown))


def _outside_of_ranges(shown: TimingRecord) -> tuple[str, ...]:
    """Of a whole trace: that its ranges stand for a part of the device's time alone."""
    share = unattributed_share(shown.times)
    if shown.phase != labels.WHOLE_TRACE or share < _MUCH_OUTSIDE:
        return ()
    return (
        f"{share:.1%} of all CUDA time belongs to none of these ranges and is in no row; "
        "--ledger FILE --kernels names its kernels.",
    )


def source_sentence(totals: Totals) -> str:
    """From which passes the times are, and how much these were disturbed; empty of a lone trace."""
    overhead, shown = totals.overhead, totals.passes[0]
    if overhead is None:
        return ""
    traced = f"traced passes ({overhead_words(totals, overhead.traced)})"
    clock, device = traced, traced
    if shown.cpu_source == "clock" and overhead.clock is not None:
        clock = f"clock passes ({overhead_words(totals, overhead.clock)})"
    if shown.idle_source == "device" and overhead.device is not None:
        device = f"device passes ({overhead_words(totals, overhead.device)})"
    if not is_on_device(totals.passes):
        return f"CPU times are from {clock}."
    if clock == device:
        return f"All times of parts are from {traced}."
    who = "" if traced in (clock, device) else f"; who launched what, from {traced}"
    return f"CPU times are from {clock}, device times from {device}{who}."


def overhead_words(totals: Totals, ratio: float) -> str:
    """How long watched passes took against bare ones: `1.31x bare`.

    The overhead is within noise where they took no longer than the slowest bare pass did.
    """
    bare_ns = totals.all_bare_ns
    slowest = max(bare_ns) / median(bare_ns) if bare_ns else 1.0
    within = ", overhead within noise" if ratio <= slowest else ""
    return f"{ratio:.2f}x bare{within}"


def largest_parts(forward: Part, on_device: bool) -> str:
    """The parts that hold no named ones, each summed over the layers, largest first; and what of
    their containers no part explains.

    Of a whole trace the ranges, each without those inside it.
    """
    times: Counter[str] = Counter()
    if forward.name == labels.WHOLE_TRACE:
        for part in forward.each():
            if part.name != labels.WHOLE_TRACE:
                times[short_name(part)] += ns_of(part.own, on_device)
        return _most_time(times, forward, on_device)
    for name, part, inside in _smallest(forward):
        apart = sum(ns_of(each.total, on_device) for each in inside)
        times[name] += ns_of(part.total, on_device) - apart
    return _most_time(times, forward, on_device)


def _most_time(times: Counter[str], forward: Part, on_device: bool) -> str:
    whole = ns_of(forward.total, on_device)
    times[labels.OTHER] += whole - times.total()
    if not whole:
        return ""
    top = [(n, ns) for n, ns in times.most_common(_NAMED_PARTS) if ns >= _LEAST_SHARE * whole]
    if not top:
        return ""
    named = ", ".join(f"{name} {ns / whole:.1%}" for name, ns in top)
    total = sum(ns for _, ns in top) / whole
    kind = "CUDA" if on_device else "CPU"
    in_total = f"; top {len(top)}: {total:.1%} in total" if len(top) > 1 else ""
    where = " inside these ranges" if forward.name == labels.WHOLE_TRACE else ""
    return f"Most {kind} time{where}: {named}{in_total}."


def idle_classes(idle: IdleTimes) -> str:
    """Whose turn it was while the device idled, in shares."""
    shares = sorted(idle._asdict().items(), key=lambda item: -item[1])
    named = [
        f"{name.removesuffix('_ns').replace('_', ' ')} {ns / idle.ns:.0%}"
        for name, ns in shares
        if ns >= _LEAST_IDLE * idle.ns > 0
    ]
    return f"idle: {', '.join(named)}" if named else "the GPU was never idle"


def idle_sentences(shown: TimingRecord) -> tuple[str, ...]:
    """The longest idle times of the traced pass, as far as they are long."""
    span_ns = shown.times.busy_ns + shown.times.gap_ns
    return tuple(
        _idle_sentence(each, is_longest=not at)
        for at, each in enumerate(shown.times.stretches[:_NAMED_STRETCHES])
        if each.idle.ns > _LONG_SHARE * span_ns
    )


def _idle_sentence(stretch: IdleStretch, is_longest: bool) -> str:
    before = f" before {stretch.before}" if stretch.before else ""
    host = f"; the host was in {stretch.host}" if stretch.host else ""
    turn = longest_class(stretch.idle)
    idle_ms = stretch.idle.ns / _NS_PER_MS
    if is_longest:
        return f"Longest idle: {idle_ms:.3f} ms{before}, mostly {turn}{host}."
    return f"Next longest: {idle_ms:.3f} ms{before}, mostly {turn}{host}."


def longest_class(idle: IdleTimes) -> str:
    """Whose turn it was for the most of an idle time."""
    return _class_name(max(idle._asdict().items(), key=lambda item: item[1])[0])


def _class_name(field: str) -> str:
    return field.removesuffix("_ns").replace("_", " ")


def noise(times_ns: Sequence[float]) -> str:
    """How much these times of the same pass vary; empty where that is little, or not known."""
    if not times_ns or not is_noisy(stats := spread(times_ns)):
        return ""
    return f"IQR is {stats['iqr'] / stats['median']:.1%} of the median, over {NOISY:.0%}"


def unattributed_share(times: PassTimes) -> float:
    """How much of the device's time belongs to no label."""
    return times.unattributed_ns / times.device_ns if times.device_ns else 0.0


def all_findings(passes: Iterable[TimingRecord]) -> tuple[Finding, ...]:
    """What is odd in the traces, each once."""
    return tuple(dict.fromkeys(finding for each in passes for finding in each.findings))


def severe_findings(passes: Iterable[TimingRecord]) -> tuple[Finding, ...]:
    """Of these what may make a time wrong, not what is only noted."""
    return tuple(finding for finding in all_findings(passes) if finding.severity != NOTE)


def _smallest(forward: Part) -> Iterator[tuple[str, Part, tuple[Part, ...]]]:
    """The parts below the containers of our grammar, each with the collectives inside it.

    What another program has below them, such as the activation in the experts, is theirs.
    """
    waiting = [] if forward.name == labels.WHOLE_TRACE else list(forward.parts)
    while waiting:
        part = waiting.pop()
        label = labels.parse(part.name)
        is_leaf = label is None or label.kind == "leaf"
        # A block whose parts nobody labelled is a part itself.
        is_leaf |= label is not None and label.kind in blocks() and not part.parts
        if part.name == labels.BACKWARD or not is_leaf:
            waiting += part.parts
            continue
        inside = tuple(each for each in collectives(part) if each is not part)
        yield short_name(part), part, inside
        waiting += inside
