"""The data of a report's page, and the one place that knows its JSON.

Every time is an integer of nanoseconds, so that what the page shows can be held against the
records; names of kernels and operators are in one list, `names`, and elsewhere their index.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

from qwen3_profile.analysis.compare_configs import ExecutionComparison, compare_executions
from qwen3_profile.analysis.layer_times import BlockTimes, layer_blocks, sum_layers
from qwen3_profile.analysis.odd_layers import (
    FALSE_ALARMS,
    FEWEST_EQUALS,
    LEAST_EXCESS,
    LEAST_OF_LAYER,
)
from qwen3_profile.analysis.part_costs import Cost
from qwen3_profile.analysis.part_rows import FAMILIES, PartPath
from qwen3_profile.analysis.pass_sentences import all_findings, overhead_words
from qwen3_profile.analysis.row_bytes import row_bytes
from qwen3_profile.analysis.scaling.sweep import sweeps_of
from qwen3_profile.analysis.verdict import MOSTLY_BUSY, MOSTLY_IDLE
from qwen3_profile.attribution.findings import Finding
from qwen3_profile.records.graph_savings import savings
from qwen3_profile.records.summary import spread
from qwen3_profile.version import __version__
from qwen3_profile.views.names import short_labels, words
from qwen3_profile.views.report import answers, titles
from qwen3_profile.views.report.distributions import distributions, grid_of
from qwen3_profile.views.report.first_screen import first_screen
from qwen3_profile.views.report.rank_json import rank_json
from qwen3_profile.views.report.roofline_data import roofline_of, verdict_rows
from qwen3_profile.views.report.section_data import Config
from qwen3_profile.views.report.trace_json import Names, cut, kernels, launched, timeline
from qwen3_profile.views.terminal.memory import memory_table
from qwen3_profile.views.terminal.scaling import render_sweep
from qwen3_profile.views.terminal.screen import FILE, on_screen
from qwen3_profile.words import both, in_each

Json = dict[str, Any]


def document(configs: Sequence[Config], bars: int) -> Json:
    """The page's data.

    Args:
        configs: in the order in which they can be chosen, at least one.
        bars: of all time lines together, at most about so many; those that have more are joined.
    """
    names = Names()
    labels = short_labels([config.shown for config in configs])
    each = bars // max(1, sum(config.trace is not None for config in configs))
    views = {id(view): view for config in configs if (view := config.ranks)}
    number = {key: at for at, key in enumerate(views)}
    return {
        "version": __version__,
        "title": both(titles.title(configs)),
        "families": list(FAMILIES),
        "thresholds": {"idle": MOSTLY_IDLE, "busy": MOSTLY_BUSY},
        "rule": both(
            "Outlier: a layer that is among the longest or the shortest of comparable layers (at "
            f"least {FEWEST_EQUALS} with the same parts) in every pass, lies outside the range "
            "that their medians differ by, and differs by more than "
            f"{LEAST_EXCESS:.0%} of their median and {LEAST_OF_LAYER:.0%} of a whole layer; "
            f"{FALSE_ALARMS:.0%} of runs whose layers are "
            "alike show one at most."
        ),
        "configs": [
            {
                "label": label,
                "rank_view": number.get(id(config.ranks)),
                **_config(config, names, each),
                **_passes(config, len(configs)),
            }
            for label, config in zip(labels, configs, strict=True)
        ],
        "comparisons": [
            _comparison(each) for each in compare_executions([config.records for config in configs])
        ],
        "sweeps": _sweeps(configs),
        "rank_views": [rank_json(view, bars // len(views)) for view in views.values()],
        "names": names.texts,
        "short": names.short,
    }


def _sweeps(configs: Sequence[Config]) -> list[Json]:
    groups = [config.records for config in configs]
    with on_screen(FILE):
        return [
            {"text": in_each(partial(render_sweep, each)), **asdict(grid_of(each, groups))}
            for each in sweeps_of(groups)
        ]


def _memory(config: Config) -> str | Json | None:
    """What each part allocates, as the terminal has it; None where that was not recorded."""
    if config.shown.memory is None:
        return None
    with on_screen(FILE):
        return in_each(partial(memory_table, config.shown))


def _config(config: Config, names: Names, bars: int) -> Json:
    shown, asked = config.shown, config.shown.config
    row_of = {row.path: at for at, row in enumerate(config.rows)}
    return {
        "full": ", ".join(filter(None, words(shown))),
        "run": shown.facts.run,
        "phase": shown.phase,
        "batch_size": asked.batch_size if asked else None,
        "input_len": asked.input_len if asked else None,
        "headline": both(titles.headline(config)),
        "shown": both(titles.shown_pass(config)),
        "on_device": config.on_device,
        "first": _first(config),
        "answers": {
            section: [both(sentence) for sentence in answer(config)]
            for section, answer in answers.ANSWERS.items()
        },
        "bare_ns": [record.total_ns for record in config.records],
        "profiled_ns": [record.profiled_ns for record in config.records],
        "run_index": [record.run_index for record in config.records],
        "totals": _totals(config),
        "bare": _bare(config),
        "overhead": _overhead(config),
        "steps_ns": [list(record.step_times_ns) for record in config.records],
        "contexts": _contexts(config),
        "findings": [_finding(finding) for finding in all_findings(config.passes)],
        "warnings": [both(warning) for warning in shown.facts.warnings],
        "environment": [(name, both(cut(text))) for name, text in titles.environment(config)],
        "share": _share(config),
        "rows": _rows(config),
        "roofline": _roofline(config),
        "verdicts": _verdicts(config),
        "memory": _memory(config),
        "savings": _savings(config),
        "unattributed": [asdict(item) for item in shown.times.unattributed],
        "layers": _layers(config, row_of),
        "routing": [
            {"layer": each.layer, "tokens": each.tokens_per_expert} for each in shown.routing
        ],
        "kernels": kernels(config, row_of, names),
        "launched": launched(config, row_of, names),
        "timeline": timeline(config.trace.timeline, names, bars) if config.trace else None,
    }


def _passes(config: Config, configs: int) -> Json:
    """Every part in every pass."""
    found = distributions(config.passes, config.rows, config.on_device, configs)
    return {
        "pass_runs": [each.run_index for each in config.passes],
        "distributions": {kind: asdict(each) for kind, each in found.items()},
    }


def _roofline(config: Config) -> Json | None:
    plot = roofline_of(config.explained, config.rows) if config.explained else None
    return None if plot is None else {**asdict(plot), "sentence": both(plot.sentence)}


def _verdicts(config: Config) -> list[Json]:
    found = verdict_rows(config.explained, config.rows) if config.explained else ()
    return [{**asdict(row), "why": both(row.why), "advice": both(row.advice)} for row in found]


def _first(config: Config) -> Json:
    first = first_screen(config)
    return {
        "verdict": first.verdict,
        "sentence": both(first.sentence),
        "numbers": [{**asdict(number), "label": both(number.label)} for number in first.numbers],
        "next": both(first.next_step),
    }


def _bare(config: Config) -> Json | None:
    """Statistics of every bare time that was measured: of a decode, of each step of each run."""
    times_ns = config.totals.all_bare_ns
    if not times_ns:
        return None
    stats = spread(times_ns)
    return {"count": len(times_ns)} | {key: stats[key] for key in ("median", "min", "max", "iqr")}


def _overhead(config: Config) -> Json | None:
    overhead = config.totals.overhead
    if overhead is None:
        return None
    return {"ratio": overhead.traced, "text": both(overhead_words(config.totals, overhead.traced))}


def _comparison(compared: ExecutionComparison) -> Json:
    executions = compared.executions
    return {
        "configs": list(compared.places),
        "on_device": compared.on_device,
        "names": [both(each.name) for each in executions],
        "rows": [
            {"part": part, "cells": [asdict(e.parts.get(part, Cost())) for e in executions]}
            for part in compared.parts
        ],
        "whole": [asdict(each.whole) for each in executions],
        "bare": [each.bare_ns for each in executions],
    }


def _rows(config: Config) -> list[Json]:
    """The parts, parents before their children; with the bytes that they move, if these are known
    of any.
    """
    accessed = row_bytes(config.shown.times, config.rows)
    return [
        {
            "name": row.name,
            "depth": row.depth,
            "leaf": row.is_leaf,
            "family": FAMILIES.index(row.family),
            **row.times._asdict(),
            **({"bytes": accessed[at]} if accessed else {}),
        }
        for at, row in enumerate(config.rows)
    ]


def _totals(config: Config) -> list[Json]:
    """One row for each headline time, with its value in every pass."""
    passes = config.passes
    steps = config.totals.steps_ns
    bare = "bare: the steps that were also traced" if steps else "bare: no profiler, no labels"
    rows: list[tuple[str, str, Sequence[float | None]]] = [
        ("tpot", "bare: every step of every run", steps),
        ("total_time", bare, [p.total_ns for p in passes]),
        ("profiled_time", _profiled_meaning(config), [p.profiled_ns for p in passes]),
        ("forward", "CPU time of the whole pass", _ns(config, "cpu_ns")),
    ]
    if config.on_device:
        rows += [
            ("cuda_total", "device events, summed", [p.times.device_ns for p in passes]),
            (
                "cuda_busy",
                "time with at least one of them running",
                [p.times.busy_ns for p in passes],
            ),
            ("cuda_gap", _idle_meaning(config), [p.times.gap_ns for p in passes]),
            (
                "unattributed",
                "device events of no label",
                [p.times.unattributed_ns for p in passes],
            ),
        ]
    return [
        {"name": name, "meaning": both(meaning), "values": list(values)}
        for name, meaning, values in rows
        if any(value is not None for value in values)
    ]


def _profiled_meaning(config: Config) -> str:
    """What the row of traced passes counts, and why its median over that of the bare ones may be
    another ratio than the overhead.
    """
    overhead = config.totals.overhead
    meaning = "the same, including profiler overhead"
    if overhead is None:
        return meaning
    return f"{meaning}; {overhead.traced:.2f}x the bare pass beside each, in the median"


def _idle_meaning(config: Config) -> str:
    """What the row of idle time counts, which may be more than a bare pass takes."""
    if config.share is None or not config.share.is_bare:
        return "GPU idle, up to the start of the next pass"
    if config.shown.idle_source == "device":
        return "GPU idle, in device passes"
    return "GPU idle, in traced passes"


def _ns(config: Config, column: str) -> list[float | None]:
    return [getattr(each.times.forward.total, column) for each in config.passes]


def _contexts(config: Config) -> list[Json]:
    """Each traced step of a decode: its bare time, and the sums of its layers by block."""
    found = []
    for each in config.passes:
        if not each.traced:
            continue
        step, whole = each.traced[0], sum_layers(layer_blocks(each.times.forward))
        line: Json = {"context": step.context_len, "run": each.run_index, "bare": step.bare_ns}
        mixers = BlockTimes(*map(sum, zip(whole.attn, whole.linear_attn, strict=True)))
        for block, times in (("attn", mixers), ("ffn", whole.ffn)):
            line[block] = int(times.cpu_ns)
            line[f"{block}_cuda"] = int(times.device_ns)
        found.append(line)
    return sorted(found, key=lambda line: (line["context"], line["run"]))


def _finding(finding: Finding) -> Json:
    return {"severity": finding.severity, "code": finding.code, "message": both(finding.message),
            "example": cut(finding.example)}  # fmt: skip


def _share(config: Config) -> Json | None:
    share = config.share
    if share is None:
        return None
    return {"busy_ns": share.busy_ns, "span_ns": share.span_ns, "is_bare": share.is_bare,
            "share": share.share, "text": f"{share.share:.0%}",
            "verdict": share.verdict}  # fmt: skip


def _savings(config: Config) -> list[Json]:
    """Of the replay of a graph, what each part took in the eager pass next to it."""
    eager = config.shown.eager
    if eager is None:
        return []
    return [
        {"part": each.part.replace("layer.*", "layers"), "saved": each.saved_ns,
         "eager": each.eager.device_ns, "graph": each.graph.device_ns,
         "eager_gap": each.eager.gap_ns, "graph_gap": each.graph.gap_ns}
        for each in savings(eager.times.forward, config.shown.times.forward)
    ]  # fmt: skip


def _layers(config: Config, row_of: dict[PartPath, int]) -> Json:
    times = config.layers
    return {
        "numbers": list(times.layers),
        "columns": [row_of[path] for path in times.paths],
        "cpu": times.cpu_ns.tolist(),
        "cuda": times.device_ns.tolist(),
        "compared": config.odd.passes,
        "outliers": [
            {"layer": each.layer, "row": row_of[each.path], "kind": each.kind, "ns": each.ns,
             "median": each.median_ns}
            for each in config.odd.outliers
        ],
    }  # fmt: skip
