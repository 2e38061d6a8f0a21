"""Replays whose last events have no record: what is there has its parts, and the rest is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from make.graphs import Op, capture, eager, replay, small_pass
from make.kineto import document, write

from qwen3_profile.passes.known import Capture
from qwen3_profile.passes.read import read
from qwen3_profile.passes.reading import Reading

OPS = small_pass()


def reading(tmp_path: Path, replayed: list[str], captured: list[str]) -> Reading:
    path = write(tmp_path / "replay.json", document(*replayed))
    return read(path, Capture(write(tmp_path / "capture.json", document(*captured))))


@pytest.mark.parametrize(
    "captured",
    [
        pytest.param(eager(OPS), id="eager"),
        pytest.param(capture(OPS, named=True), id="hip"),
        pytest.param(capture(OPS), id="cuda"),
    ],
)
def test_a_replay_without_its_last_event_has_its_parts(tmp_path: Path, captured: list[str]) -> None:
    found = reading(tmp_path, replay(OPS[:-1], "decode"), captured)
    (times,) = found.passes
    names = {part.name for part in times.forward.each()}
    assert {"layer.2.ffn.down_proj", "lm_head"} <= names
    assert "graph_replay" not in names
    (told,) = [each for each in found.findings if each.code == "graph-cut"]
    assert f"of the {len(OPS)} launches of" in told.message
    assert "the 1 last have no event" in told.message


def test_a_whole_replay_tells_nothing(tmp_path: Path) -> None:
    found = reading(tmp_path, replay(OPS, "decode"), capture(OPS, named=True))
    assert not [each for each in found.findings if each.code.startswith("graph")]


def test_a_replay_that_lacks_an_event_elsewhere_is_refused(tmp_path: Path) -> None:
    replayed = replay([*OPS[:5], *OPS[6:]], "decode")
    found = reading(tmp_path, replayed, capture(OPS, named=True))
    assert [each.code for each in found.findings if each.code.startswith("graph")] == [
        "graph-refused"
    ]


def test_what_may_be_the_first_or_the_last_events_is_refused(tmp_path: Path) -> None:
    same = [Op(f"layer.{n}.ffn.act_fn", "silu", "aten::silu") for n in range(4)]
    found = reading(tmp_path, replay(same[:-1], "decode"), capture(same, named=True))
    assert [each.code for each in found.findings if each.code.startswith("graph")] == [
        "graph-refused"
    ]


def test_much_of_a_capture_without_names_is_not_taken_by_its_count(tmp_path: Path) -> None:
    found = reading(tmp_path, replay(OPS[:7], "decode"), capture(OPS))
    assert [each.code for each in found.findings if each.code.startswith("graph")] == [
        "graph-refused"
    ]
