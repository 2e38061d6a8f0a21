"""The stages of packed Linears, by the operators that libraries run."""

from __future__ import annotations

import pytest

from qwen3_profile.attribution.linear_stages import stretches


def ops(text: str) -> list[tuple[str, int, int]]:
    """The operators of a text such as "t mm(copy_) mul": 10 ns each, those in brackets inside."""
    found: list[tuple[str, int, int]] = []
    at, opened = 0, []
    for word in text.replace("(", " ( ").replace(")", " ) ").split():
        if word == "(":
            opened.append(len(found) - 1)
            at -= 8
        elif word == ")":
            name, start, _ = found[opened.pop()]
            at += 8
            found[next(i for i, each in enumerate(found) if each[:2] == (name, start))] = (
                name, start, at,
            )  # fmt: skip
        else:
            name = word if "::" in word or word[0].isupper() else f"aten::{word}"
            found.append((name, at, at + 10))
            at += 10
    return found


@pytest.mark.parametrize(
    ("text", "stages"),
    [
        pytest.param("linear(t matmul(mm))", "gemm", id="not packed"),
        pytest.param(
            "t reshape(view) to(_to_copy) mm to(_to_copy) flatten(view) mul reshape(view) to",
            "dequantise gemm dequantise", id="torchao int8, weights alone",
        ),
        pytest.param(
            "torchao::choose_qparams_affine(amin amax) torchao::quantize_affine(mul) t "
            "to(_to_copy) add to(_to_copy) _int_mm sum mul sub_ mul reshape(view) to(_to_copy)",
            "quantise gemm dequantise", id="torchao int8 with activations, on a CPU",
        ),
        pytest.param("t t to(_to_copy) mul matmul(mm)", "dequantise gemm", id="fp8, weights alone"),
        pytest.param(
            "abs amax div clamp to(_to_copy) t _scaled_mm", "quantise gemm", id="torchao fp8",
        ),
        pytest.param("reshape(view) to _weight_int4pack_mm view", "gemm", id="tinygemm"),
        pytest.param(
            "torchao::dequantize_affine(mul) linear(mm)", "dequantise gemm", id="torchao intx"
        ),
        pytest.param(
            "MatMul4Bit(bitsandbytes::dequantize_4bit(mul) linear(mm)) add_",
            "dequantise gemm", id="bitsandbytes, 4 bits, many tokens",
        ),
        pytest.param(
            "bitsandbytes::gemm_4bit(bitsandbytes::dequantize_4bit(mul) linear(mm))",
            "gemm dequantise gemm", id="bitsandbytes, 4 bits, on a CPU",
        ),
        pytest.param("bitsandbytes::gemv_4bit", "gemm", id="bitsandbytes, 4 bits, one token"),
        pytest.param(
            "bitsandbytes::int8_vectorwise_quant bitsandbytes::int8_linear_matmul "
            "bitsandbytes::int8_mm_dequant", "quantise gemm dequantise", id="bitsandbytes, 8 bits",
        ),
        pytest.param("unsqueeze mul linear(mm)", "dequantise gemm", id="8 bits on a CPU"),
        pytest.param(
            "bitwise_right_shift bitwise_and sub mul matmul(mm)", "dequantise gemm", id="GPTQ"
        ),
        pytest.param("gptqmodel::gptq_marlin_gemm", "gemm", id="Marlin"),
        pytest.param(
            "fbgemm::quantize_fp8_per_row fbgemm::f8f8bf16_rowwise", "quantise gemm", id="FBGEMM"
        ),
        pytest.param("mul add", "", id="no product"),
    ],
)  # fmt: skip
def test_stages(text: str, stages: str) -> None:
    found = stretches(ops(text))
    assert [stage for stage, _, _ in found if stage] == stages.split()
    ends = [0, *(time for _, *both in found for time in both)]
    assert ends == sorted(ends)
