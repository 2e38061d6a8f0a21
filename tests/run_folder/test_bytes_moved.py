"""What a run keeps of the bytes that its passes move, and what becomes of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from make.commands import Commands
from make.compiled import KERNEL_BYTES, compiled_record
from make.report import data_of
from make.samples import record

from qwen3_profile import trace_forward
from qwen3_profile.analysis.row_bytes import row_bytes
from qwen3_profile.config import ModelRequest
from qwen3_profile.errors import TraceError
from qwen3_profile.measure.model.load import load_model
from qwen3_profile.passes.pass_times import merge_passes
from qwen3_profile.run_folder.bytes_moved import Moved, Traffic, read_traffic, write_traffic
from qwen3_profile.run_folder.bytes_moved import gather as gather_moved
from qwen3_profile.views.report.build import render_page
from qwen3_profile.views.report.section_data import gather

MOVED = st.builds(Moved, st.integers(0, 9), st.none() | st.integers(0, 10**15))
LABELS = st.dictionaries(st.text(max_size=9), MOVED)
PASSES = st.dictionaries(st.integers(0, 99), st.builds(Traffic, LABELS, LABELS))
ONE = Traffic({"layer.0.attn.q_proj": Moved(1, 100), "layer.0": Moved(2, 30)})


@given(passes=PASSES)
def test_what_is_written_is_read(passes: dict[int, Traffic], tmp_path_factory: object) -> None:
    assert isinstance(tmp_path_factory, pytest.TempPathFactory)
    path = tmp_path_factory.mktemp("traffic") / "traffic.json"
    write_traffic(path, passes)
    assert read_traffic(path) == passes


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (None, "cannot be read: No such file"),
        ("", "is not a file of bytes of ours"),
        ('{"schema_version": 1}', "is not a file of bytes of ours"),
        ('{"schema_version": 2, "passes": []}', "was written by a newer qwen3_profile (schema 2)"),
    ],
)
def test_files_that_are_not_ours(tmp_path: Path, text: str | None, what: str) -> None:
    path = tmp_path / "traffic.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(TraceError) as error:
        read_traffic(path)
    assert what in str(error.value)


@given(st.lists(st.tuples(st.sampled_from("abc"), MOVED)))
def test_one_unknown_makes_the_sum_unknown(moved: list[tuple[str, Moved]]) -> None:
    found = Traffic(gather_moved(moved), gather_moved(moved[:1]))
    moved = [*moved, *moved[:1]]
    sizes = [each.bytes for _, each in moved]
    assert found.total.operations == sum(each.operations for _, each in moved)
    assert found.total.bytes == (None if None in sizes else sum(size or 0 for size in sizes))


def test_several_passes_move_their_sum_if_all_are_known() -> None:
    assert Traffic({"layer.0.attn.q_proj": Moved(2, 200), "layer.0": Moved(4, 60)}) == ONE + ONE
    times = replace(record().times, traffic=ONE)
    merged = merge_passes([times, times]).traffic
    assert merged is not None
    assert merged.total == Moved(6, 260)
    assert merge_passes([times, replace(times, traffic=None)]).traffic is None


def test_rows_of_the_report_hold_those_below_them() -> None:
    whole = record()
    config = gather([replace(whole, times=replace(whole.times, traffic=ONE))], None)
    found = dict(
        zip(
            (row.path[1:] for row in config.rows),
            row_bytes(config.shown.times, config.rows),
            strict=True,
        )
    )
    assert found["layers", "attn", "q_proj"] == 100
    assert found["layers", "attn"] == 100
    assert (found["layers",], found[()]) == (130, 130)
    # Something ran there that was not counted.
    assert found["lm_head",] is None
    assert row_bytes(whole.times, config.rows) == ()


def test_rows_of_fused_kernels_have_their_bytes() -> None:
    config = gather([compiled_record()], None)
    found = dict(
        zip(
            (row.path[1:] for row in config.rows),
            row_bytes(config.shown.times, config.rows),
            strict=True,
        )
    )
    assert found["layers", "attn", "q_norm+rope"] == KERNEL_BYTES
    assert found["residual_ffn+input_layernorm",] == KERNEL_BYTES
    # The six kernels, and the choice of a token outside of the graph.
    assert found[()] == 6 * KERNEL_BYTES + 2000


def test_the_report_has_executions_side_by_side() -> None:
    alone, both = ([record()], None), ([compiled_record()], None)
    page = data_of(render_page([gather(*alone), gather(*both)]))
    (found,) = page["comparisons"]
    assert (found["configs"], found["names"]) == ([0, 1], ["eager", "compiled"])
    cells = {row["part"]: row["cells"] for row in found["rows"]}
    assert [cell["bytes"] for cell in cells["q_proj"]] == [None, 2 * KERNEL_BYTES]
    assert [cell["elsewhere"] for cell in cells["rope"]] == [False, True]
    assert data_of(render_page([gather(*alone)]))["comparisons"] == []


def test_a_run_says_what_its_passes_move(commands: Commands, tmp_path: Path) -> None:
    done = commands.profile(tmp_path, "--dtype", "float32", "--decode-steps", 2)
    assert done.code == 0, done.err
    prefill, decode = done.records()
    files = sorted(path.name for path in (tmp_path / "traces/run1").glob("*.traffic.json"))
    assert files == [f"bs1_len8_float32_{phase}.traffic.json" for phase in ("decode", "prefill")]
    # 8 tokens into 4 heads of 32, and what the weights are.
    product = 4 * (8 * 64 + 64 * 128 + 8 * 128)
    assert prefill["traffic"]["parts"]["q_proj"] == {"operations": 2, "bytes": 2 * product}
    steps = json.loads((tmp_path / "traces/run1" / files[0]).read_text())["passes"]
    assert [step["position"] for step in steps] == [0, 1]
    totals = [sum(each["bytes"] for each in step["labels"].values()) for step in steps]
    assert totals[0] < totals[1]
    assert decode["traffic"]["bytes"] == sum(totals) / 2
    again = commands.export(tmp_path, "traces/run1", "--output-dir", "again")
    assert again.records("again/timing_records.json") == done.records()


def test_code_that_cannot_be_counted_costs_the_bytes_alone(
    commands: Commands, tmp_path: Path
) -> None:
    refused = NotImplementedError("no rule for\nthis mode")
    with mock.patch("qwen3_profile.measure.measurement.count_pass", side_effect=refused):
        done = commands.profile(tmp_path, "--dtype", "float32")
    assert done.code == 0, done.err
    (found,) = done.records()
    assert "traffic" not in found
    (finding,) = found["findings"]
    assert finding["code"] == "traffic-uncounted"
    assert "could not be counted: NotImplementedError: no rule for" in " ".join(done.out.split())


@pytest.mark.parametrize("part", ["", "lm_head"])
def test_a_compiled_model_of_ones_own_is_not_counted_as_an_eager_one(
    commands: Commands, part: str
) -> None:
    """Its operators are not what its kernels are."""
    import torch

    asked = ModelRequest(str(commands.model), "random")
    model = load_model(asked, "float32", None, torch.device("cpu")).model
    module = model.get_submodule(part)
    module.compile(backend="eager")
    profile = trace_forward(model, torch.arange(8)[None], num_runs=1)
    # Nor do its labels read the clock: each reading would break a graph.
    assert profile.record.to_json()["overhead"]["clock"] is None
    assert "traffic" not in profile.record.to_json()
    (reason,) = (f for f in profile.record.findings if f.code == "traffic-uncounted")
    assert "the model is compiled" in reason.message
