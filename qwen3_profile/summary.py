"""Records of one config in, the statistics of every time in them out."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Mapping, Sequence
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


class Summary:
    """The summary of one config's records, which it is told one by one.

    Each time of the records becomes {median, mean, std, min, max, iqr, runs}, in seconds; std is
    the sample's (n - 1). `warnings` names the headline times with an IQR of over 10 % of the
    median, and counts the others.
    """

    def __init__(self) -> None:
        self._head: dict[str, Any] = {}
        self._runs = 0
        self._times = {key: _Place() for key in _TIMES}
        self._steps = array("d")

    def add(self, record: Mapping[str, Any]) -> None:
        if not self._runs:
            kept = {key: record.get(key) for key in _KEPT}
            self._head = {"id": config_id(record["id"]), **kept}
        self._runs += 1
        for key, place in self._times.items():
            place.add(record.get(key))
        self._steps.extend(record.get("step_times") or ())

    def to_json(self) -> dict[str, Any]:
        """The summary as `timing_summary.json` holds it; of one record at least."""
        times = {key: place.statistics() for key, place in self._times.items()}
        return {
            "schema_version": SCHEMA_VERSION,
            **self._head,
            "runs": self._runs,
            "warnings": _warnings(times),
            **times,
            **self._tokens(),
        }

    def _tokens(self) -> dict[str, Any]:
        """Of a decode, the time per output token over every step of every run."""
        steps = self._steps.tolist()
        return {"tpot": asdict(token_times(steps)) | {"steps": len(steps)}} if steps else {}


def summarise(records: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The summary of these records, one at least."""
    summary = Summary()
    for record in records:
        summary.add(record)
    return summary.to_json()


def config_id(record_id: str) -> str:
    """What the ids of one config and phase of one run have in common: the id less the run."""
    head, _, phase = record_id.rpartition("-")
    return f"{head.rpartition('-')[0]}-{phase}"


_PLACES = ("median", "mean", "std", "min", "max", "iqr")


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Median, mean, std, min, max, IQR (linear between ranks) and number of `values`."""
    if len(values) == 1:  # as of every part of a lone pass
        return dict.fromkeys(_PLACES, float(values[0])) | {"std": 0.0, "iqr": 0.0, "runs": 1}
    data = sorted(map(float, values))
    count = len(data)
    mean = math.fsum(data) / count
    # The length of the differences; its squares are summed in C, and exactly.
    length = math.hypot(*[value - mean for value in data])
    return {
        "median": _quantile(data, 0.5),
        "mean": mean,
        "std": length / math.sqrt(max(count - 1, 1)),
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


class _Place:
    """What stands at one place of several records: numbers, or containers of more places."""

    __slots__ = ("_flat", "_keys", "_numbers", "_places")

    def __init__(self) -> None:
        self._numbers = array("d")
        self._flat: tuple[str, ...] | None = None
        self._keys: dict[str, _Place] | None = None
        self._places: list[_Place] | None = None

    def add(self, value: Any) -> None:
        """One more record's; None says nothing."""
        if isinstance(value, dict):
            self._add_keys(value)
        elif isinstance(value, list):
            self._add_list(value)
        elif value is not None:
            self._numbers.append(value)

    def _add_keys(self, value: dict[str, Any]) -> None:
        # Nearly all that records hold are numbers under the same keys: these are kept in rows.
        if self._keys is None and self._flat in (None, tuple(value)):
            before = len(self._numbers)
            try:
                self._numbers.extend(value.values())
                self._flat = tuple(value)
                return
            except TypeError:
                del self._numbers[before:]
        if self._keys is None:
            self._keys = self._columns()
        for key, inside in value.items():
            place = self._keys.get(key)
            if place is None:
                place = self._keys[key] = _Place()
            if type(inside) is float:
                place._numbers.append(inside)
            else:
                place.add(inside)

    def _columns(self) -> dict[str, _Place]:
        """The rows so far, as a place for each key."""
        places = {key: _Place() for key in self._flat or ()}
        for number, place in enumerate(places.values()):
            place._numbers = self._numbers[number :: len(places)]
        self._numbers, self._flat = array("d"), None
        return places

    def _add_list(self, value: list[Any]) -> None:
        if self._places is None:
            self._places = [_Place() for _ in value]
        # What only some of the records have says nothing of the others.
        del self._places[len(value) :]
        for place, inside in zip(self._places, value, strict=False):
            place.add(inside)

    def statistics(self) -> Any:
        """Numbers as `spread` tells them, in containers as the records have them."""
        if self._flat is not None:
            self._keys = self._columns()
        if self._keys is not None:
            return {key: place.statistics() for key, place in self._keys.items()}
        if self._places is not None:
            return [place.statistics() for place in self._places]
        known = self._numbers
        if not all(map(math.isfinite, known)):
            known = array("d", filter(math.isfinite, known))
        return spread(known) if known else None


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
