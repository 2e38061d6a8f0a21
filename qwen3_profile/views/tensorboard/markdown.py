"""The records of one config in, Markdown for TensorBoard's Text tab out.

Times are in milliseconds, of the median run, as in the terminal.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from qwen3_profile.attribution.parts import Part, Times
from qwen3_profile.passes.pass_times import layers, short_name
from qwen3_profile.records.record import TimingRecord
from qwen3_profile.views.terminal.cells import device, milliseconds, shared
from qwen3_profile.views.terminal.part_table import part_rows
from qwen3_profile.views.terminal.summary_lines import totals
from qwen3_profile.views.terminal.tables import median_record
from qwen3_profile.views.terminal.verdict import sentences

_BLOCKS = ("attn", "ffn")
_INDENT = "\N{EM SPACE}"


def render_markdown(records: Sequence[TimingRecord]) -> str:
    """The tables of layers and of parts, the totals, and what dominates.

    Args:
        records: of one config and phase, at least one.
    """
    singles = [single for record in records for single in record.one_by_one()]
    shown = median_record(singles)
    forward = shown.times.forward
    on_device = any(record.times.device_events for record in records)
    blocks = (
        f"### {_title(shown)}",
        "\n".join(f"- {line}" for line in sentences(singles, shown)),
        f"```\n{totals(singles, on_device)}\n```",
        _layer_table(forward, on_device),
        _part_table(forward, on_device),
    )
    return "\n\n".join(blocks) + "\n"


def _title(record: TimingRecord) -> str:
    model, config = record.facts.model, record.config
    words = [record.phase]
    if config is not None:
        words += [f"batch {config.batch_size} x {config.input_len} tokens", config.dtype]
    if model is not None:
        words.insert(0, model.name)
    return _cell(", ".join(words))


def _layer_table(forward: Part, on_device: bool) -> str:
    names = [f"{block}{kind}" for block in _BLOCKS for kind in ("", "_cuda")]
    rows = []
    for layer in layers(forward):
        cells = [short_name(layer)]
        for block in _BLOCKS:
            part = layer.find(f"{layer.name}.{block}")
            times = part.total if part is not None else Times()
            cells += [milliseconds(times.cpu_ns), device(times, on_device)]
        rows.append(cells)
    return _table(["layer", *names], rows) if rows else ""


def _part_table(forward: Part, on_device: bool) -> str:
    whole = shared(forward.total, on_device)
    rows = [
        [
            _INDENT * row.indent + row.name,
            str(row.times.calls or ""),
            milliseconds(row.times.cpu_ns),
            device(row.times, on_device),
            f"{shared(row.times, on_device) / whole:.1%}" if whole else "",
        ]
        for row in part_rows(forward)
    ]
    return _table(["part, all layers", "calls", "cpu", "cuda", "share"], rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", r"\|")
