"""What is shown of a generation: its times per token, and its layers against the context."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from qwen3_profile.analysis.layer_times import (
    BlockTimes,
    LayerBlocks,
    block_names,
    layer_blocks,
    mean_layer,
)
from qwen3_profile.analysis.median_pass import is_on_device
from qwen3_profile.analysis.totals import Totals
from qwen3_profile.records.quantiles import median, token_times
from qwen3_profile.records.record import TimingRecord
from qwen3_profile.views.terminal.cells import wrap
from qwen3_profile.views.terminal.table import Column, table
from qwen3_profile.words import said

_NS_PER_MS = 1e6
_USUAL = ("attn", "ffn")


def token_line(totals: Totals) -> str:
    """What a generation waits for: of a prefill the first token, of a decode each further one.

    TTFT is the median over the runs, TPOT over every step of every run, traced or not. Empty for a
    prefill that no token follows.
    """
    if not totals.steps_ns:
        return _first_token_line(totals)
    times = token_times(totals.steps_ns)
    over = f"p90 {_ms(times.p90)}, p99 {_ms(times.p99)}  over {len(totals.steps_ns)} bare steps"
    return wrap(f"TPOT          {_ms(times.median):>12}  {said(over)}")


def _first_token_line(totals: Totals) -> str:
    config = totals.passes[0].config
    if config is None or not config.decode_steps or not totals.bare_ns:
        return ""
    ttft = _ms(median(totals.bare_ns))
    what = said("total_time, including sampling of the first token")
    return wrap(f"TTFT          {ttft:>12}  {what}")


def context_table(passes: Sequence[TimingRecord]) -> str:
    """Each traced step against its context; times of one layer are means over the layers.

    Args:
        passes: of one decode, with one traced step each; empty text where there are none.
    """
    by_context: dict[int, list[TimingRecord]] = defaultdict(list)
    for each in passes:
        for step in each.traced:
            by_context[step.context_len].append(each)
    if not by_context:
        return ""
    blocks = block_names(layer_blocks(passes[0].times.forward))
    mixed = len(blocks) > len(_USUAL)
    of = ", over layers of that kind" if mixed else ""
    on_device = is_on_device(passes)
    kinds = ("", "_cuda") if on_device else ("",)
    names = (f"{block}{kind}" for block in blocks for kind in kinds)
    rows = [tuple(_cells(each, by_context[each], blocks, on_device)) for each in sorted(by_context)]
    columns = [Column(name) for name in ("context", "step", *names)]
    heading = wrap(f"mean time per layer by context length{of} (medians over runs)")
    return f"{heading}\n{table(columns, rows)}"


def _cells(
    context: int, passes: Sequence[TimingRecord], blocks: Sequence[str], on_device: bool
) -> Iterator[str]:
    yield str(context)
    yield _ms(median(each.total_ns or 0.0 for each in passes))
    every = [layer_blocks(each.times.forward) for each in passes]
    for block in blocks:
        # A layer without such a block is of another kind, and says nothing of it.
        times = [_mean(layers, block) for layers in every]
        device_ns = median(each.device_ns for each in times)
        yield _ms(median(each.cpu_ns for each in times))
        if on_device:
            yield _ms(device_ns)


def _mean(layers: Sequence[LayerBlocks], block: str) -> BlockTimes:
    return mean_layer("", [each for each in layers if any(each.of(block))]).of(block)


def _ms(ns: float) -> str:
    return f"{ns / _NS_PER_MS:.3f}"
