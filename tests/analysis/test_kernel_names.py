"""Short names of kernels: what is kept of a signature, and that no two are the same."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwen3_profile.analysis.kernel_names import readable_names

VECTORIZED = (
    "void at::native::vectorized_elementwise_kernel<4, {}, std::array<char*, 2ul> >(int, {})"
)
MUL = "at::native::BinaryFunctor<{0}, {0}, {0}, at::native::binary_internal::MulFunctor<float> >"
COPY = (
    "at::native::direct_copy_kernel_cuda(at::TensorIteratorBase&)::{{lambda()#3}}::operator()() "
    "const::{{lambda()#7}}::operator()() const::{{lambda({})#1}}"
)


def vectorized(functor: str) -> str:
    return VECTORIZED.format(functor, functor)


@pytest.mark.parametrize(
    ("name", "short"),
    [
        (vectorized(MUL.format("float")), "vectorized_elementwise_kernel<MulFunctor>"),
        (vectorized(COPY.format("float")),
         "vectorized_elementwise_kernel<direct_copy_kernel_cuda>"),
        ("void at::native::reduce_kernel<512, 1, at::native::ReduceOp<float, "
         "at::native::MeanOps<float, float, float, float> > >(int)", "reduce_kernel<MeanOps>"),
        ("void at::native::(anonymous namespace)::CatArrayBatchedCopy<int, 1>(int*)",
         "CatArrayBatchedCopy"),
        ("std::enable_if<!(false), void>::type internal::gemvx::kernel<int, int, float>(float)",
         "gemvx::kernel"),
        ("ncclDevKernel_AllReduce_Sum_bf16_RING_LL(ncclDevKernelArgsStorage<4096ul>)",
         "ncclDevKernel_AllReduce_Sum_bf16_RING_LL"),
        ("_ZN7sgl_hip10activation18act_and_mul_kernelI14__hip_bfloat16EEvv",
         "activation::act_and_mul_kernel"),
        ("Memcpy DtoH (Device -> Pinned)", "Memcpy DtoH (Device -> Pinned)"),
        ("enumerate(DataLoader)#_Iter.__next__", "enumerate(DataLoader)#_Iter.__next__"),
        ("triton_poi_fused_gelu_3", "triton_poi_fused_gelu_3"),
        ("", ""),
    ],
)  # fmt: skip
def test_a_name_alone(name: str, short: str) -> None:
    assert readable_names([name]) == {name: short}


def test_names_that_would_be_the_same_are_told_apart_by_their_types_first() -> None:
    names = [vectorized(MUL.format(kind)) for kind in ("float", "c10::BFloat16")]
    assert list(readable_names(names).values()) == [
        "vectorized_elementwise_kernel<MulFunctor, BFloat16>",
        "vectorized_elementwise_kernel<MulFunctor, float>",
    ]
    sizes = ["void gemv<float, 128, 1>(int)", "void gemv<float, 256, 1>(int)"]
    assert list(readable_names(sizes).values()) == ["gemv<128>", "gemv<256>"]


def test_long_names_keep_what_tells_them_apart() -> None:
    names = [f"Cijk_Alik_Bljk_BBS_BH_MT{n}x64_{'GRVWA8_' * 20}WS64" for n in (16, 32)]
    first, second = (readable_names(names, 39)[name] for name in names)
    assert first.endswith("<MT16x64>")
    assert second.endswith("<MT32x64>")


@given(st.lists(st.text("ab<>(){}:,# _1", max_size=24)), st.integers(16, 60))
@settings(max_examples=300)
def test_no_two_names_are_the_same_nor_too_long(names: list[str], width: int) -> None:
    found = readable_names(names, width)
    assert set(found) == set(names)
    assert len(set(found.values())) == len(found)
    assert all(len(text) <= width for text in found.values())
