"""What holds up each part of a pass: the memory, the products of matrices, or kernels that are too
short to reach either.

The bounds are those of TraceLens's roofline bands: from 60 % of the nearer roof on a part is bound
by it, below 30 % it is far from both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qwen3_profile import labels
from qwen3_profile.analysis.part_costs import part_costs
from qwen3_profile.analysis.roofline import COMPUTE, Roof, part_roofs
from qwen3_profile.analysis.verdict import (
    COMMUNICATION_BOUND,
    COMPUTE_BOUND,
    LATENCY_BOUND,
    MEMORY_BOUND,
    UNDECIDED,
)
from qwen3_profile.records.quantiles import quantile
from qwen3_profile.records.summary import NOISY

if TYPE_CHECKING:
    from qwen3_profile.records.record import TimingRecord

_NEAR, _FAR = 0.6, 0.3
# Both roofs are named where the floors that they set differ by less.
_RIDGE = 0.2
# A kernel is short that takes less than so many of the shortest ones.
_SHORT = 5
_LOW, _HIGH = 0.25, 0.75
_NS_PER_US = 1e3


@dataclass(frozen=True, slots=True)
class PartVerdict:
    """What holds up one part, of all layers together.

    kind: memory-, compute-, latency- or, of a collective, communication-bound, or undecided.
    why: where it is undecided, the reason.
    kernels: events on the device; where none was recorded, operators; None where not counted.
    share_low, share_high: of its roof, in three of four passes; of a single pass 10 % beside what
        it had, for its noise is not known.
    """

    name: str
    roof: Roof
    kernels: int | None
    kind: str
    why: str
    share_low: float
    share_high: float
    on_device: bool

    @property
    def gain_ns(self) -> float:
        """What could be saved at most: all of a collective that other work covers; else as `Roof`
        says.
        """
        return float(self.roof.ns) if self.kind == COMMUNICATION_BOUND else self.roof.gain_ns

    @property
    def mean_ns(self) -> float | None:
        """Of one kernel."""
        return self.roof.ns / self.kernels if self.kernels else None

    @property
    def is_at_the_ridge(self) -> bool:
        """Whether both roofs are about as near."""
        lower, upper = sorted((self.roof.compute_ns, self.roof.memory_ns))
        return bool(upper) and lower > (1 - _RIDGE) * upper


def part_verdicts(
    passes: Sequence[TimingRecord], shown: TimingRecord, on_device: bool
) -> tuple[PartVerdict, ...]:
    """The verdict on each part, those of the most time first; none without ceilings.

    Args:
        passes: one forward pass each, `shown` among them.
    """
    ceilings = shown.facts.ceilings
    if ceilings is None:
        return ()
    each_pass = {id(one): part_roofs(one, on_device) for one in passes}
    costs = part_costs(shown, on_device)
    found = []
    for name, roof in each_pass[id(shown)].items():
        if not roof.ns:
            continue
        shares = [one[name].share for one in each_pass.values() if name in one]
        low, high = _spread([share for share in shares if share is not None])
        kernels = costs[name].kernels
        kind, why = _verdict(roof, kernels, (low, high), ceilings.launch_ns)
        if name in labels.COLLECTIVES:
            kind, why = COMMUNICATION_BOUND, ""
        if kind == UNDECIDED and not why:
            why = _why_neither(roof, kernels, on_device)
        found.append(PartVerdict(name, roof, kernels, kind, why, low, high, on_device))
    return tuple(sorted(found, key=lambda each: -each.roof.ns))


def _spread(shares: Sequence[float]) -> tuple[float, float]:
    if len(shares) < 2:
        alone = shares[0] if shares else 0.0
        return alone * (1 - NOISY), alone * (1 + NOISY)
    ranked = sorted(shares)
    return float(quantile(ranked, _LOW)), float(quantile(ranked, _HIGH))


def _verdict(
    roof: Roof, kernels: int | None, shares: tuple[float, float], launch_ns: float
) -> tuple[str, str]:
    """The verdict, and the reason where there is none, unless it is that no roof is near."""
    if roof.is_empty:
        return LATENCY_BOUND, ""  # nothing but its calls
    if roof.share is None:
        return UNDECIDED, "it is not known what it computes and moves"
    if roof.is_impossible:
        return UNDECIDED, f"{roof.share:.0%} of its roof is impossible: {_why_impossible(roof)}"
    # What sets no floor may be what holds it up, unless the other one is at its roof.
    if roof.flops is None or (roof.bytes is None and roof.share < _NEAR):
        return UNDECIDED, "what it computes or moves is known in part only"
    kind = _kind(roof, roof.share, kernels, launch_ns)
    if any(_kind(roof, share, kernels, launch_ns) != kind for share in shares):
        return UNDECIDED, f"{shares[0]:.0%} to {shares[1]:.0%} of its roof, and the bound between"
    return kind, ""


def _kind(roof: Roof, share: float, kernels: int | None, launch_ns: float) -> str:
    if share >= _NEAR:
        return COMPUTE_BOUND if roof.bound == COMPUTE else MEMORY_BOUND
    if share < _FAR and kernels and roof.ns / kernels <= _SHORT * launch_ns:
        return LATENCY_BOUND
    return UNDECIDED


def _why_impossible(roof: Roof) -> str:
    if roof.bound == COMPUTE and roof.possible_ns < roof.floor_ns:
        return "no clock of this GPU is so high, so less was computed than counted"
    if roof.bound == COMPUTE:
        return "the clock was higher than when the ceiling was measured, or less was computed"
    return "its data lie in a cache"


def _why_neither(roof: Roof, kernels: int | None, on_device: bool) -> str:
    share = roof.share or 0.0
    if share >= _FAR:
        return f"{share:.0%} of its roof: neither near it nor far from it"
    each = f"{roof.ns / kernels / _NS_PER_US:.1f} us" if kernels else ""
    if on_device:
        what = f", in kernels of {each}" if each else ""
        return f"far from both roofs, {share:.0%}{what}: the kernels themselves are slow"
    what = f", in operators of {each}" if each else ""
    return f"far from both roofs, {share:.0%}{what}: the operators themselves are slow"
