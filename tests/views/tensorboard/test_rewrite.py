"""The normalised trace: each rule on a few events, and the files that are refused."""

from __future__ import annotations

import gzip
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from qwen3_profile.errors import DamagedTraceError, TraceError
from qwen3_profile.views.tensorboard.tracks import MODULE_PID_OFFSET
from qwen3_profile.views.tensorboard.viewer_trace import normalised_trace

Event = dict[str, Any]


def x(cat: str, name: str, ts: float, dur: float, tid: object = 7, **args: object) -> Event:
    """One range; `External_id=3` stands for the argument "External id"."""
    named = {key.replace("_", " "): value for key, value in args.items()}
    return {
        "ph": "X", "cat": cat, "name": name, "pid": 7, "tid": tid, "ts": ts, "dur": dur,
        "args": named,
    }  # fmt: skip


def write(folder: Path, *sessions: list[Event], **header: object) -> list[Path]:
    """Each session as a raw file; `header` goes after the events, as older torch wrote it."""
    paths = []
    for number, events in enumerate(sessions):
        path = folder / f"raw{number}.json"
        path.write_text(json.dumps({"schemaVersion": 1, "traceEvents": events, **header}))
        paths.append(path)
    return paths


def normalise(folder: Path, *sessions: list[Event], **header: object) -> list[Event]:
    document = json.loads(normalised_trace(write(folder, *sessions, **header)))
    return list(document["traceEvents"])


def one(events: list[Event], **wanted: object) -> Event:
    found = [e for e in events if all(e.get(key) == value for key, value in wanted.items())]
    assert len(found) == 1, (wanted, found)
    return found[0]


# --- one rule a row ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "changed"),
    [
        pytest.param(
            x("cuda_runtime", "cudaLaunchKernel", 1, 1, External_id=0),
            {"cat": "runtime"},
            id="a call of the CUDA runtime becomes the category that the dashboard knows",
        ),
        pytest.param(
            x("cuda_driver", "cuLaunchKernelEx", 1, 1, External_id=0),
            {"cat": "runtime"},
            id="so does a call of the driver",
        ),
        pytest.param(
            x("user_annotation", "layer.3.attn.q_proj", 1, 1),
            {"cat": "cpu_op"},
            id="a label becomes an op",
        ),
        pytest.param(
            x("user_annotation", "decode", 1, 1), {"cat": "cpu_op"}, id="and so does a phase"
        ),
        pytest.param(
            x("user_annotation", "layer.03.attn", 1, 1),
            {},
            id="an annotation outside our grammar stays one",
        ),
        pytest.param(
            x("user_annotation", "ProfilerStep#1", 1, 1), {}, id="a step stays an annotation"
        ),
        pytest.param(
            x("gpu_user_annotation", "ProfilerStep#1", 1, 1),
            {"name": "gpu ProfilerStep#1"},
            id="a step's shadow on the device is renamed, or it would be a second step",
        ),
        pytest.param(
            x("gpu_user_annotation", "layer.3.attn", 1, 1),
            {},
            id="a label's shadow on the device is not",
        ),
        pytest.param(x("kernel", "gemm", 1, 1, correlation=5), {}, id="a kernel stays as it is"),
        pytest.param(
            x("Trace", "PyTorch Profiler (0)", 1, 1, tid="PyTorch Profiler"),
            {},
            id="the span of the only session keeps its name",
        ),
    ],
)
def test_event_changes_in_nothing_else(tmp_path: Path, event: Event, changed: Event) -> None:
    events = normalise(tmp_path, [event])
    assert [e for e in events if e["pid"] == 7 and e["ph"] == "X"] == [event | changed]


@pytest.mark.parametrize(
    ("ops", "call", "wanted"),
    [
        pytest.param(
            [x("cpu_op", "aten::linear", 0, 10, External_id=1),
             x("cpu_op", "aten::mm", 2, 4, External_id=2)],
            x("cuda_runtime", "launch", 3, 9, External_id=77, correlation=5), 2,
            id="the innermost op open at its start, whatever the file says",
        ),
        pytest.param(
            [x("user_annotation", "layer.0.attn", 0, 10, External_id=1)],
            x("cuda_driver", "launch", 3, 1, correlation=5), 1,
            id="a label that launched by itself, where the file says nothing",
        ),
        pytest.param(
            [x("cpu_op", "aten::mm", 0, 10, External_id=1)],
            x("cuda_runtime", "launch", 10, 1, correlation=5), 0,
            id="0, the root, where none is open any more",
        ),
        pytest.param(
            [x("cpu_op", "aten::mm", 0, 10, External_id=1, tid=8)],
            x("cuda_runtime", "launch", 3, 1, External_id=1, correlation=5), 0,
            id="0 where one is open on another thread only",
        ),
    ],
)  # fmt: skip
def test_call_and_kernel_name_the_op_that_made_them(
    tmp_path: Path, ops: list[Event], call: Event, wanted: int
) -> None:
    kernel = x("kernel", "gemm", 20, 1, tid=3, correlation=5, External_id=5)
    events = normalise(tmp_path, [*ops, call, kernel])
    assert one(events, name="launch")["args"]["External id"] == wanted
    assert one(events, name="gemm")["args"]["External id"] == wanted


def test_modules_form_one_tree_over_steps_and_files(tmp_path: Path) -> None:
    def session(k: int) -> list[Event]:
        return [
            x("user_annotation", f"ProfilerStep#{k}", 100 * k, 90),
            x("user_annotation", "prefill", 100 * k + 1, 80),
            x("user_annotation", "layer.0", 100 * k + 2, 70),
            x("cpu_op", "layer.0.attn", 100 * k + 3, 60),
        ]

    events = normalise(tmp_path, session(1) + session(2), session(3))
    modules = [e for e in events if e.get("cat") == "python_function"]
    ids = [(e["name"], e["args"]["Python id"], e["args"].get("Python parent id")) for e in modules]
    tree = [
        ("nn.Module: prefill", 1, None),
        ("nn.Module: layer.0", 2, 1),
        ("nn.Module: layer.0.attn", 3, 2),
    ]
    assert ids == tree * 3
    assert all(e["args"]["Python module id"] == e["args"]["Python id"] for e in modules)
    assert [(e["ts"], e["dur"]) for e in modules[:3]] == [(101, 80), (102, 70), (103, 60)]
    # Same thread for the dashboard, another process for timelines.
    assert {(e["pid"], e["tid"]) for e in modules} == {(7 + MODULE_PID_OFFSET, 7)}


@pytest.mark.parametrize(
    ("call", "order"),
    [
        pytest.param([], ["layer.0.attn", "nn.Module: layer.0.attn"], id="module in its label"),
        pytest.param(
            [x("cuda_driver", "cuLaunchKernelEx", 2, 1, correlation=5)],
            ["nn.Module: layer.0.attn", "layer.0.attn"],
            id="a label that launches lies in its module, which counts the launch so",
        ),
    ],
)
def test_order_of_a_label_and_its_module(
    tmp_path: Path, call: list[Event], order: list[str]
) -> None:
    events = normalise(tmp_path, [x("user_annotation", "layer.0.attn", 1, 9), *call])
    names = [e["name"] for e in events if e["ph"] == "X" and e["cat"] != "runtime"]
    assert names == order


def test_modules_avoid_the_ids_of_python_frames(tmp_path: Path) -> None:
    frame = x("python_function", "f", 0, 9, Python_id=41)
    events = normalise(tmp_path, [frame, x("cpu_op", "norm", 1, 1)])
    assert one(events, name="nn.Module: norm")["args"]["Python id"] == 42


@pytest.mark.parametrize(
    ("frame", "kept"),
    [
        pytest.param((0, 30), True, id="around the label"),
        pytest.param((12, 5), True, id="in the label"),
        pytest.param((10, 10), True, id="equal to the label"),
        pytest.param((20, 5), True, id="right after the label"),
        pytest.param((5, 10), False, id="over the label's start"),
        pytest.param((15, 10), False, id="over the label's end"),
    ],
)
def test_python_frames_yield_to_labels(tmp_path: Path, frame: tuple[int, int], kept: bool) -> None:
    label = x("user_annotation", "layer.0", 10, 10)
    events = normalise(tmp_path, [label, x("python_function", "f", *frame, Python_id=1)])
    assert any(e["name"] == "f" for e in events) is kept
    assert any(e["name"] == "layer.0" for e in events)


def test_python_functions_yield_to_modules(tmp_path: Path) -> None:
    """A function whose end the profiler saw too late would take a whole model along."""
    function = x("python_function", "<main>", 0, 15, Python_id=1)
    module = x("python_function", "nn.Module: Qwen3_0", 5, 30, Python_id=2, Python_module_id=0)
    inner = x("python_function", "f", 20, 20, Python_id=3)
    op = x("cpu_op", "aten::mm", 30, 10)
    events = normalise(tmp_path, [function, module, inner])
    assert [e["name"] for e in events] == ["nn.Module: Qwen3_0"]
    # but a module yields to an op
    assert [e["name"] for e in normalise(tmp_path, [module, op])] == ["aten::mm"]


# --- exact times ------------------------------------------------------------------------------


def times(text: bytes) -> dict[str, tuple[str, str]]:
    """The very digits of each event's ts and dur."""
    document = json.loads(text, parse_float=str, parse_int=str)
    return {e["name"]: (e["ts"], e["dur"]) for e in document["traceEvents"] if e["ph"] == "X"}


RAW = '{{"traceEvents": [{events}], "baseTimeNanoseconds": {base}}}'
OP = '{{"ph": "X", "cat": "cpu_op", "name": "{}", "pid": 7, "tid": 7, "ts": {}, "dur": {}}}'


def test_relative_times_keep_their_digits(tmp_path: Path) -> None:
    events = ",".join([OP.format("norm", "4587086612976.560", "0.1"), OP.format("b", "12", "3")])
    path = tmp_path / "raw.json"
    path.write_text(RAW.format(events=events, base=1790857026000000000))
    text = normalised_trace([path])
    assert times(text) == {
        "norm": ("4587086612976.560", "0.1"),
        "nn.Module: norm": ("4587086612976.560", "0.1"),
        "b": ("12", "3"),
    }
    assert json.loads(text)["baseTimeNanoseconds"] == 1790857026000000000


def test_epoch_times_are_rebased_to_the_nanosecond(tmp_path: Path) -> None:
    # A float64 holds neither of these times: it is a multiple of 0.25 us up there.
    events = ",".join(
        [OP.format("a", "1712195495984501.132", "7.5"), OP.format("b", "1712195495984502.001", "1")]
    )
    path = tmp_path / "raw.json"
    path.write_text('{"traceEvents": [' + events + "]}")
    text = normalised_trace([path])
    found = times(text)
    assert {name: Decimal(ts) for name, (ts, _) in found.items()} == {
        "a": Decimal(0),
        "b": Decimal("0.869"),
    }
    assert found["a"][1] == "7.5"
    assert json.loads(text)["baseTimeNanoseconds"] == 1712195495984501132


def test_files_of_two_bases_meet_on_one_time_line(tmp_path: Path) -> None:
    paths = []
    for name, base in (("a", 1790857026000000000), ("b", 1790857026000000000 + 7889238 * 10**9)):
        path = tmp_path / f"{name}.json"
        path.write_text(RAW.format(events=OP.format(name, "5.001", "1"), base=base))
        paths.append(path)
    assert times(normalised_trace(paths)) == {
        "a": ("5.001", "1"),
        "b": ("7889238000005.001", "1"),
    }


def test_files_that_cannot_be_laid_on_one_time_line_are_refused(tmp_path: Path) -> None:
    paths = write(tmp_path, [x("cpu_op", "a", 1, 1)], [x("cpu_op", "b", 1, 1)])
    paths[1].write_text(RAW.format(events=OP.format("b", 1, 1), base=1790857026000000000))
    with pytest.raises(TraceError, match=r"raw0.json: does not say what its times count from"):
        normalised_trace(paths)


# --- several sessions -------------------------------------------------------------------------


def launch_session(k: int, correlation: int, external: int) -> list[Event]:
    return [
        x("user_annotation", f"ProfilerStep#{k}", 100 * k, 50),
        x("cpu_op", f"op{k}", 100 * k, 9, External_id=external),
        x("cuda_runtime", f"call{k}", 100 * k, 1, External_id=external, correlation=correlation),
        {"ph": "s", "id": correlation, "pid": 7, "tid": 7, "ts": 100 * k, "cat": "ac2g",
         "name": "ac2g"},
        {"ph": "s", "id": 1, "pid": 7, "tid": 7, "ts": 100 * k, "cat": "fwdbwd", "name": f"f{k}"},
        x("kernel", f"kernel{k}", 100 * k + 3, 1, correlation=correlation, External_id=external),
        x("Trace", "PyTorch Profiler (0)", 100 * k, 60, tid="PyTorch Profiler"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("second", "wanted"),
    [
        pytest.param((20, 30), (20, 30), id="ids that go on are left alone"),
        pytest.param((10, 30), (11, 30), id="correlation ids that start anew are shifted"),
        pytest.param((20, 3), (20, 4), id="and so are External ids"),
    ],
)
def test_ids_of_two_sessions_stay_apart(
    tmp_path: Path, second: tuple[int, int], wanted: tuple[int, int]
) -> None:
    events = normalise(tmp_path, launch_session(1, 10, 3), launch_session(2, *second))
    correlation, external = wanted
    assert one(events, name="op2")["args"]["External id"] == external
    for name in ("call2", "kernel2"):
        args = one(events, name=name)["args"]
        assert (args["correlation"], args["External id"]) == wanted
    assert [e["id"] for e in events if e.get("cat") == "ac2g"] == [10, correlation]
    assert [one(events, name=f"f{k}")["id"] for k in (1, 2)] == [1, 2]
    assert one(events, name="op1")["args"]["External id"] == 3


def test_each_session_has_a_span_of_its_own_name(tmp_path: Path) -> None:
    events = normalise(tmp_path, launch_session(1, 10, 3), launch_session(2, 20, 4))
    names = [e["name"] for e in events if e.get("cat") == "Trace"]
    assert names == ["PyTorch Profiler (1)", "PyTorch Profiler (2)"]


def test_metadata_is_said_once(tmp_path: Path) -> None:
    def name(ts: float, text: str) -> Event:
        return {"ph": "M", "name": "thread_name", "pid": 7, "tid": 7, "ts": ts,
                "args": {"name": text}}  # fmt: skip

    op = x("cpu_op", "aten::mm", 1, 1)
    events = normalise(tmp_path, [name(1, "main"), name(2, "main"), op], [name(3, "main"), op])
    assert len([e for e in events if e["ph"] == "M"]) == 1


def test_what_files_say_of_themselves_is_the_first_ones_word(tmp_path: Path) -> None:
    first, second = write(tmp_path, [x("cpu_op", "a", 1, 1)], [x("cpu_op", "b", 2, 1)])
    first.write_text('{"traceName": "a", "traceEvents": [' + OP.format("a", 1, 1) + "]}")
    document = json.loads(normalised_trace([first, second]))
    assert (document["traceName"], document["schemaVersion"]) == ("a", 1)


def test_events_come_last_and_no_bracket_after_them(tmp_path: Path) -> None:
    text = normalised_trace(write(tmp_path, [x("cpu_op", "a", 1, 1)], INFO=["first", "last"]))
    assert list(json.loads(text)) == ["schemaVersion", "INFO", "traceEvents"]
    # So does the dashboard add its counters.
    assert json.loads(text[: text.rfind(b"]")] + b', {"ph": "C"}]}')["traceEvents"][1:]


# --- what is refused --------------------------------------------------------------------------


def without(event: Event, key: str) -> Event:
    return {k: v for k, v in event.items() if k != key}


@pytest.mark.parametrize(
    ("events", "said"),
    [
        pytest.param([], "holds no event", id="no event at all"),
        pytest.param([without(x("a", "b", 1, 1), "name")], "name", id="an event without a name"),
        pytest.param([without(x("a", "b", 1, 1), "cat")], "no category", id="no category"),
        pytest.param([without(x("a", "b", 1, 1), "dur")], "no duration", id="no duration"),
        pytest.param(
            [x("cpu_op", "b", 1, 1, tid="t")], "no number", id="a thread that is no number"
        ),
        pytest.param(
            [x("user_annotation", "ProfilerStep#1", 1, 1)] * 2, "there twice", id="a step twice"
        ),
        pytest.param(
            [x("cpu_op", "layer.0", 1, 10), x("cpu_op", "layer.1", 5, 10)],
            "starts in 'layer.0' and ends after it",
            id="labels that overlap",
        ),
    ],
)
def test_what_viewers_would_choke_on_is_refused(
    tmp_path: Path, events: list[Event], said: str
) -> None:
    with pytest.raises(TraceError, match=said):
        normalise(tmp_path, events)


@pytest.mark.parametrize(
    ("data", "error", "said"),
    [
        pytest.param(b'{"traceEvents": [{"ph": "X", ', DamagedTraceError, "cut off", id="cut off"),
        pytest.param(b"[]", TraceError, "not a Kineto trace", id="a list"),
        pytest.param(b"{}", TraceError, "has no 'traceEvents'", id="no events key"),
        pytest.param(gzip.compress(b"{}" * 99)[:-9], DamagedTraceError, "gzip", id="half a gzip"),
        pytest.param(None, TraceError, "cannot be read", id="no file"),
    ],
)
def test_files_that_are_no_trace(
    tmp_path: Path, data: bytes | None, error: type[TraceError], said: str
) -> None:
    path = tmp_path / "raw.json.gz"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(error, match=said) as caught:
        normalised_trace([path])
    assert type(caught.value) is error
    assert caught.value.where == str(path)


@pytest.mark.parametrize(
    ("raw", "lawful"),
    [
        pytest.param(b'"x": NaN, "y": [-inf, 1]', {"x": None, "y": [None, 1]}, id="constants"),
        pytest.param(b'"x": "NaN, \\" inf"', {"x": 'NaN, " inf'}, id="but not in strings"),
        pytest.param(b'"x": "a\tb"', {"x": "a\tb"}, id="control characters"),
        pytest.param(b'"x": "\xff"', {"x": "\ufffd"}, id="bytes that are no UTF-8"),
    ],
)
def test_what_kineto_writes_against_json_is_mended(
    tmp_path: Path, raw: bytes, lawful: Event
) -> None:
    path = tmp_path / "raw.json"
    event = b'{"ph": "X", "cat": "c", "name": "n", "ts": 1.50, "dur": 1, "args": {%b}}' % raw
    path.write_bytes(b'{"traceEvents": [' + event + b"]}")
    text = normalised_trace([path])
    assert json.loads(text)["traceEvents"][0]["args"] == lawful
    assert times(text) == {"n": ("1.50", "1")}
