"""The tables of a sweep: every size, how each row grows, and whether the law predicts anything."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from qwen3_profile.analysis.comparison.settings import describe
from qwen3_profile.analysis.scaling.laws import Interval, Law
from qwen3_profile.analysis.scaling.sweep import TOTAL, Growth, Size, Sweep
from qwen3_profile.views.terminal.cells import milliseconds, wrap
from qwen3_profile.views.terminal.table import Column, table

_SIZES = (
    Column("batch"),
    Column("length"),
    Column("total ms"),
    Column("GPU busy ms", leave_out=1),
    Column("busy"),
    Column("tokens/s"),
    Column("efficiency"),
)
_MOST_LENGTHS = 8
_GRID = "a row for each batch size, a column for each length"
# An interval that reaches to more than so many times its value, or to as small a part, is too wide.
_WIDEST = 3.0
_NS_PER_US, _NS_PER_MS = 1e3, 1e6


def render_sweep(sweep: Sweep) -> str:
    """What one sweep says."""
    sizes = len(sweep.sizes)
    what = wrap(f"scaling of {describe(sweep.first).split(':')[0]}: {sizes} sizes")
    blocks = [what, _size_table(sweep), *_grid(sweep), _row_table(sweep), *sentences(sweep)]
    return "\n\n".join(blocks)


def _size_table(sweep: Sweep) -> str:
    sizes = table(_SIZES, [*map(_size_cells, sweep.sizes)])
    meaning = (
        "efficiency: tokens/s over those of the smallest batch of that length, scaled linearly"
    )
    if any(size.busy is not None for size in sweep.sizes):
        meaning += "; busy: of the bare pass"
    return f"{sizes}\n{wrap(meaning)}"


def _size_cells(size: Size) -> tuple[str, ...]:
    return (
        str(size.batch),
        str(size.length),
        milliseconds(size.bare_ns),
        "-" if size.busy_ns is None else milliseconds(size.busy_ns),
        "-" if size.busy is None else f"{size.busy:.0%}",
        f"{size.rate:.1f}",
        "" if size.efficiency is None else f"{size.efficiency:.0%}",
    )


def _grid(sweep: Sweep) -> Iterator[str]:
    """Time against batch and length at once, where both vary and the lengths fit one line."""
    times = {(size.batch, size.length): size.bare_ns for size in sweep.sizes}
    batches, lengths = (sorted(set(axis)) for axis in zip(*times, strict=True))
    if min(len(batches), len(lengths)) < 2 or len(lengths) > _MOST_LENGTHS:
        return
    columns = (Column("total ms"), *(Column(f"x {length}") for length in lengths))
    rows = []
    for batch in batches:
        found = (times.get((batch, length)) for length in lengths)
        rows.append((str(batch), *("-" if each is None else milliseconds(each) for each in found)))
    yield f"{table(columns, rows)}\n{wrap(_GRID)}"


def _row_table(sweep: Sweep) -> str:
    of = "cuda" if sweep.on_device else "cpu"
    columns = (
        Column(f"part, all layers ({of})", left=True, least=29),
        *map(Column, ("constant", "us/token", "ns/square")),
        Column("exponent", leave_out=1),
        Column("batch", leave_out=2),
        Column("length", leave_out=2),
        Column("left out"),
    )
    rows = table(columns, [(_name(row, sweep), *_row_cells(row)) for row in sweep.rows])
    meaning = (
        "constant ms + us per token + ns per square, batch x length^2 in a prefill and batch x "
        "context in a decode; as many terms as the sizes tell apart; a floor f instead of the "
        "constant: the longer of f and the rest; exponent: of time against tokens, among the "
        "smaller sizes and the larger ones; batch, length: exponents of both at once; left out: "
        "how far the largest size lies from what the others predict, ! where that is outside "
        "the interval of 95%"
    )
    return f"{rows}\n{wrap(meaning)}"


def _name(row: Growth, sweep: Sweep) -> str:
    if row.path == TOTAL:
        return f"{TOTAL[0]} ({sweep.total_is})" if sweep.total_is else TOTAL[0]
    return "  " * (len(row.path) - 1) + row.path[-1]


def _row_cells(row: Growth) -> Iterator[str]:
    yield from _law_cells(row.law)
    yield " ".join(f"{each.exponent.value:.2f}" for each in row.local)
    yield "" if row.by_batch is None else f"{row.by_batch.value:.2f}"
    yield "" if row.by_length is None else f"{row.by_length.value:.2f}"
    if row.left_out is None:
        yield ""
        return
    off = row.left_out.measured_ns / row.left_out.predicted.value - 1
    yield f"{off:+.0%}{'' if row.left_out.is_inside else ' !'}"


def _law_cells(law: Law | None) -> tuple[str, str, str]:
    if law is None:
        return "", "", ""
    terms = law.terms
    floor = terms.get("floor")
    constant = _figure(floor or terms["constant"], _NS_PER_MS)
    per_token, per_square = terms.get("per_token"), terms.get("per_square")
    return (
        f"f {constant}" if floor else constant,
        _figure(per_token, _NS_PER_US) if per_token else "",
        _figure(per_square, 1.0) if per_square else "",
    )


def _figure(value: Interval, unit: float) -> str:
    return f"{value.value / unit:.3g}"


def sentences(sweep: Sweep) -> Iterator[str]:
    """Where it turns, and what the next sizes would take."""
    total = sweep.rows[0]
    if total.law is None:
        return
    turn = total.law.crossover
    if turn is not None:
        yield wrap(
            f"up to about {turn:.0f} tokens a pass takes as long as its floor, "
            f"{total.law.terms['floor'].value / _NS_PER_MS:.1f} ms: launch-bound; beyond, the "
            "time grows with the tokens"
        )
    yield wrap(f"predicted: {_ahead(sweep.sizes, total)}")


def _ahead(sizes: Sequence[Size], total: Growth) -> str:
    largest = max(sizes, key=lambda each: (each.tokens, each.square))
    words = []
    for time, batch, length in (
        (total.batch_ahead, 2 * largest.batch, largest.length),
        (total.length_ahead, largest.batch, 2 * largest.length),
    ):
        assert time is not None
        low, high = milliseconds(time.low), milliseconds(time.high)
        if max(time.high / time.value, time.value / max(time.low, 1.0)) > _WIDEST:
            words.append(f"{batch} x {length} cannot be told, the interval is {low} .. {high} ms")
        else:
            words.append(
                f"{batch} x {length} takes {milliseconds(time.value)} ms [{low} .. {high}]"
            )
    return "; ".join(words)
