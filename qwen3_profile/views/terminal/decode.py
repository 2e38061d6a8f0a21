"""What is shown of a generation: its times per token, and its layers against the context."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from qwen3_profile.analysis.layer_times import layer_blocks, mean_layer
from qwen3_profile.analysis.totals import Totals
from qwen3_profile.records.quantiles import median, token_times
from qwen3_profile.records.record import TimingRecord
from qwen3_profile.views.terminal.cells import Table

_NS_PER_MS = 1e6
_CONTEXTS = Table((9, 13, 13, 13, 13, 13))


def token_line(totals: Totals) -> str:
    """What a generation waits for: of a prefill the first token, of a decode each further one.

    TTFT is the median over the runs, TPOT over every step of every run, traced or not. Empty for a
    prefill that no token follows.
    """
    if not totals.steps_ns:
        return _first_token_line(totals)
    times = token_times(totals.steps_ns)
    return (
        f"TPOT          {_ms(times.median):>12}  p90 {_ms(times.p90)}, p99 {_ms(times.p99)}  "
        f"over {len(totals.steps_ns)} bare steps"
    )


def _first_token_line(totals: Totals) -> str:
    config = totals.passes[0].config
    if config is None or not config.decode_steps or not totals.bare_ns:
        return ""
    ttft = _ms(median(totals.bare_ns))
    return f"TTFT          {ttft:>12}  total_time; the choice of the token is in it"


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
    return "\n".join(
        (
            "a layer, the mean of all, by context (medians over the runs)",
            _CONTEXTS.line("context", "step", "attn", "attn_cuda", "ffn", "ffn_cuda"),
            *(_context_line(context, same) for context, same in sorted(by_context.items())),
        )
    )


def _context_line(context: int, passes: Sequence[TimingRecord]) -> str:
    layers = [mean_layer("", layer_blocks(each.times.forward)) for each in passes]
    cells = [_ms(median(each.total_ns or 0.0 for each in passes))]
    for times in ([each.attn for each in layers], [each.ffn for each in layers]):
        device_ns = median(each.device_ns for each in times)
        cells += [_ms(median(each.cpu_ns for each in times)), _ms(device_ns) if device_ns else "-"]
    return _CONTEXTS.line(str(context), *cells)


def _ms(ns: float) -> str:
    return f"{ns / _NS_PER_MS:.3f}"
