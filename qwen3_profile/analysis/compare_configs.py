"""Configs of one run that differ in one thing only, held against each other.

Either in how they were executed, eagerly, compiled or as a CUDA graph, part by part; or in the
implementation of attention. The others of a comparison are held against the first config.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from qwen3_profile import labels
from qwen3_profile.analysis.median_pass import (
    is_on_device,
    median_bare_ns,
    shown_record,
    single_passes,
)
from qwen3_profile.analysis.part_costs import Cost, part_costs, parts_of, whole_cost
from qwen3_profile.attribution.parts import Part, Times, sum_times
from qwen3_profile.attribution.pass_parts import backward_of, layers
from qwen3_profile.config import COMPILE_MODES, COMPILE_SCOPES, EAGER, RunConfig
from qwen3_profile.records.quantiles import median
from qwen3_profile.records.record import TimingRecord

Group = Sequence[TimingRecord]


@dataclass(frozen=True, slots=True)
class ExecutionCosts:
    """One way of running the pass.

    shown: the median pass. bare_ns: the median of the bare ones. parts: what each part cost.
    """

    name: str
    shown: TimingRecord
    bare_ns: float
    parts: dict[str, Cost]
    whole: Cost


@dataclass(frozen=True, slots=True)
class ExecutionComparison:
    """Configs that differ in nothing but their execution.

    config: of the first, as if it was run eagerly. on_device: whether costs are of the device.
    places: of each execution, where its config stands among all that were given.
    """

    phase: str
    config: RunConfig
    on_device: bool
    places: tuple[int, ...]
    executions: tuple[ExecutionCosts, ...]

    @property
    def parts(self) -> list[str]:
        """Every part in which one of them ran anything."""
        return parts_of([each.parts for each in self.executions])


@dataclass(frozen=True, slots=True)
class AttentionTimes:
    """What one implementation of attention took; medians over the passes.

    shown: its first record. attention, around: CPU and device time of `attn_forward` in all layers,
        and of what stands next to it: the whole forward pass, or of a training step the backward
        of attention. Device times are None where no device was recorded.
    """

    shown: TimingRecord
    attention: tuple[float, float | None]
    around: tuple[float, float | None]
    bare_ns: float


@dataclass(frozen=True, slots=True)
class AttentionComparison:
    """Configs that differ in nothing but the implementation of attention."""

    phase: str
    config: RunConfig
    rows: tuple[AttentionTimes, ...]


def compare_executions(groups: Sequence[Group]) -> Iterator[ExecutionComparison]:
    """The comparisons of how the same pass was executed.

    Args:
        groups: records of one config and phase each, of one run or of several.
    """
    for (phase, config), places in _differ_in(groups, _without_execution):
        compared = [groups[at] for at in places]
        on_device = any(map(is_on_device, compared))
        yield ExecutionComparison(
            phase, config, on_device, tuple(places), tuple(_executions(compared, on_device))
        )


def compare_attention(groups: Sequence[Group]) -> Iterator[AttentionComparison]:
    """The comparisons of the implementations of attention.

    Args:
        groups: records of one config and phase each, of one run or of several.
    """
    for (phase, config), places in _differ_in(
        groups, lambda config: replace(config, attn_implementation=None)
    ):
        rows = tuple(_attention_times(groups[at]) for at in places)
        yield AttentionComparison(phase, config, rows)


def _differ_in(
    groups: Sequence[Group], without: Callable[[RunConfig], RunConfig]
) -> Iterator[tuple[tuple[str, RunConfig], list[int]]]:
    """Phase, config, and places of two or more configs of one run that `without` makes equal."""
    alike: dict[tuple[str, str, RunConfig], list[int]] = {}
    for place, records in enumerate(groups):
        first = records[0]
        if first.config is not None:
            key = (first.facts.run, first.phase, without(first.config))
            alike.setdefault(key, []).append(place)
    for (_, phase, config), places in alike.items():
        if len(places) > 1:
            yield (phase, config), places


def _without_execution(config: RunConfig) -> RunConfig:
    return replace(
        config, execution=EAGER, compile_mode=COMPILE_MODES[0], compile_scope=COMPILE_SCOPES[0]
    )


def _executions(groups: Sequence[Group], on_device: bool) -> Iterator[ExecutionCosts]:
    shown = [shown_record(records) for records in groups]
    for name, record, records in zip(_execution_names(shown), shown, groups, strict=True):
        parts = part_costs(record, on_device)
        yield ExecutionCosts(
            name, record, median_bare_ns(records), parts, whole_cost(record, parts.values())
        )


def _execution_names(records: Sequence[TimingRecord]) -> list[str]:
    """How each was executed, in a word; those executed alike are numbered."""
    words = [record.facts.execution or EAGER for record in records]
    return [
        word if words.count(word) == 1 else f"{word} {words[: at + 1].count(word)}"
        for at, word in enumerate(words)
    ]


def _attention_times(records: Group) -> AttentionTimes:
    passes = single_passes(records)
    on_device = is_on_device(passes)
    forwards = [each.times.forward for each in passes]
    of_training = records[0].phase == labels.TRAIN_STEP
    around = _backward_attention if of_training else lambda forward: forward.total
    return AttentionTimes(
        shown=records[0],
        attention=_medians([_attention(forward) for forward in forwards], on_device),
        around=_medians([around(forward) for forward in forwards], on_device),
        bare_ns=median_bare_ns(records),
    )


def _medians(times: Sequence[Times], on_device: bool) -> tuple[float, float | None]:
    device_ns = median(each.device_ns for each in times) if on_device else None
    return median(each.cpu_ns for each in times), device_ns


def _attention(forward: Part) -> Times:
    """What one pass spends inside `attn_forward`, all layers together."""
    return sum_times(
        part.total
        for layer in layers(forward)
        if (attn := layer.find(f"{layer.name}.attn")) is not None
        and (part := attn.find(f"{attn.name}.attn_forward")) is not None
    )


def _backward_attention(forward: Part) -> Times:
    """The same of the backward of a training step."""
    backward = backward_of(forward)
    return _attention(backward) if backward is not None else Times()
