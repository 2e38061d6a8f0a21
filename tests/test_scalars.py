"""TensorBoard's own tabs: what is written is what its own reader finds."""

from __future__ import annotations

from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from qwen3_profile.errors import OutputError
from qwen3_profile.views.scalars import ATTN_TAG, FFN_TAG, REPORT_TAG, LayerTimes, write_scalars

TIME_NS = 1_790_857_026_500_000_000
LAYERS = (LayerTimes(3_000_000, 500_000, 1_000_000, 250_000), LayerTimes(2_500_000.5, 0, 0, 0))
REPORT = "| layer | attn |\n|---|---|\n| 0 | 3.0 ms — measured |\n"


def read(folder: Path) -> EventAccumulator:
    # Its reader checks each record's length and checksum, and stops at the first bad one.
    return EventAccumulator(str(folder)).Reload()


def curve(folder: Path, tag: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in read(folder).Scalars(tag)]


@pytest.mark.parametrize(
    ("folder", "tag", "wanted_ms"),
    [
        pytest.param("cpu", ATTN_TAG, [3.0, 2.5000005], id="attention on the CPU"),
        pytest.param("cpu", FFN_TAG, [1.0, 0.0], id="FFN on the CPU"),
        pytest.param("cuda", ATTN_TAG, [0.5, 0.0], id="attention on the device"),
        pytest.param("cuda", FFN_TAG, [0.25, 0.0], id="FFN on the device"),
    ],
)
@pytest.mark.parametrize("group", ["", "bs2_len256"], ids=["one config", "one of several"])
def test_curves_over_the_layers(
    tmp_path: Path, group: str, folder: str, tag: str, wanted_ms: list[float]
) -> None:
    write_scalars(tmp_path, LAYERS, REPORT, time_ns=TIME_NS, group=group)
    points = curve(tmp_path / group / folder, tag)
    assert points == [(step, pytest.approx(ms, rel=1e-6)) for step, ms in enumerate(wanted_ms)]


def test_report_is_text(tmp_path: Path) -> None:
    write_scalars(tmp_path, LAYERS, REPORT, time_ns=TIME_NS)
    found = read(tmp_path)
    assert found.Tags()["tensors"] == [REPORT_TAG]
    assert found.SummaryMetadata(REPORT_TAG).plugin_data.plugin_name == "text"
    event = found.Tensors(REPORT_TAG)[0]
    assert event.tensor_proto.string_val[0].decode() == REPORT
    assert event.wall_time == TIME_NS / 1e9


def test_no_curves_of_a_device_that_did_nothing(tmp_path: Path) -> None:
    paths = write_scalars(tmp_path, [LayerTimes(1, 0, 1, 0)], REPORT, time_ns=TIME_NS)
    assert [path.parent for path in paths] == [tmp_path, tmp_path / "cpu"]


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "cpu").write_text("in the way")
    with pytest.raises(OutputError, match="cpu"):
        write_scalars(tmp_path, LAYERS, REPORT, time_ns=TIME_NS)
