"""A sweep over batch and length: what grows how, where it turns, and what comes next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from qwen3_profile import labels
from qwen3_profile.analysis.comparison.samples import bare_passes, part_times
from qwen3_profile.analysis.median_pass import is_on_device, ns_of
from qwen3_profile.analysis.part_rows import PartPath
from qwen3_profile.analysis.scaling.laws import (
    Exponent,
    Interval,
    Law,
    exponents,
    fit,
    fit_form,
)
from qwen3_profile.config import RunConfig
from qwen3_profile.records.quantiles import median
from qwen3_profile.records.record import TimingRecord

Group = Sequence[TimingRecord]

TOTAL: PartPath = ("total_time",)
# Of fewer sizes nothing can be fitted and checked.
FEWEST_SIZES = 3
# Parts of less than this of the longest pass are noise.
_LEAST_SHARE = 0.002


@dataclass(frozen=True, slots=True)
class Size:
    """One config of a sweep; times in ns, medians over its passes.

    tokens: that a pass computes. square: what attention does besides, in tokens squared.
    bare_ns: of a decode a step. busy_ns: of the device; None where none was recorded.
    rate: tokens per second of the whole batch. efficiency: of that, against as many times the rate
        of the smallest batch of this length; None of that batch itself.
    """

    batch: int
    length: int
    tokens: int
    square: float
    bare_ns: float
    busy_ns: float | None
    rate: float
    efficiency: float | None = None

    @property
    def busy(self) -> float | None:
        """The share of the bare pass in which the device has work, at most 1."""
        return None if self.busy_ns is None else min(1.0, self.busy_ns / self.bare_ns)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """The largest size, predicted from the others, and what it took."""

    size: Size
    predicted: Interval
    measured_ns: float

    @property
    def is_inside(self) -> bool:
        return self.predicted.low <= self.measured_ns <= self.predicted.high


@dataclass(frozen=True, slots=True)
class Growth:
    """How one row grows.

    path: `total_time`, or that of a part. times_ns: in the order of the sizes.
    law: None where the sizes tell none. local: exponents against tokens. by_batch, by_length: of
        both at once; None where only one of them varies.
    left_out: None where too few sizes are left. batch_ahead, length_ahead: the time of twice the
        largest batch, and length.
    """

    path: PartPath
    times_ns: tuple[float, ...]
    law: Law | None
    local: tuple[Exponent, ...]
    by_batch: Interval | None
    by_length: Interval | None
    left_out: LeftOut | None
    batch_ahead: Interval | None
    length_ahead: Interval | None


@dataclass(frozen=True, slots=True)
class Sweep:
    """Configs that differ in batch and length alone.

    first: the record of one of them. on_device: whether the rows but the first are of the device.
    sizes: by length, then by batch.
    """

    first: TimingRecord
    on_device: bool
    sizes: tuple[Size, ...]
    rows: tuple[Growth, ...]

    @property
    def phase(self) -> str:
        return self.first.phase

    @property
    def total_is(self) -> str:
        """What its whole pass is called in serving; empty where no token follows it."""
        if self.phase == labels.PHASES[1]:
            return "TPOT"
        config = self.first.config
        return "TTFT" if config is not None and config.decode_steps else ""

    def holds(self, record: TimingRecord) -> bool:
        """Whether the record is of one of its sizes."""
        return _alike(record) == _alike(self.first)


_Alike = tuple[str, str, RunConfig]


def _alike(record: TimingRecord) -> _Alike | None:
    """What configs of one sweep have in common; None of a record that can be in none."""
    config = record.config
    if config is None or not record.total_ns:
        return None
    return record.facts.run, record.phase, replace(config, batch_size=1, input_len=2)


def can_fit() -> bool:
    """Whether scipy is there, which the reading half does without."""
    try:
        import scipy  # noqa: F401
    except ImportError:
        return False
    return True


def sweeps_of(groups: Sequence[Group]) -> Iterator[Sweep]:
    """The sweeps among configs of one run or several; none where nothing can be fitted.

    Args:
        groups: records of one config and phase each.
    """
    alike: dict[_Alike, list[Group]] = {}
    for records in groups:
        key = _alike(records[0])
        if key is not None:
            alike.setdefault(key, []).append(records)
    for several in alike.values():
        if len(several) >= FEWEST_SIZES and can_fit():
            yield _sweep(sorted(several, key=_place))


def _place(records: Group) -> tuple[int, int]:
    config = records[0].config
    assert config is not None
    return config.input_len, config.batch_size


def _sweep(groups: Sequence[Group]) -> Sweep:
    on_device = all(map(is_on_device, groups))
    sizes = _with_efficiency([_size(records, on_device) for records in groups])
    rows = [(TOTAL, [size.bare_ns for size in sizes])]
    rows += _part_rows(groups, on_device)
    return Sweep(
        first=groups[0][0],
        on_device=on_device,
        sizes=tuple(sizes),
        rows=tuple(_growth(path, times, sizes) for path, times in rows),
    )


def _size(records: Group, on_device: bool) -> Size:
    config, phase = records[0].config, records[0].phase
    assert config is not None
    is_decode = phase == labels.PHASES[1]
    # A decode step is the mean one: half of all steps are behind it in the context.
    context = config.input_len + config.decode_steps / 2
    tokens = config.batch_size * (1 if is_decode else config.input_len)
    bare_ns = median(bare_passes(records))
    busy = [record.times.busy_ns / record.steps for record in records]
    return Size(
        batch=config.batch_size,
        length=config.input_len,
        tokens=tokens,
        square=config.batch_size * (context if is_decode else config.input_len**2),
        bare_ns=bare_ns,
        busy_ns=median(busy) if on_device else None,
        rate=tokens * 1e9 / bare_ns,
    )


def _with_efficiency(sizes: Sequence[Size]) -> list[Size]:
    """Each against the smallest batch of its length."""
    least: dict[int, Size] = {}
    for size in sizes:
        known = least.setdefault(size.length, size)
        least[size.length] = min(known, size, key=lambda each: each.batch)
    found = []
    for size in sizes:
        base = least[size.length]
        ideal = base.rate * size.batch / base.batch
        found.append(size if base is size else replace(size, efficiency=size.rate / ideal))
    return found


def _part_rows(groups: Sequence[Group], on_device: bool) -> Iterator[tuple[PartPath, list[float]]]:
    """Each part that takes some time in every size."""
    each = [_medians(records, on_device) for records in groups]
    longest = max(max(times.values(), default=0.0) for times in each)
    for path in each[0]:
        times = [one.get(path, 0.0) for one in each]
        if min(times) > 0 and max(times) > _LEAST_SHARE * longest:
            yield path, times


def _medians(records: Group, on_device: bool) -> dict[PartPath, float]:
    found: dict[PartPath, list[float]] = {}
    for record in records:
        for path, times in part_times(record.times.forward):
            found.setdefault(path, []).append(ns_of(times, on_device) / record.steps)
    return {path: median(values) for path, values in found.items()}


def _growth(path: PartPath, times: Sequence[float], sizes: Sequence[Size]) -> Growth:
    tokens, squares = [size.tokens for size in sizes], [size.square for size in sizes]
    law = fit(tokens, squares, times)
    batch, length = _slopes(sizes, times)
    largest = max(sizes, key=lambda each: (each.tokens, each.square))
    return Growth(
        path=path,
        times_ns=tuple(times),
        law=law,
        local=exponents(tokens, times),
        by_batch=batch,
        by_length=length,
        left_out=None if law is None else _left_out(law, sizes, times),
        batch_ahead=None if law is None else law.at(2 * largest.tokens, 2 * largest.square),
        length_ahead=None if law is None else law.at(*_twice_as_long(largest)),
    )


def _twice_as_long(size: Size) -> tuple[float, float]:
    """Tokens and square of the size with twice the length."""
    if size.tokens == size.batch * size.length:
        return 2 * size.tokens, 4 * size.square
    return size.tokens, size.square + size.batch * size.length


def _left_out(law: Law, sizes: Sequence[Size], times: Sequence[float]) -> LeftOut | None:
    at = max(range(len(sizes)), key=lambda each: (sizes[each].tokens, sizes[each].square))
    kept = [size for each, size in enumerate(sizes) if each != at]
    rest = [time for each, time in enumerate(times) if each != at]
    known = fit_form(law.form, [s.tokens for s in kept], [s.square for s in kept], rest)
    if known is None:
        return None
    return LeftOut(sizes[at], known.at(sizes[at].tokens, sizes[at].square), times[at])


def _slopes(
    sizes: Sequence[Size], times: Sequence[float]
) -> tuple[Interval | None, Interval | None]:
    """The exponents of batch and length, of both at once, where both vary."""
    from scipy.stats import t

    axes = [np.log([size.batch for size in sizes]), np.log([size.length for size in sizes])]
    vary = [len(np.unique(axis)) > 1 for axis in axes]
    columns = np.stack([np.ones(len(sizes)), *(a for a, v in zip(axes, vary, strict=True) if v)], 1)
    freedom = len(sizes) - columns.shape[1]
    if freedom < 1 or not any(vary):
        return None, None
    logs = np.log(times)
    values, *_ = np.linalg.lstsq(columns, logs, rcond=None)
    error = ((logs - columns @ values) ** 2).sum() / freedom
    reach = t.ppf(0.975, freedom) * np.sqrt(error * np.diag(np.linalg.pinv(columns.T @ columns)))
    found = iter(zip(values[1:].tolist(), reach[1:].tolist(), strict=True))
    each = [next(found) if v else None for v in vary]
    batch, length = (None if e is None else Interval(e[0], e[0] - e[1], e[0] + e[1]) for e in each)
    return batch, length
