"""Eager, compiled and as a CUDA graph: what each part cost, and what the tables say of it."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from make.compiled import KERNEL_BYTES, KERNEL_NS, compiled_record
from make.samples import counted_record as counted
from make.samples import decode_record, graph_record, record

from qwen3_profile.analysis.part_costs import Cost, part_costs, whole_cost
from qwen3_profile.config import RunConfig
from qwen3_profile.records.record import TimingRecord
from qwen3_profile.run_folder.bytes_moved import Moved
from qwen3_profile.views.terminal.comparisons import render_executions
from qwen3_profile.views.terminal.tables import render


def rows(page: str) -> dict[tuple[str, str], list[str]]:
    """The cells of each row of the comparison, by part and execution."""
    found = {}
    part = ""
    for line in page.splitlines():
        head, execution, *cells = re.split(
            r"\s{2,}| (?=eager|compiled|cuda_graph)", line.strip() + "  "
        )
        if line.startswith(" " * 10):
            head, execution, cells = part, head, [execution, *cells]
        part = head
        found[part, execution] = [cell for cell in cells if cell]
    return found


def test_executions_stand_side_by_side() -> None:
    page = render_executions([(counted(),), (compiled_record(),)])
    found = rows(page)
    head = ["cuda", "idle", "kernels", "traffic MB", "GB/s"]
    assert found["part, all layers", "execution"] == head
    # Eager in two layers, and compiled as LAYERS says: one kernel of 30 ns in each.
    assert found["q_proj", "eager"][2:] == ["2", "0.400", "2000.0"]
    assert found["q_proj", "compiled"][2:] == ["2", "0.120", "2000.0"]
    assert found["rope", "eager"][3] == "0.060"
    assert found["rope", "compiled"] == ["fused"]
    assert found["lm_head", "compiled"][2:] == ["0", "0"]
    assert found["sample", "compiled"][2:] == ["0", "0.002"]
    assert found["all parts", "compiled"][2:4] == ["6", "0.362"]
    passes = page.partition("whole pass")[2].splitlines()
    assert [line.split()[-2:] for line in passes[1:3]] == [["0.040", "1.00"], ["0.010", "0.25"]]


@pytest.mark.parametrize("cuda", [True, False])
def test_every_column_adds_up(cuda: bool) -> None:
    for each in (counted(cuda=cuda), compiled_record(cuda=cuda)):
        costs = part_costs(each, cuda)
        times = each.times
        total = times.forward.total
        assert sum(cost.ns for cost in costs.values()) == (
            total.device_ns if cuda else total.cpu_ns
        )
        assert sum(cost.gap_ns for cost in costs.values()) == total.gap_ns
        if cuda:
            assert sum(cost.kernels or 0 for cost in costs.values()) == times.device_events
        assert whole_cost(each, costs.values()).bytes == sum(
            cost.bytes or 0 for cost in costs.values()
        )
    compiled = part_costs(compiled_record(cuda=True), True)
    assert (compiled["q_norm"].ns, compiled["q_norm"].bytes) == (KERNEL_NS, KERNEL_BYTES)
    assert compiled["input_layernorm"].ns == 2 * KERNEL_NS
    assert compiled["input_layernorm"].bytes == 2 * KERNEL_BYTES
    assert compiled["rope"] == Cost(elsewhere=True)


def test_on_a_cpu_operations_are_counted() -> None:
    page = render_executions([(counted(cuda=False),), (compiled_record(cuda=False),)])
    found = rows(page)
    assert page.splitlines()[1].split()[-5:] == ["cpu", "operations", "traffic", "MB", "GB/s"]
    assert found["q_proj", "eager"][1:3] == ["2", "0.400"]
    assert found["sample", "compiled"][1:3] == ["1", "0.002"]


@given(
    st.dictionaries(
        st.sampled_from(["layer.0.attn.q_proj", "layer.1.ffn.act_mul", "layer.0", "norm", ""]),
        st.builds(Moved, st.integers(1, 9), st.integers(0, 10**12)),
    )
)
def test_the_parts_of_an_eager_pass_move_its_total(labels: dict[str, Moved]) -> None:
    each = counted(labels, cuda=False)
    costs = part_costs(each, on_device=False).values()
    assert sum(cost.bytes or 0 for cost in costs) == sum(m.bytes or 0 for m in labels.values())
    assert sum(cost.kernels or 0 for cost in costs) == sum(m.operations for m in labels.values())


def unseen() -> TimingRecord:
    """Attention in a kernel that no operator of torch launched."""
    found = counted()
    assert found.times.traffic is not None
    labels = {k: v for k, v in found.times.traffic.labels.items() if "attn_forward" not in k}
    return counted(labels)


def unlabelled() -> TimingRecord:
    """A compiled graph that could not be matched."""
    refused = compiled_record(names=["triton_norm"])
    assert refused.times.compiled is not None
    assert refused.times.compiled.refusals
    return refused


@pytest.mark.parametrize(
    ("of", "part"),
    [
        pytest.param(record, "q_proj", id="not-counted"),
        pytest.param(unseen, "attn_forward", id="a-kernel-past-the-dispatcher"),
        pytest.param(unlabelled, "compiled graph", id="a-refused-graph"),
        pytest.param(
            lambda: counted({"layer.0.attn.q_proj": Moved(1, None)}), "q_proj", id="an-operator"
        ),
    ],
)
def test_what_is_not_known_is_not_guessed(of: Any, part: str) -> None:
    page = render_executions([(of(),), (compiled_record(),)])
    name = "compiled 1" if of is unlabelled else "eager"
    found = rows(page)
    assert found[part, name][3:] == ["n/a"]
    # The rest of it is known, where anything was counted.
    (whole,) = found["all parts", name][3:]
    assert whole == "n/a" if of is record else whole.startswith("> ")
    assert "MB (" not in page


def test_a_replay_moves_what_its_pass_does() -> None:
    eager = counted()
    graph = graph_record()
    graph = replace(graph, times=replace(graph.times, traffic=eager.times.traffic))
    page = render_executions([(eager,), (graph,)])
    found = rows(page)
    # The same bytes in half the time.
    assert found["q_proj", "eager"][3:] == ["0.400", "2000.0"]
    assert found["q_proj", "cuda_graph"][3:] == ["0.400", "4000.0"]
    assert "MB (+0.000)" in " ".join(page.split())


def test_what_was_saved_is_said() -> None:
    page = render_executions([(counted(),), (compiled_record(),)])
    said = " ".join(page.split())
    assert "compiled vs eager: 0.040 -> 0.010 ms (-0.030) per pass" in said
    assert "device events 34 -> 6; memory traffic 1.540 -> 0.362 MB (-1.178)." in said


def test_tables_fit_the_page() -> None:
    mode = replace(compiled_record().facts, compile_mode="reduce-overhead", compile_scope="layer")
    third = replace(compiled_record(), facts=replace(mode, run="run1"))
    page = render_executions([(record(),), (compiled_record(),), (third,)])
    assert max(map(len, page.splitlines())) <= 100
    assert "compiled 2: mode reduce-overhead, each layer by itself" in page
    assert max(map(len, render([compiled_record()]).splitlines())) <= 100


def test_configs_that_differ_otherwise_are_not_compared() -> None:
    other = replace(record(), config=RunConfig(batch_size=3, input_len=256))
    decode = decode_record(leaves_ns={0: 1000}, step_times_ns=(5000, 6000))
    assert render_executions([(other,), (compiled_record(),), (decode,)]) == ""
    assert render_executions([(record(),)]) == ""


def test_the_compiled_table_shows_bounds() -> None:
    page = render([compiled_record()])
    assert "compiled by model (default)" in " ".join(page.split())
    said = " ".join(page.split())
    assert "compiled graphs: 1 with 6 kernel calls a pass, all matched" in said
    assert "took 21.0 s (first pass); logits within 0.002 of eager" in said
    table = page.partition("by anchor")[2].splitlines()
    cells = {line.split()[0]: line.split()[1:] for line in table if len(line.split()) == 4}
    assert cells["rope"] == ["0", "0", "0.000"]
    assert list(cells)[:2] == ["input_layernorm", "q_proj"]


def test_a_record_says_what_each_part_had() -> None:
    found = compiled_record().to_json()
    assert (found["execution"], found["compile_mode"], found["compile_time"]) == (
        "compiled", "default", 21.0,
    )  # fmt: skip
    compiled = found["compiled"]
    assert compiled["kernel_calls"] == 6
    ns = KERNEL_NS / 1e9
    assert compiled["parts"]["input_layernorm"] == {
        "least": 50e-9, "least_cuda": ns, "least_bytes": 60_000,
        "anchored": 100e-9, "anchored_cuda": 2 * ns, "anchored_bytes": 120_000,
        "most": 100e-9, "most_cuda": 2 * ns, "most_bytes": 120_000,
    }  # fmt: skip
    fused = [kernel for kernel in compiled["kernels"] if kernel["fused"]]
    assert [(kernel["labels"], kernel["anchor"]) for kernel in fused] == [
        (["layer.0.attn.q_norm", "layer.0.attn.rope"], "layer.0.attn.q_norm"),
        (["layer.0.residual_ffn", "layer.1.input_layernorm"], "layer.1.input_layernorm"),
    ]
    assert found["model_details"]["residual_ffn+input_layernorm_cuda"] == ns
    assert found["traffic"]["bytes"] == 6 * KERNEL_BYTES + 2000
    assert found["traffic"]["parts"]["q_norm"] == {"operations": 1, "bytes": KERNEL_BYTES}
    assert "traffic" not in record().to_json()
