"""The records of a generation in, its times per token and its table of time against context out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from statistics import median

from qwen3_profile.attribution.parts import Part
from qwen3_profile.passes.pass_times import layers
from qwen3_profile.records.percentiles import token_times
from qwen3_profile.records.record import TimingRecord

_NS_PER_MS = 1e6


def token_line(records: Sequence[TimingRecord]) -> str:
    """What a generation waits for: of a prefill the first token, of a decode each further one.

    TTFT is the median over the runs, TPOT over every step of every run, traced or not. Empty for a
    prefill that no token follows.
    """
    steps_ns = [ns for record in records for ns in record.step_times_ns]
    if not steps_ns:
        return _first_token_line(records)
    times = token_times(steps_ns)
    return (
        f"TPOT          {_ms(times.median):>12}  p90 {_ms(times.p90)}, p99 {_ms(times.p99)}  "
        f"over {len(steps_ns)} bare steps"
    )


def _first_token_line(records: Sequence[TimingRecord]) -> str:
    config = records[0].config
    bare_ns = [record.total_ns for record in records if record.total_ns is not None]
    if config is None or not config.decode_steps or not bare_ns:
        return ""
    return f"TTFT          {_ms(median(bare_ns)):>12}  total_time; the choice of the token is in it"


def context_table(records: Sequence[TimingRecord]) -> str:
    """Each traced step against its context; times of one layer are means over the layers.

    Args:
        records: of one decode, with one traced step each; empty text where there are none.
    """
    by_context: dict[int, list[TimingRecord]] = defaultdict(list)
    for record in records:
        for step in record.traced:
            by_context[step.context_len].append(record)
    if not by_context:
        return ""
    lines = [
        "a layer, the mean of all, by context (medians over the runs)",
        f"{'context':>9}{'step':>13}{'attn':>13}{'attn_cuda':>13}{'ffn':>13}{'ffn_cuda':>13}",
    ]
    for context, same in sorted(by_context.items()):
        step_ns = median(record.total_ns or 0.0 for record in same)
        cells = [_ms(step_ns)]
        for block in ("attn", "ffn"):
            cells.append(_ms(median(_mean(r.times.forward, block, "cpu_ns") for r in same)))
            on_device = median(_mean(r.times.forward, block, "device_ns") for r in same)
            cells.append(_ms(on_device) if on_device else "-")
        lines.append(f"{context:>9}" + "".join(f"{cell:>13}" for cell in cells))
    return "\n".join(lines)


def _mean(forward: Part, block: str, column: str) -> float:
    every = layers(forward)
    parts = (layer.find(f"{layer.name}.{block}") for layer in every)
    total = sum(int(getattr(part.total, column)) for part in parts if part)
    return total / max(1, len(every))


def _ms(ns: float) -> str:
    return f"{ns / _NS_PER_MS:.3f}"
