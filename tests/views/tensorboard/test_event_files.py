"""TensorBoard's own tabs: what is written is what its own reader finds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from make.samples import decode_record, record
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.metadata import (
    EXPERIMENT_TAG,
    SESSION_END_INFO_TAG,
    SESSION_START_INFO_TAG,
    parse_experiment_plugin_data,
    parse_session_start_info_plugin_data,
)

from qwen3_profile.analysis.layer_times import BlockTimes, LayerBlocks
from qwen3_profile.errors import OutputError
from qwen3_profile.views.tensorboard.event_files import (
    layer_tag,
    text_tag,
    write_config,
    write_session,
)
from qwen3_profile.views.tensorboard.hparams import Session, session_of, session_of_all
from qwen3_profile.views.tensorboard.markdown import render_markdown


def layer_of(name: str, attn: BlockTimes, ffn: BlockTimes) -> LayerBlocks:
    """A layer of nothing but these two."""
    whole = BlockTimes(attn.cpu_ns + ffn.cpu_ns, attn.device_ns + ffn.device_ns)
    return LayerBlocks(name, whole, attn, BlockTimes(), ffn)


TIME_NS = 1_790_857_026_500_000_000
LAYERS = (
    layer_of("0", BlockTimes(3_000_000, 500_000), BlockTimes(1_000_000, 250_000)),
    layer_of("1", BlockTimes(2_500_000.5, 0), BlockTimes()),
)
SESSION = Session((("batch_size", 2), ("dtype", "bfloat16")), (("total_time_ms", 4.5),))
REPORT = "| layer | attn |\n|---|---|\n| 0 | 3.0 ms — measured |\n"


def read(folder: Path) -> EventAccumulator:
    # Its reader checks each record's length and checksum, and stops at the first bad one.
    return EventAccumulator(str(folder)).Reload()


def curve(folder: Path, tag: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in read(folder).Scalars(tag)]


WORKER = "bs2_len256_bfloat16_prefill"


@pytest.mark.parametrize(
    ("block", "kind", "wanted_ms"),
    [
        pytest.param("attn", "cpu", [3.0, 2.5000005], id="attention on the CPU"),
        pytest.param("ffn", "cpu", [1.0, 0.0], id="FFN on the CPU"),
        pytest.param("attn", "cuda", [0.5, 0.0], id="attention on the device"),
        pytest.param("ffn", "cuda", [0.25, 0.0], id="FFN on the device"),
    ],
)
def test_curves_over_the_layers(
    tmp_path: Path, block: str, kind: str, wanted_ms: list[float]
) -> None:
    write_config(tmp_path, WORKER, LAYERS, REPORT, time_ns=TIME_NS)
    points = curve(tmp_path, layer_tag(WORKER, block, kind))
    assert points == [(step, pytest.approx(ms, rel=1e-6)) for step, ms in enumerate(wanted_ms)]


def test_all_configs_of_an_invocation_are_one_run(tmp_path: Path) -> None:
    """TensorBoard lists a run for each folder with event files."""
    for n, worker in enumerate(("one", "two")):
        write_config(tmp_path, worker, LAYERS, REPORT, time_ns=TIME_NS + n)
    write_session(tmp_path, SESSION, time_ns=TIME_NS + 2)
    assert len(list(tmp_path.rglob("*tfevents*"))) == len(list(tmp_path.iterdir())) == 3
    found = read(tmp_path)
    assert set(found.Tags()["scalars"]) == {
        "totals/total_time_ms",
        *(
            layer_tag(worker, block, kind)
            for worker in ("one", "two")
            for block in ("attn", "ffn")
            for kind in ("cpu", "cuda")
        ),
    }
    assert {text_tag("one"), text_tag("two")} <= set(found.Tags()["tensors"])


def test_report_is_text(tmp_path: Path) -> None:
    write_config(tmp_path, WORKER, LAYERS, REPORT, time_ns=TIME_NS)
    found = read(tmp_path)
    assert found.SummaryMetadata(text_tag(WORKER)).plugin_data.plugin_name == "text"
    event = found.Tensors(text_tag(WORKER))[0]
    assert event.tensor_proto.string_val[0].decode() == REPORT
    assert event.wall_time == TIME_NS / 1e9


def test_no_curves_of_a_device_that_did_nothing(tmp_path: Path) -> None:
    layers = [layer_of("0", BlockTimes(1, 0), BlockTimes(1, 0))]
    write_config(tmp_path, WORKER, layers, REPORT, time_ns=TIME_NS)
    tags = {layer_tag(WORKER, block, "cpu") for block in ("attn", "ffn")}
    assert set(read(tmp_path).Tags()["scalars"]) == tags


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "run1").write_text("in the way")
    with pytest.raises(OutputError, match="run1"):
        write_config(tmp_path / "run1", WORKER, LAYERS, REPORT, time_ns=TIME_NS)


def test_a_session_is_settings_and_totals(tmp_path: Path) -> None:
    write_session(tmp_path, SESSION, time_ns=TIME_NS)
    found = read(tmp_path)
    start = parse_session_start_info_plugin_data(content(found, SESSION_START_INFO_TAG))
    assert start.hparams["batch_size"].number_value == 2
    assert start.hparams["dtype"].string_value == "bfloat16"
    experiment = parse_experiment_plugin_data(content(found, EXPERIMENT_TAG))
    assert [info.name for info in experiment.hparam_infos] == ["batch_size", "dtype"]
    assert [info.name.tag for info in experiment.metric_infos] == ["totals/total_time_ms"]
    assert content(found, SESSION_END_INFO_TAG)
    assert curve(tmp_path, "totals/total_time_ms") == [(0, 4.5)]


def test_a_session_of_several_configs_has_what_differs_side_by_side() -> None:
    four = Session((("batch_size", 4), ("dtype", "bfloat16")), (("total_time_ms", 9.0),))
    assert session_of_all({"bs2": SESSION}) == SESSION
    assert session_of_all({"bs2": SESSION, "bs4": four}) == Session(
        (("batch_size", "2, 4"), ("dtype", "bfloat16")),
        (("bs2/total_time_ms", 4.5), ("bs4/total_time_ms", 9.0)),
    )


def content(found: EventAccumulator, tag: str) -> bytes:
    return bytes(found.SummaryMetadata(tag).plugin_data.content)


def test_what_a_session_is_of() -> None:
    runs = [record(total_ns=40_000, index=0), record(total_ns=60_000, index=1)]
    session = session_of(runs)
    assert dict(session.settings) == {
        "phase": "prefill", "model": "Qwen/Qwen3-0.6B", "layers": 2, "weights": "random",
        "batch_size": 2, "input_len": 256, "dtype": "bfloat16", "cache": "dynamic",
        "inputs": "random", "attention": "sdpa", "device": "cuda:0", "torch": "2.13.0",
    }  # fmt: skip
    measures = dict(session.measures)
    assert measures["total_time_ms"] == 0.05
    assert measures["disturbance"] == 2
    # 2 layers of 15 kernels and 4 outside, each of 100 ns.
    assert measures["cuda_total_ms"] == measures["cuda_busy_ms"] == 34 * 100 / 1e6
    assert measures["unattributed_cuda_ms"] == 0
    cpu = session_of([record(cuda=False)])
    assert [name for name, _ in cpu.measures] == ["total_time_ms", "disturbance"]


def test_measures_of_a_decode_are_those_of_one_step() -> None:
    decode = decode_record(leaves_ns={0: 1000, 1: 3000}, step_times_ns=(40_000, 60_000))
    measures = dict(session_of([decode]).measures)
    assert measures["total_time_ms"] == 0.05
    assert measures["cuda_total_ms"] == 34 * (100 + 300) / 2 / 1e6


def test_text_is_of_tables() -> None:
    lines = render_markdown([record()]).splitlines()
    assert lines[0] == ("### Qwen/Qwen3-0.6B, prefill, batch 2 x 256 tokens, bfloat16")
    at = lines.index("| layer | attn | attn_cuda | ffn | ffn_cuda |")
    assert lines[at + 1 : at + 5] == [
        "| --- | ---: | ---: | ---: | ---: |",
        "| 0 | 0.009 | 0.001 | 0.004 | 0.000 |",
        "| 1 | 0.009 | 0.001 | 0.004 | 0.000 |",
        "",
    ]
    assert "| \N{EM SPACE}\N{EM SPACE}attn | 2 | 0.018 | 0.002 | 52.9% |" in lines


def test_no_name_breaks_the_table() -> None:
    odd = record()
    assert odd.facts.model is not None
    model = replace(odd.facts.model, name="a|b")
    odd = replace(odd, facts=replace(odd.facts, model=model))
    assert render_markdown([odd]).startswith(r"### a\|b, prefill")
