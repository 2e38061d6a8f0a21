"""Records of one config in, the statistics of every time in them out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from qwen3_profile.percentiles import token_times

SCHEMA_VERSION = 1

# Beyond this the runs of a config differ too much for the median to be quoted without saying so.
NOISY = 0.10

_TIMES = (
    "total_time",
    "ttft",
    "profiled_time",
    "disturbance",
    "tokens_per_second",
    "forward",
    "forward_cuda",
    "backward",
    "backward_cuda",
    "cuda_total",
    "cuda_busy",
    "cuda_gap",
    "unattributed_cuda",
    "model_details",
    "layer_details",
)
_HEADLINES = ("total_time", "profiled_time", "cuda_total")
# What follows from them is as noisy as they are.
_DERIVED = ("ttft", "disturbance", "tokens_per_second")
_KEPT = (
    "run", "config_index", "phase", "batch_size", "input_len", "dtype", "device", "model",
    "execution", "compile_mode", "compile_scope",
)  # fmt: skip


def summarise(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The summary of one config's records, as `timing_summary.json` holds it.

    Each time of the records becomes {median, mean, std, min, max, iqr, runs}, in seconds; std is
    the sample's (n - 1). `warnings` names the headline times with an IQR of over 10 % of the
    median, and counts the others.
    """
    first = records[0]
    times = {key: _fold([record.get(key) for record in records]) for key in _TIMES}
    return {
        "schema_version": SCHEMA_VERSION,
        "id": config_id(first),
        **{key: first.get(key) for key in _KEPT},
        "runs": len(records),
        "warnings": _warnings(times),
        **times,
        **_tokens(records),
    }


def _tokens(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Of a decode, the time per output token over every step of every run."""
    steps = [seconds for record in records for seconds in record.get("step_times") or ()]
    return {"tpot": asdict(token_times(steps)) | {"steps": len(steps)}} if steps else {}


def config_id(record: Mapping[str, Any]) -> str:
    """What the records of one config and phase of one run have in common: the id less the run."""
    head, _, phase = str(record["id"]).rpartition("-")
    return f"{head.rpartition('-')[0]}-{phase}"


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Median, mean, std, min, max, IQR (linear between ranks) and number of `values`."""
    data = sorted(map(float, values))
    count = len(data)
    mean = math.fsum(data) / count
    variance = math.fsum((value - mean) ** 2 for value in data) / max(count - 1, 1)
    return {
        "median": _quantile(data, 0.5),
        "mean": mean,
        "std": math.sqrt(variance),
        "min": data[0],
        "max": data[-1],
        "iqr": _quantile(data, 0.75) - _quantile(data, 0.25),
        "runs": count,
    }


def _quantile(data: Sequence[float], share: float) -> float:
    """Linear between ranks of sorted data; numpy takes a hundred times as long for so few."""
    below, rest = divmod(share * (len(data) - 1), 1)
    one, other = data[int(below)], data[min(int(below) + 1, len(data) - 1)]
    return one + (other - one) * rest if rest < 0.5 else other - (other - one) * (1 - rest)


def is_noisy(stats: Mapping[str, Any]) -> bool:
    """Whether the runs differ by more than a tenth: IQR over median."""
    return bool(stats["iqr"] > NOISY * stats["median"])


def _fold(values: Sequence[Any]) -> Any:
    """Values of the same place in several records: numbers to statistics, containers inwards."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    if isinstance(known[0], Mapping):
        keys = dict.fromkeys(key for value in known for key in value)
        return {key: _fold([value.get(key) for value in known]) for key in keys}
    if isinstance(known[0], list):
        return [_fold(list(column)) for column in zip(*known, strict=False)]
    return spread([value for value in known if math.isfinite(value)])


def _warnings(times: Mapping[str, Any]) -> list[str]:
    found = []
    for key in _HEADLINES:
        stats = times[key]
        if stats is not None and is_noisy(stats):
            found.append(f"{key} is noisy: {_how_noisy(stats)}")
    parts = (key for key in _TIMES if key not in (*_HEADLINES, *_DERIVED))
    others = [stats for key in parts for stats in _leaves(times[key])]
    noisy = sum(is_noisy(stats) for stats in others)
    if noisy:
        found.append(f"{noisy} of {len(others)} part times have an IQR of over {NOISY:.0%}")
    return found


def _how_noisy(stats: Mapping[str, Any]) -> str:
    if not stats["median"]:
        return "its median is 0 and its IQR is not"
    return f"IQR is {stats['iqr'] / stats['median']:.1%} of the median, over {NOISY:.0%}"


def _leaves(node: Any) -> list[Mapping[str, Any]]:
    if isinstance(node, list):
        return [leaf for item in node for leaf in _leaves(item)]
    if not isinstance(node, Mapping):
        return []
    if "median" in node:
        return [node]
    return [leaf for item in node.values() for leaf in _leaves(item)]
