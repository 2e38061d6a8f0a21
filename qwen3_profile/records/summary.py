"""Statistics of every time in the records of one config."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from qwen3_profile.records.quantiles import quantile, token_times

Float64 = npt.NDArray[np.float64]

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

    Each time of the records becomes {median, mean, std, min, max, iqr, p50, p90, p99, runs}, in
    seconds; runs is how many it rests on, std the sample's (n - 1). `warnings` names the headline
    times with an IQR of over 10 % of the median, and counts the others.
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


def config_id(record_id: str) -> str:
    """What the ids of one config and phase of one run have in common: the id less the run."""
    head, _, phase = record_id.rpartition("-")
    return f"{head.rpartition('-')[0]}-{phase}"


_STATISTICS = ("median", "mean", "std", "min", "max", "iqr", "p50", "p90", "p99")


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Median, mean, std, min, max, IQR, percentiles (linear between ranks), number of `values`."""
    (found,) = _spreads(np.array(values, np.float64)[:, None])
    return found


def _spreads(rows: Float64) -> list[dict[str, Any]]:
    """`spread` of each column, float64[runs, n]."""
    if len(rows) == 1:  # as of all parts of a single pass
        alone = {"std": 0.0, "iqr": 0.0, "runs": 1}
        return [dict.fromkeys(_STATISTICS, value) | alone for value in rows[0].tolist()]
    data = np.sort(rows, axis=0)
    count, ranked = len(data), list(data)
    found = np.stack((
        quantile(ranked, 0.5),
        # Rounded, the mean of equal numbers may be another.
        np.clip(data.mean(axis=0), data[0], data[-1]),
        data.std(axis=0, ddof=1),
        data[0],
        data[-1],
        quantile(ranked, 0.75) - quantile(ranked, 0.25),
        *(quantile(ranked, share) for share in (0.5, 0.9, 0.99)),
    ))  # fmt: skip
    return [dict(zip(_STATISTICS, row, strict=True), runs=count) for row in found.T.tolist()]


def is_noisy(stats: Mapping[str, Any]) -> bool:
    """Whether the runs differ by more than a tenth: IQR over median."""
    return bool(stats["iqr"] > NOISY * stats["median"])


class _Place:
    """What stands at one place of several records: numbers, a word, or more places."""

    __slots__ = ("_flat", "_keys", "_numbers", "_places", "_word")

    def __init__(self) -> None:
        self._numbers = array("d")
        self._flat: tuple[str, ...] | None = None
        self._keys: dict[str, _Place] | None = None
        self._places: list[_Place] | None = None
        self._word: str | None = None

    @property
    def is_numbers(self) -> bool:
        holds = (self._flat, self._keys, self._places, self._word)
        return all(each is None for each in holds)

    def add(self, value: Any) -> None:
        """One more record's; None says nothing."""
        if isinstance(value, dict):
            self._add_keys(value)
        elif isinstance(value, list):
            self._add_list(value)
        elif isinstance(value, str):
            self._word = value
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
            rows = np.frombuffer(self._numbers).reshape(-1, len(self._flat))
            if np.isfinite(rows).all():
                return dict(zip(self._flat, _spreads(rows), strict=True))
            self._keys = self._columns()
        if self._keys is not None:
            return _together(self._keys)
        if self._places is not None:
            return [place.statistics() for place in self._places]
        if self._word is not None:
            return self._word
        known = self._known()
        return _spreads(known[:, None])[0] if len(known) else None

    def _known(self) -> Float64:
        """The numbers of a place of numbers."""
        numbers = np.frombuffer(self._numbers)
        return numbers[np.isfinite(numbers)]


def _together(places: Mapping[str, _Place]) -> dict[str, Any]:
    """The statistics of each place; those of equally many numbers are taken at once."""
    found: dict[str, Any] = {}
    alike: dict[int, dict[str, Float64]] = {}
    for key, place in places.items():
        if place.is_numbers:
            known = place._known()
            found[key] = None
            alike.setdefault(len(known), {})[key] = known
        else:
            found[key] = place.statistics()
    for count, columns in alike.items():
        if count:
            rows = np.stack(list(columns.values()), axis=1)
            found |= zip(columns, _spreads(rows), strict=True)
    return found


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
