"""What a graph saves: each part beside itself, over all layers, in the JSON and in the table."""

from __future__ import annotations

from dataclasses import replace

import pytest
from make.samples import decode_record, graph_record, record

from qwen3_profile.analysis.totals import totals_of
from qwen3_profile.attribution.parts import Part, Times, make_part
from qwen3_profile.records.graph_savings import savings, savings_json
from qwen3_profile.views.terminal.executions import graph_table


def part(name: str, device_ns: int, gap_ns: int = 0, parts: tuple[Part, ...] = ()) -> Part:
    times = Times(calls=1, device_ns=device_ns, gap_ns=gap_ns)
    return make_part(name, times, times, parts)


EAGER = part("decode", 100, 900, (
    part("layer.0", 40, 400, (part("layer.0.attn", 40, 400),)),
    part("layer.1", 50, 500, (part("layer.1.attn", 50, 500),)),
    part("lm_head", 10),
))  # fmt: skip
GRAPH = part("decode", 90, 9, (
    part("layer.0", 36, 4, (part("layer.0.attn", 36, 4),)),
    part("layer.1", 44, 5, (part("layer.1.attn", 44, 5),)),
    part("graph_replay", 10),
))  # fmt: skip


def test_layers_are_summed_and_each_part_stands_beside_itself() -> None:
    found = {each.part: each for each in savings(EAGER, GRAPH)}
    assert list(found) == ["decode", "layer.*", "layer.*.attn", "lm_head", "graph_replay"]
    attn = found["layer.*.attn"]
    assert (attn.eager.device_ns, attn.graph.device_ns, attn.eager.calls) == (90, 80, 2)
    assert attn.saved_ns == 90 + 900 - 80 - 9
    assert found["lm_head"].graph == Times()
    assert found["graph_replay"].saved_ns == -10


def test_the_json_is_in_seconds_per_pass() -> None:
    attn = next(e for e in savings_json(EAGER, GRAPH, 10) if e["part"] == "layer.*.attn")
    assert attn == {
        "part": "layer.*.attn",
        "eager_cuda": pytest.approx(9e-9), "cuda": pytest.approx(8e-9),
        "eager_gap": pytest.approx(90e-9), "gap": pytest.approx(0.9e-9),
        "saved": pytest.approx(90.1e-9),
    }  # fmt: skip


def test_the_record_has_both() -> None:
    entry = graph_record().to_json()
    assert entry["execution"] == "cuda_graph"
    assert entry["eager"]["total_time"] == 80e-6
    assert entry["saved"]["total_time"] == pytest.approx(40e-6)
    assert entry["eager"]["cuda_total"] == pytest.approx(2 * entry["cuda_total"])
    assert entry["saved"]["parts"][0]["part"] == "prefill"
    assert "eager" not in record().to_json()


def test_the_table_names_each_part_once() -> None:
    shown = graph_record()
    lines = graph_table(totals_of([shown]), shown).splitlines()
    assert lines[0] == (
        "eager vs CUDA graph: a bare pass takes 0.080 ms eager and 0.040 ms as a graph, 2.00x "
        "as fast"
    )
    names = [line.split()[0] for line in lines[2:-2]]
    assert len(names) == len(set(names))
    assert {"prefill", "layers", "attn", "q_proj", "ffn", "lm_head"} <= set(names)
    assert max(map(len, lines)) <= 100


def test_a_record_without_a_graph_has_no_table() -> None:
    shown = record()
    assert graph_table(totals_of([shown]), shown) == ""


def test_a_traced_step_stands_beside_its_own_eager_one() -> None:
    decode = decode_record(leaves_ns={0: 1000, 1: 2000}, step_times_ns=(5000, 6000))
    eager = graph_record().eager
    assert eager is not None
    first, second = decode.traced
    traced = (replace(first, eager=eager), replace(second, eager=replace(eager, bare_ns=1)))
    singles = replace(decode, traced=traced, eager=eager).one_by_one()
    assert [single.eager.bare_ns for single in singles if single.eager] == [80_000, 1]
