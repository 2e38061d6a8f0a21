"""The records of one config in, the tables of the terminal out. At most 100 columns, no colour.

All times are in milliseconds with three digits, so that a column can be compared at a glance.
"""

from __future__ import annotations

from collections.abc import Sequence

from qwen3_profile.attribution.parts import Part, Times, sum_times
from qwen3_profile.config import CUDA_GRAPH
from qwen3_profile.passes.pass_times import backward_of, layers, short_name
from qwen3_profile.records.record import TimingRecord
from qwen3_profile.run_folder.routing import routing_sentence
from qwen3_profile.views.terminal.cells import device, milliseconds, shared, wrap
from qwen3_profile.views.terminal.compiled import compiled_name, compiled_table
from qwen3_profile.views.terminal.decode import context_table, token_line
from qwen3_profile.views.terminal.graph import graph_table
from qwen3_profile.views.terminal.part_table import part_table
from qwen3_profile.views.terminal.summary_lines import totals
from qwen3_profile.views.terminal.verdict import sentences
from qwen3_profile.views.terminal.warnings import doubts

# A model with more layers is shown in ranges of layers, so that its table fits a screen.
_MOST_ROWS = 40
_FOLDED_ROWS = 24


def render(records: Sequence[TimingRecord]) -> str:
    """The tables of one config: what was measured, its layers, its parts, and what to doubt.

    Args:
        records: of one config and phase, at least one; the tables show the median one.
    """
    singles = [single for record in records for single in record.one_by_one()]
    shown = median_record(singles)
    forward, facts = shown.times.forward, shown.facts
    on_device = any(record.times.device_events for record in records)
    blocks = [
        _heading(singles, shown),
        _layer_table(forward, on_device),
        part_table(forward, on_device),
        compiled_table(shown, on_device),
        *_backward_tables(forward, on_device),
        graph_table(singles, shown),
        totals(singles, on_device),
        token_line(records),
        context_table(singles),
        wrap(routing_sentence(shown.routing, facts.model.weights if facts.model else "")),
        "\n".join(wrap(line) for line in sentences(singles, shown)),
        doubts(singles),
    ]
    return "\n\n".join(block for block in blocks if block)


def median_record(records: Sequence[TimingRecord]) -> TimingRecord:
    """The record whose forward pass is the median one (the lower of two), so that it adds up."""
    ranked = sorted(records, key=lambda record: record.times.forward.total.cpu_ns)
    return ranked[(len(ranked) - 1) // 2]


def _heading(records: Sequence[TimingRecord], record: TimingRecord) -> str:
    facts, config = record.facts, record.config
    lines = []
    if facts.model is not None:
        model = facts.model
        layers_of = f"{model.num_layers} layers"
        if model.num_layers != model.model_layers:
            layers_of = f"the first {model.num_layers} of {model.model_layers} layers"
        lines.append(f"{model.name}, {layers_of}, {model.weights} weights, on {place_name(record)}")
    if config is None:
        device = f", on {facts.device}" if facts.device else ""
        if facts.model_class is not None:
            lines.append(_foreign_model(record))
        lines.append(
            f"{record.phase} in {facts.trace}: step {record.times.number}, "
            f"the median of {len(records)}{device}"
        )
    else:
        lines.append(
            f"{record.phase}: batch {config.batch_size} x {config.input_len} tokens"
            f"{_padding(record)}, {config.dtype}, {attention_name(record)} attention"
            f"{_experts_name(record)}{_cache_name(record)}{_execution(record)}"
            f"{compiled_name(facts)}; {_which(record)}, "
            f"the median of {len(records)}"
        )
    lines.append("times in ms; cpu: wall-clock on the host; cuda: device events launched inside")
    return "\n".join(wrap(line) for line in lines)


def attention_name(record: TimingRecord) -> str:
    """Who was asked for attention and, in brackets, what it chose: `sdpa (flash)`."""
    ran = record.times.attention
    chosen = f" ({ran.name})" if ran is not None and ran.name else ""
    return f"{record.facts.attn_implementation}{chosen}"


def _experts_name(record: TimingRecord) -> str:
    name = record.facts.experts_implementation
    return f", {name} experts" if name else ""


def _cache_name(record: TimingRecord) -> str:
    """The KV cache, where it is not the one that grows."""
    cache = record.config.cache if record.config else "dynamic"
    return "" if cache == "dynamic" else f", {cache} cache"


def _execution(record: TimingRecord) -> str:
    return ", replayed as a CUDA graph" if record.facts.execution == CUDA_GRAPH else ""


def _padding(record: TimingRecord) -> str:
    """What of the input is real, where not all of it is."""
    config, real = record.config, sum(record.facts.lengths)
    if config is None or real == config.batch_size * config.input_len:
        return ""
    return f" ({real} real ones, the rest is padding)"


def _foreign_model(record: TimingRecord) -> str:
    """What is known of a model whose trace another program recorded."""
    count = len(layers(record.times.forward))
    layers_of = f"{count} layer{'' if count == 1 else 's'}"
    rank = "" if record.facts.rank is None else f", rank {record.facts.rank}"
    told = record.phase_source.removeprefix("annotation: ")
    phase = "phase unknown" if told == "unknown" else f"{record.phase} by {told}"
    return f"{record.facts.model_class}, {layers_of} by its modules{rank}, {phase}"


def _which(record: TimingRecord) -> str:
    if not record.traced:
        return f"run {record.run_index}"
    step = record.traced[0]
    return f"run {record.run_index}, step {step.position} with a context of {step.context_len}"


def place_name(record: TimingRecord) -> str:
    environment, device = record.facts.environment, record.facts.device or ""
    if environment is None:
        return device
    name = environment.cpu if device == "cpu" else environment.device_name
    if device == "cpu":
        count = environment.cpu_threads
        name += f", {count} thread{'' if count == 1 else 's'}"
    return f"{device} ({name})"


def _backward_tables(forward: Part, on_device: bool) -> tuple[str, ...]:
    """The same two tables of a training step's backward; none of another phase."""
    backward = backward_of(forward)
    if backward is None:
        return ()
    told = (
        "backward, by the labels of the forward: calls are autograd's nodes, other is what belongs "
        "to no label, share is of the backward"
    )
    return (wrap(told), _layer_table(backward, on_device, "_bwd"), part_table(backward, on_device))


def _layer_table(forward: Part, on_device: bool, suffix: str = "") -> str:
    all_layers = layers(forward)
    if not all_layers:
        return ""
    whole = shared(forward.total, on_device)
    names = (f"{block}{suffix}{kind}" for block in ("attn", "ffn") for kind in ("", "_cuda"))
    lines = [_columns("layer", *names, "share")]
    for name, group in _groups(all_layers):
        attn, ffn = (_mean_block(group, block) for block in ("attn", "ffn"))
        share = len(group) * (shared(attn, on_device) + shared(ffn, on_device))
        lines.append(_layer_line(name, attn, ffn, on_device, share / whole if whole else 0.0))
    attn, ffn = (sum_times(_block(layer, b) for layer in all_layers) for b in ("attn", "ffn"))
    share = shared(attn, on_device) + shared(ffn, on_device)
    lines.append(_rule())
    lines.append(_layer_line("all", attn, ffn, on_device, share / whole if whole else 0.0))
    if len(all_layers) > _MOST_ROWS:
        lines.append("A row of several layers shows their mean; its share is theirs together.")
    return "\n".join(lines)


def _groups(all_layers: Sequence[Part]) -> list[tuple[str, Sequence[Part]]]:
    """Layers one by one, or in ranges of equal length where there are many."""
    count = len(all_layers)
    size = 1 if count <= _MOST_ROWS else -(-count // _FOLDED_ROWS)
    groups = [all_layers[at : at + size] for at in range(0, count, size)]
    return [(_range_name(group), group) for group in groups]


def _range_name(group: Sequence[Part]) -> str:
    first, last = short_name(group[0]), short_name(group[-1])
    return first if first == last else f"{first}-{last}"


def _block(layer: Part, block: str) -> Times:
    part = layer.find(f"{layer.name}.{block}")
    return part.total if part is not None else Times()


def _mean_block(group: Sequence[Part], block: str) -> Times:
    total = sum_times(_block(layer, block) for layer in group)
    return Times(*(getattr(total, field) // len(group) for field in Times._fields))


def _layer_line(name: str, attn: Times, ffn: Times, on_device: bool, share: float) -> str:
    return _columns(
        name,
        milliseconds(attn.cpu_ns),
        device(attn, on_device),
        milliseconds(ffn.cpu_ns),
        device(ffn, on_device),
        f"{share:.1%}",
    )


def _columns(*cells: str) -> str:
    head, *rest = cells
    return f"{head:>9}" + "".join(f"{cell:>14}" for cell in rest)


def _rule() -> str:
    return "-" * (9 + 14 * 5)
