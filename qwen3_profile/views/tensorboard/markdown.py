"""The page of one config as Markdown, for TensorBoard's Text tab.

Times are in milliseconds, of the median run, as in the terminal.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from qwen3_profile.analysis.layer_times import block_names, layer_blocks
from qwen3_profile.analysis.median_pass import is_on_device, median_record
from qwen3_profile.analysis.pass_sentences import sentences
from qwen3_profile.analysis.totals import totals_of
from qwen3_profile.attribution.parts import Part
from qwen3_profile.records.record import TimingRecord
from qwen3_profile.views.terminal.cells import milliseconds
from qwen3_profile.views.terminal.part_table import COLUMNS, HEAD, columns_on, part_cells
from qwen3_profile.views.terminal.screen import FILE, on_screen
from qwen3_profile.views.terminal.summary_lines import total_lines

_PARTS = tuple(column for column in COLUMNS if column.in_markdown)
_INDENT = "\N{EM SPACE}"


def render_markdown(records: Sequence[TimingRecord]) -> str:
    """The tables of layers and of parts, the totals, and what dominates.

    Args:
        records: of one config and phase, at least one.
    """
    totals = totals_of(records)
    shown = median_record(totals.passes)
    forward = shown.times.forward
    on_device = is_on_device(records)
    with on_screen(FILE):
        lines = total_lines(totals)
    blocks = (
        f"### {_title(shown)}",
        "\n".join(f"- {line}" for line in sentences(totals.passes, shown)),
        f"```\n{lines}\n```",
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
    rows = []
    every = layer_blocks(forward)
    blocks = block_names(every)
    for layer in every:
        cells = [layer.name]
        for times in map(layer.of, blocks):
            cells.append(milliseconds(times.cpu_ns))
            cells += [milliseconds(times.device_ns)] if on_device else []
        rows.append(cells)
    kinds = ("", "_cuda") if on_device else ("",)
    head = ("layer", *(f"{block}{kind}" for block in blocks for kind in kinds))
    return _table(head, rows) if rows else ""


def _part_table(forward: Part, on_device: bool) -> str:
    columns = columns_on(on_device, _PARTS)
    rows = [
        [_INDENT * row.depth + row.name, *cells]
        for row, cells in part_cells(forward, on_device, columns)
    ]
    return _table([HEAD, *(column.name for column in columns)], rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", r"\|")
