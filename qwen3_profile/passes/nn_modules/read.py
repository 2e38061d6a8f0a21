"""The passes of a trace that another program recorded with stacks: its calls of nn.Modules."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from qwen3_profile.attribution.attribute import NO_STEP, Attribution, attribute
from qwen3_profile.attribution.collectives import split_collectives
from qwen3_profile.attribution.findings import NOTE, WARNING, Finding
from qwen3_profile.errors import DamagedTraceError
from qwen3_profile.passes.pass_times import read_steps
from qwen3_profile.passes.reading import Origin, Reading, reading_of
from qwen3_profile.trace import Trace

if TYPE_CHECKING:
    from qwen3_profile.passes.nn_modules.block_parts import Instance
    from qwen3_profile.passes.nn_modules.passes import Pass


def read_modules(path: Path, trace: Trace, findings: tuple[Finding, ...]) -> Reading | None:
    """The forward passes that the trace's module calls show; None without such calls.

    Args:
        path: names the trace.
        findings: what is odd in the trace.

    Raises:
        DamagedTraceError: the passes cannot be told apart, so that no sum would be right.
    """
    from qwen3_profile.passes.nn_modules.scopes import (
        build_module_scopes,  # not for traces with our labels
    )

    modules = build_module_scopes(trace)
    if modules is None:
        return None
    attribution = split_collectives(attribute(trace, modules.scopes, modules.steps))
    passes = read_steps(attribution)
    if len(passes) != len(modules.passes) or not all(each.balances for each in passes):
        raise DamagedTraceError(
            str(path), "its nn.Module ranges do not nest, so they give no forward passes",
            "account for its device time with --ledger",
        )  # fmt: skip
    told = (outside_passes(attribution), _crossing(attribution))
    findings += tuple(finding for finding in told if finding)
    ranges, origins = len(modules.scopes), _origins(modules.passes)
    return reading_of(path, "module", attribution, ranges, passes, findings, origins)


def _origins(passes: Sequence[Pass]) -> tuple[Origin, ...]:
    models: dict[Instance, int] = {}
    return tuple(
        Origin(
            phase_source=each.phase_source,
            model=models.setdefault(each.model, len(models)),
            model_class=each.model[0],
        )
        for each in passes
    )


def outside_passes(attribution: Attribution) -> Finding | None:
    """Tells of the device events that are in no pass, if there are any."""
    device = attribution.trace.device
    outside = attribution.device_step == NO_STEP
    count, ns = int(outside.sum()), int(device.dur_ns[outside].sum())
    if not count:
        return None
    return Finding(
        WARNING,
        "outside-passes",
        f"{count} of {len(device)} device events ({ns} ns) lie before or between the forward "
        "passes and are in no record; --ledger accounts for them",
        count=count,
        ns=ns,
        example=attribution.trace.names[device.name[outside][0]],
    )


def _crossing(attribution: Attribution) -> Finding | None:
    found = attribution.scopes.crossing
    if not found.count:
        return None
    return Finding(
        NOTE,
        "modules-cross",
        f"{found.count} calls of modules end after the call around them; the rest counts outside",
        count=found.count,
        ns=found.ns,
        example=found.example,
    )
