"""What speaks for and against the order of launches that name no kernel."""

from __future__ import annotations

import pytest
from make.graphs import Op, small_pass

from qwen3_profile.labels import every_layer
from qwen3_profile.passes.cuda_graphs.match import Work
from qwen3_profile.passes.cuda_graphs.match_checks import contradiction, family, unproven
from qwen3_profile.passes.cuda_graphs.reference import Call


def work(ops: list[Op]) -> list[Work]:
    return [Work("fill" if op.fills else "kernel", op.kernel, op.grid) for op in ops]


def calls(ops: list[Op]) -> list[Call]:
    count: dict[str, int] = {}
    found = []
    for op in ops:
        nth = count[op.label] = count.get(op.label, -1) + 1
        found.append(Call("cudaLaunchKernel", op.operator, (every_layer(op.label), nth)))
    return found


def owners(ops: list[Op]) -> list[int]:
    labels = list(dict.fromkeys(op.label for op in ops))
    return [labels.index(op.label) for op in ops]


def test_nothing_speaks_against_the_right_order() -> None:
    ops = small_pass()
    assert contradiction(work(ops), calls(ops)) == ""
    assert unproven(work(ops), calls(ops), owners(ops)) == ()


def test_a_kernel_of_two_operators_is_a_contradiction() -> None:
    ops = small_pass()
    ran = work(ops)
    ran[2], ran[4] = ran[4], ran[2]  # a product and attention, in layer 0 only
    assert contradiction(ran, calls(ops)) == (
        "event 4, nvjet_64x8, would be a kernel of aten::_flash_attention_forward, and before it "
        "was one of aten::mm"
    )


def test_another_grid_in_one_layer_is_a_contradiction() -> None:
    ops = small_pass()
    ran = work(ops)
    ran[2], ran[3] = ran[3], ran[2]
    assert contradiction(ran, calls(ops)) == (
        "event 2, nvjet_64x8 with a grid of (2, 1, 1) and a block of None, would be launch 0 of "
        "layer.*.attn.q_proj, which is nvjet_64x8 with a grid of (1, 1, 1) and a block of None in "
        "another layer"
    )


def test_a_launch_that_is_another_kernel_in_one_layer_is_a_contradiction() -> None:
    ops = small_pass()
    ran = work(ops)
    ran[2], ran[-1] = ran[-1], ran[2]  # two products
    assert contradiction(ran, calls(ops)) == (
        "event 2, nvjet_384x8, would be launch 0 of layer.*.attn.q_proj, which is nvjet_64x8 in "
        "another layer"
    )


def test_a_lone_kernel_that_does_not_tell_its_operator_is_not_proven() -> None:
    ops = [Op("rotary_emb", "secret"), *small_pass()]
    assert unproven(work(ops), calls(ops), owners(ops)) == (0,)


def test_between_two_proven_events_of_one_label_any_kernel_is_its() -> None:
    told = Op("rotary_emb", "cos_kernel", "aten::cos")
    ops = [told, Op("rotary_emb", "secret"), told, *small_pass()]
    assert unproven(work(ops), calls(ops), owners(ops)) == ()


def test_three_layers_prove_a_kernel_that_tells_nothing_and_two_do_not() -> None:
    def ops(layers: int) -> list[Op]:
        return [
            Op(f"layer.{i}.{part}", name)
            for i in range(layers)
            for part, name in (("attn.q_proj", "secret"), ("ffn.up_proj", "other"))
        ]

    three, two = ops(3), ops(2)
    for each in (three, two):
        for at, op in enumerate(each):
            each[at] = Op(op.label, op.kernel, f"custom::{op.kernel[0]}")
    assert unproven(work(three), calls(three), owners(three)) == ()
    assert unproven(work(two), calls(two), owners(two)) == (0, 1, 2, 3)


@pytest.mark.parametrize(
    ("operator", "name"),
    [
        pytest.param("aten::add_", "add", id="in place"),
        pytest.param("aten::sub", "add", id="of the same kernels"),
        pytest.param("aten::addmm", "product", id="product"),
        pytest.param("aten::le", "compare", id="comparison"),
        pytest.param("aten::_cudnn_attention_forward", "attention", id="attention"),
        pytest.param("vllm::rms_norm", "rms_norm", id="of another library"),
        pytest.param("", "", id="none"),
    ],
)
def test_families(operator: str, name: str) -> None:
    assert family(operator) == name


@pytest.mark.parametrize(
    ("kernel", "operator", "proven"),
    [
        pytest.param("indexSelectSmallIndex<float>", "aten::index_select", True, id="in humps"),
        pytest.param("elementwise_kernel_with_index<arange>", "aten::arange", True, id="arange"),
        pytest.param("CatArrayBatchedCopy", "aten::copy_", False, id="a cat is no copy"),
        pytest.param("MulFunctor", "aten::mul", True, id="functor"),
        pytest.param("kernel_of_simulation", "aten::mul", False, id="part of a word"),
        pytest.param("MulFunctor", "aten::neg", False, id="of another operator"),
    ],
)
def test_what_a_name_tells(kernel: str, operator: str, proven: bool) -> None:
    rest = [
        Op("norm", "gpu_index_kernel", "aten::index"),
        Op("norm", "CatArrayBatchedCopy", "aten::cat"),
    ]
    ops = [Op("embed_tokens", kernel, operator), *rest]
    assert (0 not in unproven(work(ops), calls(ops), owners(ops))) == proven
