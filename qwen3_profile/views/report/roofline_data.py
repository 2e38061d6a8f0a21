"""The roofline plot of a report: the roofs that were measured, and a point for each part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qwen3_profile.analysis.explain import Explanation
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


def roofline_of(found: Explanation, rows: Sequence[PartRow]) -> Roofline | None:
    """The plot of what is said of one config; None where no part's FLOPs and bytes are known."""
    families = {row.name: FAMILIES.index(row.family) for row in rows}
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
