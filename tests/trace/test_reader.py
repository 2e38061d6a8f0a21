"""Bytes in, columns out: exact times, every spelling of a category, and what is refused."""

from __future__ import annotations

import gzip
import json
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from make.kineto import (
    cpu_op,
    document,
    event,
    kernel,
    label,
    launch,
    memcpy,
    memset,
    read,
    us,
    write,
)

from qwen3_profile.errors import EXIT_BAD_INPUT, EXIT_DAMAGED, DamagedTraceError, TraceError
from qwen3_profile.trace import Category, Track, read_trace
from qwen3_profile.trace.columns import NO_CORRELATION
from qwen3_profile.trace.slow_events import nanoseconds

# --- times --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("0.000", 0, id="zero"),
        pytest.param("0.001", 1, id="one nanosecond"),
        pytest.param("12.34", 12340, id="two decimals are padded"),
        pytest.param("12.5", 12500, id="one decimal is padded"),
        pytest.param("17", 17000, id="whole microseconds of 2021"),
        pytest.param("4587026371543.110", 4587026371543110, id="since boot"),
        pytest.param("1712195495984501.132", 1712195495984501132, id="epoch, where float64 fails"),
        pytest.param("1.5e3", 1500000, id="exponent"),
        pytest.param("2E+0", 2000, id="capital exponent with sign"),
        pytest.param("-0.25", -250, id="negative, before the base time"),
        pytest.param("1.0005", 1000, id="a half goes to the even one, down"),
        pytest.param("1.0015", 1002, id="a half goes to the even one, up"),
        pytest.param("1.00051", 1001, id="more than a half goes up"),
    ],
)
def test_a_start_is_read_exactly(text: str, expected: int) -> None:
    trace = read(event("kernel", "k", 0, 7, text, "1.000"))
    assert trace.device.start_ns.tolist() == [expected]


def test_a_duration_is_read_exactly_and_ends_the_event() -> None:
    trace = read(event("cpu_op", "aten::mm", 1, 1, "1712195495984501.132", "0.869"))
    assert trace.host.dur_ns.tolist() == [869]
    assert trace.host.end_ns.tolist() == [1712195495984502001]


@given(st.decimals(-(10**16), 10**16, places=3), st.integers(0, 3))
def test_nanoseconds_agree_with_decimal(value: Decimal, cut: int) -> None:
    text = f"{value:f}"[: len(f"{value:f}") - cut].rstrip(".")
    assert nanoseconds(text.encode()) == Decimal(text) * 1000


@given(st.decimals(-(10**6), 10**6, places=9))
def test_nanoseconds_round_half_to_even(value: Decimal) -> None:
    expected = (value * 1000).quantize(Decimal(1), ROUND_HALF_EVEN)
    assert nanoseconds(f"{value:f}".encode()) == expected


@given(st.integers(0, 2**62 - 1))
def test_what_kineto_writes_comes_back(time_ns: int) -> None:
    assert nanoseconds(us(time_ns).encode()) == time_ns


# --- categories ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cat", "table", "category"),
    [
        pytest.param("cpu_op", "host", Category.CPU_OP, id="operator"),
        pytest.param("Operator", "host", Category.CPU_OP, id="operator of 2021"),
        pytest.param("user_annotation", "host", Category.USER_ANNOTATION, id="annotation"),
        pytest.param("cuda_runtime", "launches", Category.RUNTIME, id="CUDA and HIP runtime"),
        pytest.param("Runtime", "launches", Category.RUNTIME, id="runtime of 2021"),
        pytest.param("runtime", "launches", Category.RUNTIME, id="runtime of a normalised trace"),
        pytest.param("xpu_runtime", "launches", Category.RUNTIME, id="XPU runtime"),
        pytest.param("mtia_runtime", "launches", Category.RUNTIME, id="MTIA runtime"),
        pytest.param("privateuse1_runtime", "launches", Category.RUNTIME, id="other runtime"),
        pytest.param("cuda_driver", "launches", Category.DRIVER, id="driver, as Triton launches"),
        pytest.param("xpu_driver", "launches", Category.DRIVER, id="XPU driver"),
        pytest.param("privateuse1_driver", "launches", Category.DRIVER, id="other driver"),
        pytest.param("kernel", "device", Category.KERNEL, id="kernel"),
        pytest.param("Kernel", "device", Category.KERNEL, id="kernel of 2021"),
        pytest.param("gpu_memcpy", "device", Category.GPU_MEMCPY, id="copy"),
        pytest.param("Memcpy", "device", Category.GPU_MEMCPY, id="copy of 2021"),
        pytest.param("gpu_memset", "device", Category.GPU_MEMSET, id="fill"),
        pytest.param("Memset", "device", Category.GPU_MEMSET, id="fill of 2021"),
        pytest.param(
            "gpu_user_annotation", "gpu_annotations", Category.GPU_USER_ANNOTATION, id="GPU range"
        ),
    ],
)
def test_each_category_has_its_table(cat: str, table: str, category: Category) -> None:
    trace = read(event(cat, "x", 1, 1, "1.000", "1.000"))
    sizes = {
        name: len(getattr(trace, name))
        for name in ("host", "launches", "device", "gpu_annotations")
    }
    assert sizes == {**dict.fromkeys(sizes, 0), table: 1}
    assert getattr(trace, table).category.tolist() == [category]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(event("overhead", "Buffer", 1, 1, "1.0", "1.0"), id="unknown category"),
        pytest.param(event("Trace", "PyTorch", 1, 1, "oops".join('""'), "1"), id="its odd times"),
        pytest.param('{"ph": "M", "name": "process_name", "pid": 1}', id="metadata"),
        pytest.param(
            '{"ph": "s", "cat": "ac2g", "id": 1, "pid": 1, "tid": 1, "ts": 1.0}', id="flow arrow"
        ),
        pytest.param(
            '{"ph": "i", "cat": "cpu_op", "name": "x", "pid": 1, "tid": 1, "ts": 1.0}',
            id="instant of a known category",
        ),
        pytest.param(
            event("python_function", "model.py(1): forward", 1, 1, "1.0", "1.0"), id="stack frame"
        ),
    ],
)
def test_what_we_do_not_read_is_passed_over(text: str) -> None:
    trace = read(text, kernel(1, 0, 5))
    assert len(trace.device) == 1
    assert len(trace.host) == len(trace.launches) == len(trace.gpu_annotations) == 0


def test_modules_are_read_from_the_stacks() -> None:
    trace = read(event("python_function", "nn.Module: Linear_0", 1, 1, "1.0", "1.0"))
    assert trace.host.category.tolist() == [Category.PYTHON_FUNCTION]


# --- columns ------------------------------------------------------------------------------------


def test_columns_hold_name_track_and_correlation() -> None:
    trace = read(
        label("prefill", 0, 90),
        cpu_op("aten::mm", 10, 30, thread=2),
        launch(41, 12, 20, thread=2),
        kernel(41, 30, 50, stream=7, device=1),
        memcpy(42, 50, 60, stream=9, device=1),
        memset(43, 60, 61, stream=9, device=1),
    )
    named = [trace.names[i] for i in trace.host.name.tolist()]
    assert dict(zip(named, trace.host.start_ns.tolist(), strict=True)) == {
        "aten::mm": 10,
        "prefill": 0,
    }
    assert trace.host.correlation.tolist() == [NO_CORRELATION] * 2
    assert [trace.tracks[i] for i in trace.launches.track.tolist()] == [Track("100", "2")]
    assert trace.launches.correlation.tolist() == [41]
    assert [trace.tracks[i] for i in trace.device.track.tolist()] == [
        Track("1", "7"), Track("1", "9"), Track("1", "9"),
    ]  # fmt: skip
    assert trace.device.correlation.tolist() == [41, 42, 43]
    assert trace.device.dur_ns.tolist() == [20, 10, 1]


def test_names_of_threads_may_be_text() -> None:
    trace = read(event("gpu_memset", "x", "GPU 0", "stream 7", "1.0", "1.0"))
    assert trace.tracks == (Track("GPU 0", "stream 7"),)


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        pytest.param('"args": {"correlation": 0}', NO_CORRELATION, id="zero is none"),
        pytest.param('"args": {"correlation": 7, "stream": 7}', 7, id="beside others"),
        pytest.param('"args": {"External id": 7}', NO_CORRELATION, id="External id is another"),
        pytest.param('"args": {"correlation": null}', NO_CORRELATION, id="null"),
        pytest.param('"args": {}', NO_CORRELATION, id="empty args"),
        pytest.param('"bp": "e"', NO_CORRELATION, id="no args"),
    ],
)
def test_correlation_may_be_missing(args: str, expected: int) -> None:
    text = '{"ph":"X","cat":"kernel","name":"k","pid":0,"tid":7,"ts":1,"dur":1,' + args + "}"
    assert read(text).device.correlation.tolist() == [expected]


def test_only_launches_and_device_events_have_an_id() -> None:
    trace = read(event("cpu_op", "aten::mm", 1, 1, "1.0", "1.0", correlation=7))
    assert trace.host.correlation.tolist() == [NO_CORRELATION]


def test_the_file_says_of_itself(tmp_path: Path) -> None:
    text = json.dumps(
        {
            "schemaVersion": 1,
            "deviceProperties": [{"id": 0, "name": "NVIDIA H100"}, {"id": 1}],
            "baseTimeNanoseconds": 1712195495984501132,
            "traceEvents": [],
        }
    )
    path = write(tmp_path / "t.json", text.encode())
    info = read_trace(path).info
    assert info.path == str(path)
    assert info.schema_version == 1
    assert info.base_time_ns == 1712195495984501132
    assert info.devices == ("NVIDIA H100", "")


@pytest.mark.parametrize(
    ("name", "data"),
    [
        pytest.param("t.json", document(kernel(1, 5, 9)), id="plain"),
        pytest.param("t.json.gz", document(kernel(1, 5, 9)), id="packed"),
        pytest.param("t.json", gzip.compress(document(kernel(1, 5, 9))), id="packed, named plain"),
        pytest.param("t.json", f"[{kernel(1, 5, 9)}]".encode(), id="a list at top level"),
        pytest.param("t.json", b"\n  " + document(kernel(1, 5, 9)), id="space in front"),
        pytest.param("t.json", b" " * 70 + document(kernel(1, 5, 9)), id="much space in front"),
    ],
)
def test_the_same_trace_in_every_wrapping(tmp_path: Path, name: str, data: bytes) -> None:
    device = read_trace(write(tmp_path / name, data)).device
    assert (device.start_ns.tolist(), device.dur_ns.tolist()) == ([5], [4])


def test_a_trace_without_events_is_a_trace() -> None:
    trace = read()
    assert [len(t) for t in (trace.host, trace.launches, trace.device)] == [0, 0, 0]


# --- what is refused ----------------------------------------------------------------------------

WHOLE = document(*(kernel(i, i, i + 1) for i in range(50)))
PACKED = gzip.compress(WHOLE)


def one_event(**changes: str) -> bytes:
    """A trace of one kernel with some values as given, in JSON; "" leaves the key out."""
    values = {"ph": '"X"', "cat": '"kernel"', "name": '"k1"', "ts": "1", "dur": "1"} | changes
    inside = ", ".join(f'"{key}": {value}' for key, value in values.items() if value)
    return document(f"{{{inside}}}")


@pytest.mark.parametrize(
    ("data", "damaged", "told"),
    [
        pytest.param(b"", True, "is empty", id="empty"),
        pytest.param(b" \n", True, "is empty", id="only space"),
        pytest.param(b"hello", False, "is not a Kineto trace", id="not JSON"),
        pytest.param(b"\x80\x81\xff", False, "is not a Kineto trace", id="bytes"),
        pytest.param(b'{"a": 1}', False, 'holds no "traceEvents"', id="another JSON object"),
        pytest.param(b'{"traceEvents": 3}', False, "is not a Kineto trace", id="events no list"),
        pytest.param(b"[1, 2]", False, "is not a Kineto trace", id="a list of numbers"),
        pytest.param(b"3", False, "is not a Kineto trace", id="a number"),
        pytest.param(WHOLE[:-200], True, "is cut off", id="truncated text"),
        pytest.param(PACKED[: len(PACKED) // 2], True, "is cut off", id="truncated gzip"),
        pytest.param(PACKED[:-3], True, "is cut off", id="gzip without its end"),
        pytest.param(
            PACKED[:-8] + b"\0" * 8, True, "is not whole gzip", id="gzip with a wrong checksum"
        ),
        pytest.param(
            PACKED[:40] + b"\xff" * 9 + PACKED[49:], True, "gzip", id="gzip broken inside"
        ),
        pytest.param(one_event(ts='"soon"'), True, "'k1' has \"soon\"", id="ts is text"),
        pytest.param(one_event(ts=""), True, "'k1' has nothing as its \"ts\"", id="no ts"),
        pytest.param(one_event(ts="null"), True, "'k1' has null", id="ts is null"),
        pytest.param(one_event(dur=""), True, "'k1' has nothing as its \"dur\"", id="no dur"),
        pytest.param(one_event(ts="1e17"), True, "'k1' has an impossible", id="ts beyond 64 bits"),
        pytest.param(one_event(ts="1e999999999"), True, "'k1' has", id="ts beyond arithmetic"),
        pytest.param(one_event(dur="1e99999"), True, "'k1' has", id="dur of a long exponent"),
        pytest.param(one_event(dur="-0.001"), True, "negative duration", id="negative dur"),
        pytest.param(
            one_event(args='{"correlation": "7"}'), True, "odd args", id="correlation is text"
        ),
        pytest.param(one_event(args="[1]"), True, "odd args", id="args are a list"),
        pytest.param(
            one_event(args=f'{{"correlation": {2**64}}}'), True, "odd", id="correlation too large"
        ),
    ],
)
def test_a_bad_file_is_told_in_one_line(
    tmp_path: Path, data: bytes, damaged: bool, told: str
) -> None:
    path = tmp_path / "bad.json"
    path.write_bytes(data)
    with pytest.raises(TraceError) as caught:
        read_trace(path)
    assert type(caught.value) is (DamagedTraceError if damaged else TraceError)
    assert caught.value.exit_code == (EXIT_DAMAGED if damaged else EXIT_BAD_INPUT)
    line = str(caught.value)
    assert str(path) in line
    assert told in line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("name", "told"),
    [
        pytest.param("none.json", "No such file", id="missing"),
        pytest.param("", "Is a directory", id="a folder"),
    ],
)
def test_what_cannot_be_read_is_bad_input(tmp_path: Path, name: str, told: str) -> None:
    with pytest.raises(TraceError, match=told) as caught:
        read_trace(tmp_path / name)
    assert caught.value.exit_code == EXIT_BAD_INPUT
    assert str(tmp_path / name) in str(caught.value)


@given(cut=st.integers(0, len(WHOLE) - 3))
def test_a_trace_cut_anywhere_is_never_half_read(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    path = write(tmp_path_factory.getbasetemp() / "cut.json", WHOLE[:cut])
    with pytest.raises(TraceError):
        read_trace(path)


# --- what is left of a damaged file, where the user accepts it -----------------------------------


@pytest.mark.parametrize(
    ("data", "kept"),
    [
        pytest.param(WHOLE, 50, id="whole"),
        pytest.param(WHOLE[:-3], 50, id="only the end is missing"),
        pytest.param(WHOLE[: WHOLE.index(b'"k30"')], 30, id="cut inside an event"),
        pytest.param(WHOLE[: WHOLE.index(b'"correlation": 31') + 18], 31, id="cut inside its args"),
        pytest.param(PACKED[:-3], 50, id="gzip without its end"),
        pytest.param(
            gzip.compress(WHOLE[: WHOLE.index(b'"k30"')], 0)[:-8], 30, id="text and gzip cut"
        ),
        pytest.param(f"[{kernel(0, 0, 1)},{kernel(1, 1, 2)[:-20]}".encode(), 1, id="a list"),
    ],
)
def test_what_is_whole_of_a_damaged_file(tmp_path: Path, data: bytes, kept: int) -> None:
    path = tmp_path / "t.json"
    path.write_bytes(data)
    trace = read_trace(path, accept_damaged=True)
    # The first one has 0, which is none.
    assert trace.device.correlation.tolist() == [NO_CORRELATION, *range(1, kept)]
    assert bool(trace.info.damage) is (data != WHOLE)


def test_a_damaged_file_with_nothing_whole_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "t.json", b'{"traceEvents": [{"ph": "X"')
    with pytest.raises(DamagedTraceError, match="nothing of it is whole"):
        read_trace(path, accept_damaged=True)
