"""Why a pass is slow, in the terminal: the verdict on it, and a table of those on its parts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict

from qwen3_profile.analysis.explain import Claim, Explanation
from qwen3_profile.analysis.part_verdicts import PartVerdict
from qwen3_profile.analysis.verdict import UNDECIDED
from qwen3_profile.views.terminal.cells import Table, milliseconds, roof_share, wrap
from qwen3_profile.views.terminal.summary_lines import ceilings_line

_TABLE = Table((-25, 10, 8, 9, 9, 8, 8, 9, 2, -14))
_GIGA, _TERA = 1e9, 1e12


def render_explanation(found: Explanation) -> str:
    """The page of one config and phase, at most 100 columns wide."""
    head, *parts = found.claims
    blocks = [
        f"{found.phase} of {found.run}, config {found.config_index}",
        "\n".join(filter(None, (wrap(f"{found.phase} is {head.sentence}"), _advice(head)))),
        _table(found),
        ceilings_line(found.ceilings),
        "\n".join(wrap(claim.sentence) for claim in parts if claim.verdict != UNDECIDED),
        "\n".join(wrap(claim.sentence) for claim in parts if claim.verdict == UNDECIDED),
        "\n".join(wrap(f"warning: {line}") for line in found.warnings),
    ]
    return "\n\n".join(block for block in blocks if block)


def explanation_json(found: Sequence[Explanation]) -> str:
    """A JSON list of the claims of each config and phase, for scripts; times in ns."""
    claims = [
        {**asdict(claim), "run": each.run, "config_index": each.config_index, "phase": each.phase}
        for each in found
        for claim in each.claims
    ]
    return json.dumps(claims, indent=2)


def _advice(claim: Claim) -> str:
    return wrap(f"What usually helps: {claim.advice}.") if claim.advice else ""


def _table(found: Explanation) -> str:
    if not found.parts:
        return ""
    kind = "cuda" if found.on_device else "cpu"
    head = _TABLE.line(
        "part, all layers", f"{kind} ms", "kernels", "TFLOP/s", "GB/s", "FLOP/B", "of roof",
        "floor ms", "", "verdict",
    )  # fmt: skip
    return "\n".join((head, *map(_row, found.parts)))


def _row(part: PartVerdict) -> str:
    return _TABLE.line(part.name, *_cells(part))


def _cells(part: PartVerdict) -> Iterator[str]:
    roof = part.roof
    yield milliseconds(roof.ns)
    yield "" if part.kernels is None else str(part.kernels)
    yield _figure(roof.flops_per_s, _TERA, 3)
    yield _figure(roof.bytes_per_s, _GIGA, 1)
    yield _figure(roof.intensity, 1.0, 1)
    yield roof_share(roof)
    yield milliseconds(roof.floor_ns) if roof.floor_ns else ""
    yield ""
    yield part.kind


def _figure(value: float | None, unit: float, digits: int) -> str:
    return "" if not value else f"{value / unit:.{digits}f}"
