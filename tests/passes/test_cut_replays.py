"""Replays whose last events have no record: what is there has its parts, and the rest is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from make.graphs import Op, capture, eager, replay, small_pass
from make.kineto import document, host, kernel, label, launch, write

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


def test_what_ran_eagerly_beside_the_replays_is_kept(tmp_path: Path) -> None:
    """A prefill with its labels, and decodes as graphs."""
    prefill = eager(OPS, "prefill")
    decode = replay(OPS, "decode", number=1, start=20_000)
    found = reading(tmp_path, [*prefill, *decode], capture(OPS, named=True))
    first, second = found.passes
    assert [each.forward.name for each in found.passes] == ["prefill", "decode"]
    for each in (first, second):
        q_proj = next(p for p in each.forward.each() if p.name == "layer.1.attn.q_proj")
        assert q_proj.total.device_events == 1
        assert each.forward.total.device_events == len(OPS)
    assert (first.forward.total.graph_events, second.forward.total.graph_events) == (0, len(OPS))


def test_modules_that_run_beside_a_graph_are_parts_of_its_pass(tmp_path: Path) -> None:
    text = "execute_8_context_0(sq0)_generation_8(sq8)"
    events = [
        label(text, 0, 3000),
        *replay(OPS),
        host("python_function", "nn.Module: LogitsProcessor_0", 2500, 2600),
        launch(5, 2510, 2520),
        kernel(5, 9000, 9030, name="head"),
        # A prefill of another pass.
        host("python_function", "nn.Module: Qwen3ForCausalLM_0", 20_000, 20_100),
        host("python_function", "nn.Module: Qwen3DecoderLayer_0", 20_010, 20_090),
        host("python_function", "nn.Module: Qwen3Attention_0", 20_020, 20_080),
        launch(6, 20_030, 20_040),
        kernel(6, 20_050, 20_060, name="fa"),
    ]
    found = reading(tmp_path, events, capture(OPS, named=True))
    decode, other = found.passes
    lm_head = [p.total.device_ns for p in decode.forward.each() if p.name == "lm_head"]
    assert sum(lm_head) == 30 + 2 * 50
    assert decode.forward.name == "decode"
    assert other.forward.find("layer.0").total.device_ns == 10
    assert [each.model_class for each in found.origins] == [None, "Qwen3ForCausalLM"]
    assert all(each.balances for each in found.passes)
