"""Records in long form: a row for each time of each pass, from which any notebook goes on.

    run, id, pass, phase, batch_size, input_len, dtype, layer, part, quantity, value, unit

`pass` counts the measured runs, and in a decode the step goes with it in `step`; `layer` is null
outside the layers, and `part` has the path of names below the layer: `attn/q_proj`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qwen3_profile import labels
from qwen3_profile.errors import ConfigError, OutputError
from qwen3_profile.records.record import TimingRecord
from qwen3_profile.system.files import is_special, only_writer, refuse_read_only, write_atomic

if TYPE_CHECKING:
    import pandas
    import pyarrow

COLUMNS = (
    "run", "id", "pass", "step", "phase", "batch_size", "input_len", "dtype", "layer", "part",
    "quantity", "value", "unit",
)  # fmt: skip
_NS_PER_S = 1e9
# Of a part: what is read of its times, under which name, in which unit, and how many of a field's
# one such unit is.
_OF_PARTS = (
    ("cpu_ns", "cpu", "s", _NS_PER_S), ("device_ns", "cuda", "s", _NS_PER_S),
    ("gap_ns", "idle", "s", _NS_PER_S), ("calls", "calls", "1", 1.0),
    ("device_events", "device_events", "1", 1.0),
)  # fmt: skip

Row = tuple[Any, ...]


def long_columns(records: Sequence[TimingRecord]) -> dict[str, list[Any]]:
    """The columns, of equally many values; times in seconds."""
    rows = [row for record in records for row in _rows(record)]
    columns = zip(*rows, strict=True) if rows else ((),) * len(COLUMNS)
    return {name: list(column) for name, column in zip(COLUMNS, columns, strict=True)}


def to_pandas(records: Sequence[TimingRecord]) -> pandas.DataFrame:
    """The records as a table of pandas."""
    import pandas as pd

    frame = pd.DataFrame(long_columns(records), columns=list(COLUMNS))
    whole = dict.fromkeys(("pass", "step", "layer", "batch_size", "input_len"), "Int64")
    return frame.astype(whole)


def to_arrow(records: Sequence[TimingRecord]) -> pyarrow.Table:
    """The records as a table of Arrow.

    Raises:
        ConfigError: pyarrow is not installed.
    """
    pa = _pyarrow()
    columns = long_columns(records)
    types = {name: pa.string() for name in COLUMNS} | {
        name: pa.int64() for name in ("pass", "step", "layer", "batch_size", "input_len")
    }
    types["value"] = pa.float64()
    schema = pa.schema([(name, types[name]) for name in COLUMNS])
    return pa.table({name: pa.array(columns[name], types[name]) for name in COLUMNS}, schema)


def check_parquet(path: Path) -> None:
    """Makes sure that records can be merged into `path`.

    Raises:
        ConfigError: pyarrow is not installed.
        OutputError: a file is there that is not ours, or not readable.
    """
    _read(path)
    refuse_read_only(path)


def save_parquet(path: Path, records: Sequence[TimingRecord]) -> None:
    """Merges records into a Parquet file in long form, by their ids.

    Raises:
        ConfigError: pyarrow is not installed.
        OutputError: the file is not ours, or cannot be written; it is then as it was.
    """
    pa, new = _pyarrow(), to_arrow(records)
    from pyarrow import compute, parquet

    with only_writer(path):
        known = _read(path)
        if known is not None:
            ids = pa.array([record.id for record in records])
            kept = known.filter(compute.invert(compute.is_in(known["id"], ids)))
            new = pa.concat_tables([kept, new])
        buffer = pa.BufferOutputStream()
        parquet.write_table(new, buffer)
        write_atomic(path, buffer.getvalue().to_pybytes())


def _read(path: Path) -> pyarrow.Table | None:
    pa = _pyarrow()
    from pyarrow import parquet

    if is_special(path) or not path.exists() or not path.stat().st_size:
        return None
    do = "it is left as it is; take another --output-file"
    try:
        found = parquet.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise OutputError(str(path), f"is not Parquet: {str(error).splitlines()[0]}", do) from error
    if tuple(found.column_names) != COLUMNS:
        raise OutputError(str(path), "has other columns than ours", do)
    return found


def _pyarrow() -> Any:
    try:
        import pyarrow
    except ImportError:
        do = "pip install 'qwen3_profile[parquet]'"
        raise ConfigError("--format parquet", "needs pyarrow", do) from None
    return pyarrow


def _rows(record: TimingRecord) -> Iterator[Row]:
    config = record.config
    size = (config.batch_size, config.input_len, config.dtype) if config else (None, None, None)

    def row(step: int | None, layer: int | None, part: str, what: tuple[str, float, str]) -> Row:
        head = (record.facts.run, record.id, record.run_index, step, record.phase, *size)
        return (*head, layer, part, *what)

    for kind in ("bare", "clock", "device", "traced"):
        mhz = record.sm_clock.of(kind)
        if mhz is not None:
            yield row(None, None, "", (f"sm_clock_{kind}", mhz, "MHz"))
    if record.energy is not None:
        yield row(None, None, "", ("energy", record.energy.joules, "J"))
        yield row(None, None, "", ("energy_per_token", record.energy.joules_per_token, "J"))
    for step, ns in enumerate(record.step_times_ns):
        yield row(step, None, "", ("total_time", ns / _NS_PER_S, "s"))
    for single in record.one_by_one():
        at = single.traced[0].position if single.traced else None
        if single.total_ns is not None and not record.step_times_ns:
            yield row(at, None, "", ("total_time", single.total_ns / _NS_PER_S, "s"))
        if single.profiled_ns is not None:
            yield row(at, None, "", ("profiled_time", single.profiled_ns / _NS_PER_S, "s"))
        for path, part in single.times.forward.walk():
            layer, name = _place(path)
            for field, quantity, unit, divisor in _OF_PARTS:
                yield row(at, layer, name, (quantity, getattr(part.total, field) / divisor, unit))


def _place(path: tuple[str, ...]) -> tuple[int | None, str]:
    """The layer of a part, and its names below it; of what lies outside, below the pass."""
    label = labels.parse(path[1]) if len(path) > 1 else None
    if label is not None and label.kind == "layer" and label.layer is not None:
        return label.layer, "/".join(name.rpartition(".")[2] for name in path[2:])
    return None, "/".join(path[1:])
