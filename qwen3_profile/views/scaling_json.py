"""A sweep as an entry of `timing_scaling.json`; times in seconds, as in the records."""

from __future__ import annotations

from typing import Any

from qwen3_profile.analysis.scaling.laws import Exponent, Interval, Law
from qwen3_profile.analysis.scaling.sweep import Growth, LeftOut, Size, Sweep
from qwen3_profile.records.summary import config_id

SCHEMA_VERSION = 1

_NS_PER_S = 1e9


def sweep_json(sweep: Sweep) -> dict[str, Any]:
    """What was measured of each size, and of each row its law, exponents and forecasts."""
    config = sweep.first.config
    assert config is not None
    return {
        "schema_version": SCHEMA_VERSION,
        "id": f"{config_id(sweep.first.id)}-scaling",
        "run": sweep.first.facts.run,
        "phase": sweep.phase,
        "model": None if sweep.first.facts.model is None else sweep.first.facts.model.name,
        "device": sweep.first.facts.device,
        "dtype": config.dtype,
        "execution": sweep.first.facts.execution,
        "attn_implementation": sweep.first.facts.attn_implementation,
        "total_time_is": sweep.total_is.lower() or None,
        "rows_are": "cuda" if sweep.on_device else "cpu",
        "sizes": [_size_json(size) for size in sweep.sizes],
        "rows": [_growth_json(row) for row in sweep.rows],
    }


def _size_json(size: Size) -> dict[str, Any]:
    return {
        "batch_size": size.batch,
        "input_len": size.length,
        "tokens": size.tokens,
        "square": size.square,
        "total_time": size.bare_ns / _NS_PER_S,
        "cuda_busy": None if size.busy_ns is None else size.busy_ns / _NS_PER_S,
        "tokens_per_second": size.rate,
        "efficiency": size.efficiency,
    }


def _growth_json(row: Growth) -> dict[str, Any]:
    return {
        "path": row.path,
        "times": [ns / _NS_PER_S for ns in row.times_ns],
        "law": None if row.law is None else _law_json(row.law),
        "exponents": [_exponent_json(each) for each in row.local],
        "batch_exponent": _interval_json(row.by_batch, 1.0),
        "length_exponent": _interval_json(row.by_length, 1.0),
        "left_out": None if row.left_out is None else _left_out_json(row.left_out),
        "twice_the_batch": _interval_json(row.batch_ahead, _NS_PER_S),
        "twice_the_length": _interval_json(row.length_ahead, _NS_PER_S),
    }


def _law_json(law: Law) -> dict[str, Any]:
    """Coefficients in seconds, per token and per unit of `square`; `error` is a share."""
    terms = {name: _interval_json(value, _NS_PER_S) for name, value in law.terms.items()}
    return {
        "form": law.form, "terms": terms, "error": law.error, "crossover_tokens": law.crossover,
    }  # fmt: skip


def _exponent_json(each: Exponent) -> dict[str, Any]:
    found = {"from_tokens": each.first, "to_tokens": each.last}
    return {**found, **(_interval_json(each.exponent, 1.0) or {})}


def _interval_json(value: Interval | None, unit: float) -> dict[str, float] | None:
    if value is None:
        return None
    return {"value": value.value / unit, "low": value.low / unit, "high": value.high / unit}


def _left_out_json(left: LeftOut) -> dict[str, Any]:
    return {
        "batch_size": left.size.batch,
        "input_len": left.size.length,
        "measured": left.measured_ns / _NS_PER_S,
        "predicted": _interval_json(left.predicted, _NS_PER_S),
        "is_inside": left.is_inside,
    }
