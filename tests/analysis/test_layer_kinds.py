"""Hybrids: a layer is held against those of its own kind, in means, tables and outliers."""

from __future__ import annotations

from dataclasses import replace

import pytest
from make.samples import decode_record, record

from qwen3_profile.analysis.layer_times import by_kind, layer_blocks, layer_times, mean_layer
from qwen3_profile.analysis.odd_layers import find_outliers
from qwen3_profile.analysis.part_rows import part_rows
from qwen3_profile.attribution.parts import Part, Times, make_part
from qwen3_profile.attribution.pass_parts import mixer_of
from qwen3_profile.records.record import TimingRecord
from qwen3_profile.records.summary import Summary
from qwen3_profile.views.tensorboard.markdown import render_markdown
from qwen3_profile.views.terminal.decode import context_table
from qwen3_profile.views.terminal.tables import render

FFN_NS = 1_000_000
MIXER_NS = {"linear_attn": 6_000_000, "attn": 2_000_000}


def forward(layers: int, slow: int | None = None, phase: str = "prefill") -> Part:
    """Three layers of four take 6 ms in their mixer, the fourth 2 ms; `slow` twice as long."""
    found = []
    for layer in range(layers):
        block = "attn" if layer % 4 == 3 else "linear_attn"
        ns = MIXER_NS[block] * (2 if layer == slow else 1)
        inside = [
            make_part(f"layer.{layer}.{name}", Times(1, each, each), Times(1, each, each))
            for name, each in ((block, ns), ("ffn", FFN_NS))
        ]
        whole = ns + FFN_NS
        found.append(make_part(f"layer.{layer}", Times(1, whole, whole), Times(1), inside))
    total = sum(part.total.cpu_ns for part in found)
    return make_part(phase, Times(1, total, total), Times(1), found)


def with_forward(base: TimingRecord, part: Part) -> TimingRecord:
    times = replace(base.times, forward=part, device_ns=part.total.device_ns, unattributed=())
    traced = tuple(replace(step, times=times) for step in base.traced)
    return replace(base, times=times, traced=traced)


def test_kinds_of_layers() -> None:
    layers = layer_blocks(forward(8))
    assert [each.kind for each in layers] == (["linear_attention"] * 3 + ["attention"]) * 2
    assert {kind: len(same) for kind, same in by_kind(layers).items()} == {
        "linear_attention": 6, "attention": 2,
    }  # fmt: skip
    assert [each.mixer.cpu_ns for each in layers[2:4]] == [6_000_000, 2_000_000]
    assert mean_layer("", layers[:3]).kind == "linear_attention"
    assert mean_layer("", layers).kind == ""
    assert mixer_of(make_part("layer.0")) == ("none", None)


def test_a_layer_of_the_other_kind_is_no_outlier() -> None:
    def outliers(slow: int | None) -> list[int]:
        part = forward(32, slow)
        times = layer_times(part, part_rows(part))
        return sorted({each.layer for each in find_outliers(times, [times] * 6).outliers})

    assert outliers(None) == []
    assert outliers(7) == [7]
    assert outliers(8) == [8]


@pytest.mark.parametrize("layers", [48, 92])
def test_folded_rows_are_of_one_kind(layers: int) -> None:
    page = render([with_forward(record(), forward(layers))])
    lines = page[page.index("layer ") :].split("\n\n")[0].splitlines()
    rows = [line.split() for line in lines if "-" in line.split()[0] and line[0] == " "]
    assert len(rows) <= 24
    for row in rows:
        _, attn, _, linear, _, ffn, *_ = row
        assert (attn, linear, ffn) in (("0", "6.000", "1.000"), ("2.000", "0", "1.000"))
    assert "each kind has rows of its own." in " ".join(" ".join(lines).split())
    assert max(map(len, lines)) <= 100


def test_records_and_their_summary_say_the_kind() -> None:
    found = with_forward(record(), forward(4)).to_json()
    details = found["layer_details"]
    assert [each["kind"] for each in details] == ["linear_attention"] * 3 + ["attention"]
    assert [each["attn"] for each in details] == [0.006] * 3 + [0.002]
    summary = Summary()
    summary.add(found)
    summary.add(found)
    (first, *_) = summary.to_json()["layer_details"]
    assert first["kind"] == "linear_attention"
    assert first["attn"]["median"] == 0.006


def test_context_and_markdown_have_a_column_for_each_mixer() -> None:
    decode = with_forward(
        decode_record(2, leaves_ns={0: 10}, step_times_ns=(20,)), forward(4, phase="decode")
    )
    lines = context_table([decode]).splitlines()
    assert "over layers of that kind" in lines[0]
    head, row = lines[1].split(), lines[2].split()
    cells = dict(zip(head, row, strict=True))
    assert [cells[name] for name in ("attn", "linear_attn", "ffn")] == ["2.000", "6.000", "1.000"]
    assert "| linear_attn |" in render_markdown([with_forward(record(), forward(4))])
