"""What the page says first: the verdict, the numbers behind it, and what to do next."""

from __future__ import annotations

from dataclasses import dataclass

from qwen3_profile.analysis.claims import Claim
from qwen3_profile.analysis.part_rows import inside_of
from qwen3_profile.analysis.pass_sentences import largest_parts
from qwen3_profile.analysis.verdict import (
    BLOCKED,
    COMMUNICATION_BOUND,
    COMPUTE_BOUND,
    GPU_BOUND,
    LATENCY_BOUND,
    MEMORY_BOUND,
    MIXED,
    QUEUED,
    DeviceShare,
    next_step,
)
from qwen3_profile.labels import WHOLE_TRACE
from qwen3_profile.records.quantiles import median
from qwen3_profile.views.names import PASS_NAMES
from qwen3_profile.views.report.section_data import Config

_NS_PER_MS = 1e6
# Of a pass: what the other ranks wait for one of them, from which on it comes before all else.
_MUCH_WAITING = 0.05
# The pass is bound by what the device works on, and not by what it waits for.
_BY_WORK = (MEMORY_BOUND, COMPUTE_BOUND, LATENCY_BOUND)


@dataclass(frozen=True, slots=True)
class Number:
    """A number of the first screen: a time, or words."""

    label: str
    ns: float | None = None
    text: str | None = None


@dataclass(frozen=True, slots=True)
class FirstScreen:
    """verdict: in a word; None of a pass without a device."""

    verdict: str | None
    sentence: str
    numbers: tuple[Number, ...]
    next_step: str


def first_screen(config: Config) -> FirstScreen:
    """The verdict, the three numbers behind it, and what to do next."""
    share, execution = config.share, config.shown.facts.execution
    bound = _bound_by(config)
    verdict = bound.verdict if bound else share.verdict if share else None
    advice = _advice(config, bound)
    if share is None:
        largest = largest_parts(config.shown.times.forward, False)
        numbers = (_whole(config), *_speed(config))
        todo = advice or next_step(None, execution)
        return FirstScreen(verdict, f"CPU-only run. {largest}", numbers, todo)
    busy = Number("GPU busy", text=f"{share.share:.0%}")
    return FirstScreen(
        verdict,
        share.sentence,
        (_whole(config), busy, _reason(config, share, verdict)),
        _waited_for(config, share) or advice or next_step(share.verdict, execution),
    )


def _bound_by(config: Config) -> Claim | None:
    """What the pass is bound by where the roofs say more of it than how busy the device was; the
    roofline on the same page says it, too.
    """
    if config.explained is None:
        return None
    claim = config.explained.claims[0]
    if config.share is None:
        return claim if claim.verdict in _BY_WORK else None
    says_more = not claim.withheld and claim.verdict != config.share.verdict
    return claim if says_more else None


def _advice(config: Config, bound: Claim | None) -> str:
    """What helps against that, or against both where two lead alike."""
    claim = bound
    if claim is None and config.explained and config.share and config.share.verdict == MIXED:
        claim = config.explained.claims[0]
    return f"Next: {claim.advice}." if claim and claim.advice else ""


def _whole(config: Config) -> Number:
    """The time that the sentence speaks of; of a CPU that of the labels."""
    bare_ns, share = config.totals.all_bare_ns, config.share
    unit = PASS_NAMES.get(config.shown.phase, "forward pass")
    if bare_ns:
        return Number(f"{unit}, bare", ns=median(bare_ns))
    if config.shown.phase == WHOLE_TRACE:
        unit = "whole trace"
    if share is not None:
        return Number(f"{unit}, including profiler overhead", ns=share.span_ns)
    cpu_ns = median(each.times.forward.total.cpu_ns for each in config.passes)
    return Number(f"{unit}, including profiler overhead", ns=cpu_ns)


def _speed(config: Config) -> tuple[Number, ...]:
    """Tokens per second and the threads that made them, as far as they are known."""
    rates, environment = config.totals.tokens_per_second, config.shown.facts.environment
    speed = (Number("tokens per second", text=f"{median(rates):,.1f}"),) if rates else ()
    threads = environment.cpu_threads if environment else None
    return (*speed, *((Number("CPU threads", text=str(threads)),) if threads else ()))


def _reason(config: Config, share: DeviceShare, verdict: str | None) -> Number:
    """What makes the verdict the one that it is."""
    idle, whole_ns = share.idle, share.idle.ns or 1
    if verdict in (GPU_BOUND, *_BY_WORK):
        return _largest(config)
    if verdict == COMMUNICATION_BOUND:
        carried = share.communication_ns / share.busy_ns
        return Number("of GPU busy time in collectives", text=f"{carried:.0%}")
    if verdict == BLOCKED:
        label = "of its idle time blocked in a CPU call"
        return Number(label, text=f"{idle.blocked_ns / whole_ns:.0%}")
    if verdict == QUEUED:
        queued_ns = idle.queued_ns + idle.in_graph_ns
        return Number("of its idle time with work queued", text=f"{queued_ns / whole_ns:.0%}")
    return Number("of its idle time waiting for CPU launches", text=f"{share.host_share:.0%}")


def _largest(config: Config) -> Number:
    """The part that takes the most of the device's time."""
    leaves = [row for row in config.rows if row.is_leaf]
    most = max(leaves, key=lambda row: row.times.device_ns)
    of = most.times.device_ns / (config.shown.times.forward.total.device_ns or 1)
    name = " / ".join(inside_of(most.path)) or most.name
    return Number(f"of GPU time in the largest part, {name}", text=f"{of:.0%}")


def _waited_for(config: Config, share: DeviceShare) -> str:
    """Which rank holds up the others, where that is what to look at first; else empty."""
    waiting = config.ranks.waiting if config.ranks else None
    late = waiting.straggler if waiting else None
    if waiting is None or late is None:
        return ""
    each_ns = late.held_ns / waiting.passes
    if each_ns < _MUCH_WAITING * share.span_ns:
        return ""
    return (
        f"Next: see what rank {late.rank} does before it comes last: the first of the other ranks "
        f"waits {each_ns / _NS_PER_MS:.3f} ms in each pass for it; Ranks has it by part."
    )
