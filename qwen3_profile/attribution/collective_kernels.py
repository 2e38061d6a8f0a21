"""The one table of kernels that carry data between devices, by the names in use."""

from __future__ import annotations

import re

from qwen3_profile import labels

# Of a demangled name all in front of the function: its return type and its namespaces.
_FRONT = r"(?:void )?(?:(?:\w+|\(anonymous namespace\)|<unnamed>)::)*?"

# (who carries the data, as `labels.COLLECTIVES` has it; the function's name). A kernel is of the
# first kind that fits. Some of those of TensorRT-LLM and FlashInfer also do the norm that follows.
_KINDS = (
    # NVIDIA/nccl src/device/generate.py: ncclDevKernel_AllReduce_Sum_bf16_RING_LL; until 2.18
    # src/collectives/device/common.h: ncclKernel_AllReduce_RING_LL_Sum_float, and until 2.7
    # ncclAllReduceRingLLKernel_sum_f32; src/device/symmetric/generate.py: ncclSymDevKernel_
    # (2.27), ncclSymkDevKernel_ (2.28).
    # ROCm/rccl src/device/generate.py: ncclDevKernel_Generic_4, rcclGenericKernel.
    (labels.NCCL, r"nccl\w*Kernel\w*|rccl\w*"),
    # ROCm/rccl src/include/msccl/msccl_kernel.h: mscclKernel_Sum_half_LL_false.
    ("msccl", r"mscclKernel\w*"),
    # sgl-project/sglang sgl-kernel/csrc/allreduce/mscclpp_allreduce.cuh:
    # sglang::allreduce_LL_1node<...>(mscclpp::MemoryChannelDeviceHandle*, ...);
    # microsoft/mscclpp python/mscclpp_benchmark/allreduce.cu: allreduce1(mscclpp::...).
    ("mscclpp", r"\w*allreduce\w*(?=.*mscclpp::)|(?<=mscclpp::)\w+"),
    # vllm-project/vllm csrc/custom_all_reduce.cuh: vllm::cross_device_reduce_1stage; sglang
    # sgl-kernel/csrc/allreduce/custom_all_reduce.cuh: sglang::cross_device_reduce_2stage;
    # ROCm/aiter csrc/include/custom_all_reduce.cuh: aiter::cross_device_reduce_1stage_naive,
    # reduce_scatter_cross_device_store, allgather_lastdim, allgather_vec.
    (
        "custom_all_reduce",
        r"cross_device_reduce_\w+|reduce_scatter_cross_device\w*|allgather_(?:lastdim|vec)\w*",
    ),
    # vllm-project/vllm csrc/quickreduce/quick_reduce.h: quickreduce::allreduce_prototype_twoshot.
    ("quickreduce", r"allreduce_prototype_\w+"),
    # pytorch/pytorch torch/csrc/distributed/c10d/symm_mem/CUDASymmetricMemoryOps.cu:
    # one_shot_all_reduce_kernel, two_shot_all_reduce_kernel_inplace, multimem_all_reduce_kernel,
    # multimem_one_shot_all_reduce_kernel, multimem_all_gather_kernel; Triton's of the same name.
    (
        "symmetric_memory",
        r"_?(?:multimem_)?(?:one_shot_|two_shot_)?all_(?:reduce|gather)_kernel\w*"
        r"|_?multimem_reduce_scatter_kernel\w*",
    ),
    # flashinfer-ai/flashinfer include/flashinfer/comm/trtllm_allreduce_fusion.cuh:
    # allreduce_fusion_kernel_oneshot_lamport; trtllm_moe_allreduce_fusion.cuh:
    # moereduce_allreduce_fusion_kernel_oneshot_lamport; trtllm_allreduce.cuh:
    # lamport_style_one_shot_all_reduce_norm_kernel; trtllm_mnnvl_allreduce.cuh:
    # oneshotAllreduceFusionKernel; NVIDIA/TensorRT-LLM
    # cpp/tensorrt_llm/kernels/communicationKernels/moeAlltoAllKernels.cu: moeA2ADispatchKernel.
    (
        "trtllm_flashinfer",
        r"(?:moe\w+_)?allreduce_fusion_kernel_\w+|lamport_style_one_shot_all_reduce_norm_kernel"
        r"|(?:one|two)[sS]hotAll[rR]educe\w*|moeA2A(?:Dispatch|Combine)Kernel\w*",
    ),
    # deepseek-ai/DeepEP csrc/kernels/internode.cu, internode_ll.cu, intranode.cu:
    # deep_ep::internode_ll::dispatch, deep_ep::intranode::combine; layout.cu counts on one device.
    ("deepep", r"(?<=deep_ep::)(?!layout::)\w+.*"),
    # ROCm/mori src/ops/dispatch_combine/intranode.hpp: mori::moe::EpDispatchIntraNodeKernel.
    ("mori", r"Ep(?:Dispatch|Combine)\w*Kernel\w*"),
    # NVIDIA/nvshmem src/host/stream/coll/barrier/barrier.cu:
    # barrier_on_stream_kernel_threadgroup; src/device: nvshmemi_...
    ("nvshmem", r"\w+_on_stream_kernel\w*|nvshmem\w*"),
)
_PATTERNS = tuple(
    (kind, re.compile(rf"{_FRONT}(?:{name})", re.IGNORECASE)) for kind, name in _KINDS
)


def collective_kind(kernel: str) -> str | None:
    """Who carries the data of a kernel of this name; None of one that stays on its device.

    RCCL's kernels have NCCL's names.
    """
    return next((kind for kind, pattern in _PATTERNS if pattern.match(kernel)), None)
