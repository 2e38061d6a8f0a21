"""The roofline plot of a report: the roofs that were measured, and a point for each part; and the
verdicts on these, which parts without a place in the plot have, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qwen3_profile.analysis.claims import Claim
from qwen3_profile.analysis.explain import Explanation, evidence
from qwen3_profile.analysis.part_rows import FAMILIES, PartRow
from qwen3_profile.analysis.part_verdicts import PartVerdict


@dataclass(frozen=True, slots=True)
class RooflinePoint:
    """A part of all layers together, at the FLOPs that it computes for each byte and each second.

    family: its number in `FAMILIES`.
    """

    name: str
    family: int
    intensity: float
    flops_per_s: float
    bytes_per_s: float
    ns: int
    floor_ns: float
    share: float
    verdict: str


@dataclass(frozen=True, slots=True)
class Roofline:
    """The plot of one config. others: parts that multiply nothing, and so have no place in it."""

    dtype: str
    flops_per_s: float
    bytes_per_s: float
    sentence: str
    points: tuple[RooflinePoint, ...]
    others: int


@dataclass(frozen=True, slots=True)
class VerdictRow:
    """What holds a part up, of all layers together.

    family: its number in `FAMILIES`. share: of its roof. gain_ns: at most to gain; None where
    nothing is claimed. why: what the verdict rests on. advice: what usually helps.
    """

    name: str
    family: int
    ns: int
    share: float | None
    gain_ns: float | None
    verdict: str
    why: str
    advice: str


def verdict_rows(found: Explanation, rows: Sequence[PartRow]) -> tuple[VerdictRow, ...]:
    """Of each part that something is claimed of, or nothing for a reason; the longest first."""
    families, parts = _families(rows), {part.name: part for part in found.parts}
    return tuple(
        _verdict_row(claim, parts[claim.subject], families.get(claim.subject, len(FAMILIES) - 1))
        for claim in found.claims[1:]
    )


def _verdict_row(claim: Claim, part: PartVerdict, family: int) -> VerdictRow:
    return VerdictRow(
        name=claim.subject,
        family=family,
        ns=part.roof.ns,
        share=part.roof.share,
        gain_ns=claim.gain_ns,
        verdict=claim.verdict,
        why=claim.withheld or evidence(part),
        advice=claim.advice,
    )


def _families(rows: Sequence[PartRow]) -> dict[str, int]:
    return {row.name: FAMILIES.index(row.family) for row in rows}


def roofline_of(found: Explanation, rows: Sequence[PartRow]) -> Roofline | None:
    """The plot of what is said of one config; None where no part's FLOPs and bytes are known."""
    families = _families(rows)
    points = tuple(
        _point(part, families.get(part.name, len(FAMILIES) - 1))
        for part in found.parts
        if _has_place(part)
    )
    return _plot(found, points) if points else None


def _has_place(part: PartVerdict) -> bool:
    return bool(part.roof.intensity and part.roof.flops_per_s)


def _point(part: PartVerdict, family: int) -> RooflinePoint:
    roof = part.roof
    return RooflinePoint(
        name=part.name,
        family=family,
        intensity=roof.intensity or 0.0,
        flops_per_s=roof.flops_per_s or 0.0,
        bytes_per_s=roof.bytes_per_s or 0.0,
        ns=roof.ns,
        floor_ns=roof.floor_ns,
        share=roof.share or 0.0,
        verdict=part.kind,
    )


def _plot(found: Explanation, points: tuple[RooflinePoint, ...]) -> Roofline:
    assert found.ceilings is not None
    return Roofline(
        dtype=found.ceilings.dtype,
        flops_per_s=found.ceilings.flops_per_s,
        bytes_per_s=found.ceilings.bytes_per_s,
        sentence=f"{found.phase} is {found.claims[0].sentence}",
        points=points,
        others=len(found.parts) - len(points),
    )
