"""Why a pass is as slow as it is: one verdict on it, one on each part, with what they rest on; and
what is odd in it.

Each is a claim that a script can check: a sentence, the figures under it, what could be gained at
most, and what people usually do about it; or the reason why nothing is claimed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from qwen3_profile.analysis.advice import advice
from qwen3_profile.analysis.claims import Claim
from qwen3_profile.analysis.median_pass import is_on_device, median_record
from qwen3_profile.analysis.memory_fit import memory_fit
from qwen3_profile.analysis.odd_ones import odd_ones
from qwen3_profile.analysis.part_verdicts import PartVerdict, part_verdicts
from qwen3_profile.analysis.pass_sentences import severe_findings
from qwen3_profile.analysis.phase_verdict import (
    PhaseVerdict,
    bare_of,
    host_walls,
    phase_verdict,
)
from qwen3_profile.analysis.totals import Totals, totals_of
from qwen3_profile.analysis.verdict import (
    BLOCKED,
    COMMUNICATION_BOUND,
    COMPUTE_BOUND,
    LATENCY_BOUND,
    LAUNCH_BOUND,
    MEMORY_BOUND,
    UNDECIDED,
    DeviceShare,
    device_share,
)
from qwen3_profile.records.record import TimingRecord
from qwen3_profile.run_folder.ceilings import Ceilings

# Parts of less than this share of the pass are in the table, and not among the claims.
_LEAST = 0.01
_TWICE = 2
_NS_PER_MS, _BYTES_PER_MB = 1e6, 1e6
MEMORY, ENERGY = "memory", "energy"
_WOULD_FIT = "would fit"


@dataclass(frozen=True, slots=True)
class Explanation:
    """All that is said of one config and phase.

    parts: the verdicts that the table shows, of the most time first.
    shown: the pass that all of it is said of.
    claims: on the phase, and on its parts. odd: on what is odd. memory: on what the pass and its
        parts allocate, energy: on what energy the pass takes; none where that was not recorded.
    warnings: what may make any of it wrong.
    """

    run: str
    config_index: int
    phase: str
    on_device: bool
    ceilings: Ceilings | None
    whole: PhaseVerdict
    parts: tuple[PartVerdict, ...]
    claims: tuple[Claim, ...]
    odd: tuple[Claim, ...]
    memory: tuple[Claim, ...]
    energy: tuple[Claim, ...]
    shown: TimingRecord
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Judged:
    """A config and phase, once its pass and its parts have their verdicts."""

    totals: Totals
    shown: TimingRecord
    share: DeviceShare | None
    parts: tuple[PartVerdict, ...]
    whole: PhaseVerdict

    @property
    def claim(self) -> Claim:
        return _phase_claim(self.shown, self.whole, self.share)


def explain(records: Sequence[TimingRecord]) -> Explanation:
    """What is said of one config and phase.

    Args:
        records: its records, at least one.
    """
    found = _judged(records)
    totals, shown = found.totals, found.shown
    return Explanation(
        run=shown.facts.run,
        config_index=shown.config_index,
        phase=shown.phase,
        on_device=is_on_device(records),
        ceilings=shown.facts.ceilings,
        whole=found.whole,
        parts=found.parts,
        claims=(found.claim, *_part_claims(shown, found.parts, found.whole)),
        odd=odd_ones(totals),
        memory=tuple(_memory_claims(shown)),
        energy=tuple(_energy_claims(shown)),
        shown=shown,
        warnings=tuple(finding.message for finding in severe_findings(totals.passes)),
    )


def phase_claim(records: Sequence[TimingRecord]) -> Claim:
    """The first of those claims, on the whole pass, without the time that all others take.

    Args:
        records: of one config and phase, at least one.
    """
    return _judged(records).claim


def _judged(records: Sequence[TimingRecord]) -> _Judged:
    totals = totals_of(records)
    shown, on_device = median_record(totals.passes), is_on_device(records)
    share = device_share(totals.passes)
    parts = part_verdicts(totals.passes, shown, on_device)
    walls_ns = totals.all_bare_ns if on_device else host_walls(totals.passes)
    whole = phase_verdict(share, shown, parts, bare_of(share, shown, walls_ns))
    return _Judged(totals, shown, share, parts, whole)


def phase_sentence(shown: TimingRecord, whole: PhaseVerdict, share: DeviceShare | None) -> str:
    """The verdict on a phase, in one sentence."""
    split = _split(whole, share is not None)
    if whole.why:
        return f"undecided: {whole.why} ({split})."
    wall, best = _ms(whole.wall_ns), _ms(whole.best_ns)
    gain = f"{whole.gain:.1f}" if whole.gain >= _TWICE else f"{whole.gain:.2f}"
    most = f"At most {gain} times as fast without that: {best} in place of {wall}."
    meaning = _MEANING[whole.kind]
    if share is None and whole.kind == LAUNCH_BOUND:
        meaning = "the CPU spends most of the time on calling operators, not in their arithmetic"
    profiled = "" if whole.is_bare or share is None else ", profiler included"
    return f"{whole.kind}: {meaning} ({split}{profiled}). {most}"


_MEANING = {
    LAUNCH_BOUND: "the GPU mostly waits for the CPU to launch its next kernel",
    MEMORY_BOUND: "most of the time goes to parts that run as fast as the memory gives their bytes",
    COMPUTE_BOUND: "most of the time goes to parts that run as fast as matrices are multiplied",
    LATENCY_BOUND: "most of the time goes to kernels too short for bandwidth or FLOPs to matter",
    COMMUNICATION_BOUND: "most of the time devices exchange data and compute nothing meanwhile",
    BLOCKED: "the GPU mostly waits while the CPU sits in a call that waits for it",
}


def _phase_claim(shown: TimingRecord, whole: PhaseVerdict, share: DeviceShare | None) -> Claim:
    rests_on = {"wall_ns": whole.wall_ns, "busy_ns": whole.busy_ns, "best_ns": whole.best_ns}
    rests_on |= {f"{kind.replace('-', '_')}_ns": ns for kind, ns in whole.split.items()}
    if share is not None:
        rests_on |= {f"idle_{name}": float(ns) for name, ns in share.idle._asdict().items()}
    kinds, on_device = whole.tied or (whole.kind,), share is not None
    return Claim(
        subject=shown.phase,
        verdict=whole.kind,
        sentence=phase_sentence(shown, whole, share),
        rests_on=rests_on,
        gain_ns=None if whole.why else whole.wall_ns - whole.best_ns,
        advice="; ".join(filter(None, (_advice(kind, shown, on_device) for kind in kinds))),
        withheld=whole.why,
    )


def _advice(kind: str, shown: TimingRecord, on_device: bool) -> str:
    return advice(kind, shown.facts.execution, on_device, is_ours=shown.config is not None)


def _part_claims(
    shown: TimingRecord, parts: Sequence[PartVerdict], whole: PhaseVerdict
) -> Iterator[Claim]:
    for each in parts:
        if each.roof.ns >= _LEAST * whole.busy_ns:
            yield Claim(
                subject=each.name,
                verdict=each.kind,
                sentence=_part_sentence(each),
                rests_on=_part_figures(each),
                gain_ns=None if each.kind == UNDECIDED else each.gain_ns,
                advice=_advice(each.kind, shown, each.on_device),
                withheld=each.why,
            )


def _part_sentence(part: PartVerdict) -> str:
    if part.why:
        return f"{part.name}: undecided: {part.why}."
    gain = f"at most {_ms(part.gain_ns)} to gain"
    return f"{part.name}: {part.kind}: {evidence(part)}; {gain}."


def evidence(part: PartVerdict) -> str:
    """What a verdict on a part rests on, in a few words."""
    roof, share = part.roof, part.roof.share or 0.0
    if part.kind == COMMUNICATION_BOUND:
        return "devices exchange data, and compute nothing in it"
    if part.kind == LATENCY_BOUND and not roof.floor_ns:
        return "nothing but calls, which compute and move nothing"
    if part.kind == LATENCY_BOUND:
        return _short(part, share)
    if part.kind == COMPUTE_BOUND:
        rate = f"{(roof.flops_per_s or 0.0) / 1e12:.2f} TFLOP/s"
    else:
        rate = f"{(roof.bytes_per_s or 0.0) / 1e9:.1f} GB/s"
    beside = ", and the other roof is about as near" if part.is_at_the_ridge else ""
    if roof.is_at_a_higher_clock:
        beside = ", which was at a lower SM clock"
    return f"{rate}, {share:.0%} of what was measured{beside}"


def _short(part: PartVerdict, share: float) -> str:
    us, one = f"{(part.mean_ns or 0.0) / 1e3:.1f} us", part.kernels == 1
    if part.on_device:
        return (
            f"{part.kernels} {'kernel' if one else 'kernels'} of {us} each, too short to come near "
            f"a roof ({share:.0%})"
        )
    return (
        f"{part.kernels} {'operator' if one else 'operators'} of {us} each, too short to come near "
        f"a roof ({share:.0%})"
    )


def _part_figures(part: PartVerdict) -> dict[str, float]:
    roof = part.roof
    known = {
        "time_ns": float(roof.ns),
        "kernels": part.kernels,
        "flops": roof.flops,
        "bytes": roof.bytes,
        "flops_per_s": roof.flops_per_s,
        "bytes_per_s": roof.bytes_per_s,
        "flops_per_byte": roof.intensity,
        "floor_ns": roof.floor_ns or None,
        "share_of_roof": roof.share,
        "share_of_roof_low": part.share_low or None,
        "share_of_roof_high": part.share_high or None,
    }
    return {key: float(value) for key, value in known.items() if value is not None}


def _memory_claims(shown: TimingRecord) -> Iterator[Claim]:
    """What the pass, and each part in the layer where it is most, allocates."""
    memory = shown.memory
    if memory is None:
        return
    at_peak = {f"{name}_at_peak_bytes": float(count) for name, count in memory.at_peak.items()}
    started = {"start_bytes": memory.start_bytes, "weights_bytes": memory.weights_bytes}
    for name, each in {shown.phase: memory.whole, **memory.by_part()}.items():
        figures = {key: float(value) for key, value in asdict(each).items() if key != "label"}
        more = at_peak | started if each is memory.whole else {}
        peak, rise = each.peak_bytes / _BYTES_PER_MB, each.rise_bytes / _BYTES_PER_MB
        sentence = f"{name}: {peak:.3f} MB at the peak, {rise:.3f} MB more than before it."
        yield Claim(name, MEMORY, sentence, figures | more)
    fit = memory_fit(shown)
    if fit is not None:
        known = {key: float(value) for key, value in asdict(fit).items() if value is not None}
        yield Claim(_WOULD_FIT, MEMORY, fit.sentence, known)


def energy_sentences(shown: TimingRecord) -> tuple[str, ...]:
    """What energy a pass takes, and how that is known; none where it was not measured."""
    found = shown.energy
    if found is None:
        return ()
    limit, off = found.power_limit_w, found.resolution * found.joules
    said = [
        f"Energy: {found.joules:.4g} J per {shown.phase} pass, {found.joules_above_idle:.4g} J of "
        f"it above idle; {found.joules_per_token:.4g} J per token.",
        f"Mean power {found.power_w:.1f} W{f' of {limit:.0f} W allowed' if limit else ''}, idle "
        f"before that {found.idle_power_w:.1f} W.",
        f"Looped bare: {found.passes} passes in {found.seconds:.2f} s; the counter moves every "
        f"{found.update_seconds * 1e3:.1f} ms, so the energy of a pass may be off by {off:.2g} J "
        f"({found.resolution:.1%}).",
    ]
    if found.throttled:
        said.append(f"Meanwhile the clock was held back by {', '.join(found.throttled)}.")
    if found.others:
        said.append(f"Other processes had the GPU open ({found.others}): their energy is in it.")
    return tuple(said)


def _energy_claims(shown: TimingRecord) -> Iterator[Claim]:
    if shown.energy is not None:
        figures = asdict(shown.energy).items()
        known = {key: float(value) for key, value in figures if isinstance(value, (int, float))}
        yield Claim(shown.phase, ENERGY, " ".join(energy_sentences(shown)), known)


def _split(whole: PhaseVerdict, on_device: bool) -> str:
    total = sum(whole.split.values()) or 1.0
    short = _SHORT if on_device else _SHORT | {LAUNCH_BOUND: "calling operators"}
    named = [
        f"{short.get(kind, kind)} {ns / total:.0%}"
        for kind, ns in whole.split.items()
        if ns >= _LEAST * total
    ]
    return f"of {_ms(whole.wall_ns)}: {', '.join(named)}"


_SHORT = {
    LAUNCH_BOUND: "waiting for launches",
    MEMORY_BOUND: "memory-bound parts",
    COMPUTE_BOUND: "compute-bound parts",
    LATENCY_BOUND: "short kernels",
    COMMUNICATION_BOUND: "communication",
    UNDECIDED: "undecided parts",
}


def _ms(ns: float) -> str:
    return f"{ns / _NS_PER_MS:.3f} ms"
