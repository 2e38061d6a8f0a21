"""Why a pass is slow, in the terminal: the verdict on it, and a table of those on its parts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict

from qwen3_profile.analysis.claims import Claim
from qwen3_profile.analysis.explain import Explanation, energy_sentences
from qwen3_profile.analysis.part_verdicts import PartVerdict
from qwen3_profile.analysis.verdict import UNDECIDED
from qwen3_profile.views.names import words
from qwen3_profile.views.terminal.cells import milliseconds, roof_share, wrap
from qwen3_profile.views.terminal.memory import memory_table
from qwen3_profile.views.terminal.summary_lines import ceilings_line
from qwen3_profile.views.terminal.table import Column, table

_GIGA, _TERA = 1e9, 1e12


def render_explanations(found: Sequence[Explanation]) -> str:
    """The pages of all configs and phases, and then what could not be judged in any of them."""
    pages = [render_explanation(each) for each in found]
    return "\n\n".join(filter(None, (*pages, wrap(_not_judged(found)))))


def render_explanation(found: Explanation) -> str:
    """The page of one config and phase."""
    head, *parts = found.claims
    blocks = [
        wrap(_head(found)),
        "\n".join(filter(None, (_verdict(found.phase, head), _advice(head)))),
        _table(found),
        ceilings_line(found.ceilings),
        "\n".join(wrap(claim.sentence) for claim in parts if claim.verdict != UNDECIDED),
        "\n".join(_part_advice(head, parts)),
        "\n".join(wrap(claim.sentence) for claim in parts if claim.verdict == UNDECIDED),
        memory_table(found.shown),
        wrap(" ".join(energy_sentences(found.shown))),
        "\n".join(wrap(f"{o.verdict}: {o.sentence}") for o in found.odd if not o.withheld),
        "\n".join(wrap(f"warning: {line}", style="yellow") for line in found.warnings),
    ]
    return "\n\n".join(block for block in blocks if block)


def _head(found: Explanation) -> str:
    """Which of a run's configs it is, and what sets it apart from the others."""
    which, asked = f"{found.phase} of {found.run}, config {found.config_index}", found.shown.config
    if asked is None:
        return which
    size = f"{asked.batch_size} x {asked.input_len} tokens"
    return f"{which}: {', '.join(filter(None, (size, *words(found.shown)[3:])))}"


def explanation_json(found: Sequence[Explanation]) -> str:
    """A JSON list of the claims of each config and phase, for scripts; times in ns."""
    claims = [
        {**asdict(claim), "run": each.run, "config_index": each.config_index, "phase": each.phase}
        for each in found
        for claim in (*each.claims, *each.odd, *each.memory, *each.energy)
    ]
    return json.dumps(claims, indent=2)


def _verdict(phase: str, claim: Claim) -> str:
    return wrap(f"{phase} is {claim.sentence}", style="bold")


def _advice(claim: Claim) -> str:
    return wrap(f"What usually helps: {claim.advice}.") if claim.advice else ""


def _part_advice(head: Claim, parts: Sequence[Claim]) -> Iterator[str]:
    """What helps against each verdict on a part, unless it was said of the pass."""
    known = {claim.verdict: claim.advice for claim in parts if claim.advice}
    for verdict, told in known.items():
        if told not in head.advice:
            yield wrap(f"What usually helps a {verdict} part: {told}.")


def _not_judged(found: Sequence[Explanation]) -> str:
    """One line on layers in all pages: as few passes can tell little in each of them."""
    withheld = [(each, odd) for each in found for odd in each.odd if odd.withheld]
    if not withheld:
        return ""
    phases = ", ".join(dict.fromkeys(each.phase for each, _ in withheld))
    needed = max(round(odd.rests_on["passes_needed"]) for _, odd in withheld)
    ours = all(each.shown.config is not None for each, _ in withheld)
    how = f" (--num-runs {needed})" if ours else ""
    return f"odd layers: not judged in {phases}; that takes {needed} traced passes of each{how}."


def _table(found: Explanation) -> str:
    if not found.parts:
        return ""
    kind = "cuda" if found.on_device else "cpu"
    columns = (
        Column("part, all layers", left=True, least=25),
        Column(f"{kind} ms"),
        Column("kernels" if found.on_device else "operators", leave_out=5),
        Column("TFLOP/s", leave_out=2),
        Column("GB/s", leave_out=3),
        Column("FLOP/B", leave_out=4),
        Column("of roof"),
        Column("floor ms", leave_out=1),
        Column("verdict", left=True),
    )
    return table(columns, [(part.name, *_cells(part)) for part in found.parts])


def _cells(part: PartVerdict) -> Iterator[str]:
    roof = part.roof
    yield milliseconds(roof.ns)
    yield "" if part.kernels is None else str(part.kernels)
    yield _figure(roof.flops_per_s, _TERA, 3)
    yield _figure(roof.bytes_per_s, _GIGA, 1)
    yield _figure(roof.intensity, 1.0, 1)
    yield roof_share(roof)
    yield milliseconds(roof.floor_ns) if roof.floor_ns else ""
    yield part.kind


def _figure(value: float | None, unit: float, digits: int) -> str:
    return "" if not value else f"{value / unit:.{digits}f}"
