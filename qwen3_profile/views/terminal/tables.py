"""The page of one config: its heading, its layers, its parts, and what follows from them.

All times are in milliseconds with three digits, so that a column can be compared at a glance.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from qwen3_profile.analysis.explain import energy_sentences, phase_claim
from qwen3_profile.analysis.layer_times import (
    ALL,
    LayerBlocks,
    block_names,
    by_kind,
    layer_blocks,
    mean_layer,
    sum_layers,
)
from qwen3_profile.analysis.median_pass import is_on_device, median_record, ns_of
from qwen3_profile.analysis.part_rows import PartPath
from qwen3_profile.analysis.pass_sentences import sentences, source_sentence
from qwen3_profile.analysis.piece_costs import piece_sentences
from qwen3_profile.analysis.roofline import Roof, row_roofs
from qwen3_profile.analysis.totals import totals_of
from qwen3_profile.attribution.findings import FALLBACK, counted
from qwen3_profile.attribution.parts import Part
from qwen3_profile.attribution.pass_parts import backward_of, layers
from qwen3_profile.config import CUDA_GRAPH
from qwen3_profile.labels import WHOLE_TRACE
from qwen3_profile.records.record import TimingRecord
from qwen3_profile.run_folder.model_weights import weight_sentences
from qwen3_profile.run_folder.routing import routing_sentence
from qwen3_profile.views.names import attention_name, model_line, place_in_trace, which_pass
from qwen3_profile.views.terminal.cells import milliseconds, wrap
from qwen3_profile.views.terminal.decode import context_table, token_line
from qwen3_profile.views.terminal.executions import compiled_name, compiled_table, graph_table
from qwen3_profile.views.terminal.memory import memory_table
from qwen3_profile.views.terminal.part_table import part_table
from qwen3_profile.views.terminal.summary_lines import (
    ceilings_line,
    idle_lines,
    total_lines,
    warning_lines,
)
from qwen3_profile.views.terminal.table import RULE, Column, table

# A model with more layers is shown in ranges of layers, so that its table fits a screen.
_MOST_ROWS = 40
_FOLDED_ROWS = 24


def render(records: Sequence[TimingRecord]) -> str:
    """The tables of one config: what was measured, its layers, its parts, and what to doubt.

    Args:
        records: of one config and phase, at least one; the tables show the median one.
    """
    totals = totals_of(records)
    shown = median_record(totals.passes)
    forward, facts = shown.times.forward, shown.facts
    on_device = is_on_device(records)
    roofs = row_roofs(shown, on_device)
    blocks = [
        _heading(totals.passes, shown),
        _layer_table(forward, on_device),
        part_table(forward, on_device, roofs),
        ceilings_line(facts.ceilings),
        compiled_table(shown, on_device),
        *_backward_tables(forward, on_device, roofs),
        memory_table(shown),
        wrap(" ".join(energy_sentences(shown))),
        graph_table(totals, shown),
        total_lines(totals),
        wrap(source_sentence(totals)),
        token_line(totals),
        context_table(totals.passes),
        wrap(routing_sentence(shown.routing, facts.model.weights if facts.model else "")),
        "\n".join(wrap(line) for line in sentences(totals.passes, shown)),
        "\n".join(wrap(line) for line in piece_sentences(forward, on_device)),
        idle_lines(shown),
        _verdict(records) if roofs else "",
        warning_lines(totals),
    ]
    return "\n\n".join(block for block in blocks if block)


def _verdict(records: Sequence[TimingRecord]) -> str:
    """What holds the pass up, where the ceilings are known by which that is told."""
    claim = phase_claim(records)
    return wrap(f"{claim.subject} is {claim.sentence}")


def _heading(records: Sequence[TimingRecord], record: TimingRecord) -> str:
    facts, config = record.facts, record.config
    lines = []
    if facts.model is not None:
        lines.append(model_line(facts.model, record))
        lines += weight_sentences(facts.model.packed)
    if config is None:
        if facts.model_class is not None:
            lines.append(_foreign_model(record))
        trace = f"{facts.trace}{_process(record)}"
        on = f", running on {facts.device}" if facts.device else ""
        if record.phase == WHOLE_TRACE:
            lines.append(f"trace {trace}: by range, as it shows no layers{on}")
        else:
            shown = f"median pass ({place_in_trace(record, len(records))})"
            lines.append(f"{record.phase} in the trace {trace}: {shown}{on}")
    else:
        lines.append(
            f"{record.phase}: batch {config.batch_size} x {config.input_len} tokens"
            f"{_padding(record)}, {config.dtype}, {attention_name(record)} attention"
            f"{_settings(record)}{compiled_name(facts)}; {which_pass(record, len(records))}"
        )
    if record.times.device_events:
        lines.append("times in ms; cpu: host wall-clock; cuda: device events launched inside")
    else:
        lines.append("times in ms, wall-clock on the host")
    return "\n".join(wrap(line) for line in lines)


def _settings(record: TimingRecord) -> str:
    """Experts, cache, execution and code, where they are not the usual ones."""
    facts, config = record.facts, record.config
    words = [f"{facts.experts_implementation} experts"] if facts.experts_implementation else []
    words += [f"{config.cache} cache"] if config and config.cache != "dynamic" else []
    words += ["replayed as a CUDA graph"] if facts.execution == CUDA_GRAPH else []
    slow = (finding for finding in record.findings if finding.code == FALLBACK)
    words += [f"{finding.example} in plain torch code" for finding in slow]
    return "".join(f", {word}" for word in words)


def _padding(record: TimingRecord) -> str:
    """What of the input is real, where not all of it is."""
    config, real = record.config, sum(record.facts.lengths)
    if config is None or real == config.batch_size * config.input_len:
        return ""
    return f" ({real} real, the rest padding)"


def _process(record: TimingRecord) -> str:
    """Which process it is, of a trace that holds several."""
    return "" if record.facts.process is None else f", process {record.facts.process}"


def _foreign_model(record: TimingRecord) -> str:
    """What is known of a model whose trace another program recorded."""
    layers_of = counted(len(layers(record.times.forward)), "layer")
    rank = "" if record.facts.rank is None else f", rank {record.facts.rank}"
    source = record.phase_source.removeprefix("annotation: ")
    phase = "phase unknown" if source == "unknown" else f"{record.phase} by {source}"
    return f"{record.facts.model_class}, {layers_of} by its modules{rank}, {phase}"


def _backward_tables(
    forward: Part, on_device: bool, roofs: Mapping[PartPath, Roof]
) -> tuple[str, ...]:
    """The same two tables of a training step's backward; none of another phase."""
    backward = backward_of(forward)
    if backward is None:
        return ()
    meaning = (
        "backward pass, by the labels of the forward; calls: autograd nodes; other: unattributed; "
        "share: of the backward pass"
    )
    return (
        wrap(meaning),
        _layer_table(backward, on_device, "_bwd"),
        part_table(backward, on_device, roofs),
    )


def _layer_table(forward: Part, on_device: bool, suffix: str = "") -> str:
    every = layer_blocks(forward)
    if not every:
        return ""
    whole_ns = ns_of(forward.total, on_device)
    blocks = block_names(every)
    kinds = ("", "_cuda") if on_device else ("",)
    names = (f"{block}{suffix}{kind}" for block in blocks for kind in kinds)
    columns = (Column("layer"), *map(Column, names), Column("share", leave_out=1))
    rows: list[Sequence[str]] = []
    for mean, count in (*_groups(every), (sum_layers(every), 1)):
        if mean.name == ALL:
            rows.append(RULE)
        share = f"{count * mean.whole.ns(on_device) / whole_ns if whole_ns else 0.0:.1%}"
        rows.append((mean.name, *_cells(mean, blocks, on_device), share))
    lines = [table(columns, rows)]
    if len(every) > _MOST_ROWS:
        each = "; each kind has rows of its own" if len(by_kind(every)) > 1 else ""
        told = f"Rows of several layers show the mean per layer, and the sum of their shares{each}."
        lines.append(wrap(told))
    return "\n".join(lines)


def _groups(every: Sequence[LayerBlocks]) -> Iterator[tuple[LayerBlocks, int]]:
    """Layers one by one, or the means of ranges of equal length where there are many.

    Layers of several kinds have a mean for each.
    """
    count = len(every)
    rows = max(1, _FOLDED_ROWS // len(by_kind(every)))
    size = 1 if count <= _MOST_ROWS else -(-count // rows)
    for at in range(0, count, size):
        group = every[at : at + size]
        first, last = group[0].name, group[-1].name
        name = first if first == last else f"{first}-{last}"
        for same in by_kind(group).values():
            yield mean_layer(name, same), len(same)


def _cells(layer: LayerBlocks, blocks: Sequence[str], on_device: bool) -> Iterator[str]:
    for block in blocks:
        times = layer.of(block)
        yield milliseconds(times.cpu_ns)
        if on_device:
            yield milliseconds(times.device_ns)
