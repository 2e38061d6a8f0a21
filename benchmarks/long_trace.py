"""Writes the trace of a long decode: layers, steps and a layout in, Kineto's own text out.

    python benchmarks/long_trace.py out.json --megabytes 50 [--layout new|old] [--cpu]

A labelled Qwen3 of n layers decodes m tokens: labels nested, the operators inside them, and on a
GPU a launch, its kernel and the two ends of the arrow between them. The text is what Kineto writes,
letter for letter but for the numbers: one field a line as torch 2.13 (`new`), or two lines a head
as torch 2.6 to 2.11 (`old`). Host events come first, in order of their start, then the device's,
each kernel in front of its launch. The same arguments give the same bytes.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

PID, STREAM = 4242, 7
_START_NS = 4_587_026_371_248_764  # since baseTimeNanoseconds, as a machine of some weeks has it
_FIRST_CORRELATION = 5_978_628
_VARIANTS = 8  # of one step's durations; a step repeats those of the one eight steps before

# An operator as (name, operators inside, kernel it launches): what torch runs for each part.
Op = tuple[str, tuple["Op", ...], str]


def _op(name: str, *inside: Op, kernel: str = "") -> Op:
    return (name, inside, kernel)


_ELEMENTWISE = (
    "void at::native::{kind}_elementwise_kernel<{width}, at::native::{functor}<c10::BFloat16>, "
    "std::array<char*, {inputs}ul> >(int, at::native::{functor}<c10::BFloat16>, std::array<char*, "
    "{inputs}ul>)"
)
_COPY = (
    "void at::native::unrolled_elementwise_kernel<at::native::direct_copy_kernel_cuda("
    "at::TensorIteratorBase&)::{lambda()#3}::operator()() const::{lambda()#12}::operator()() const"
    "::{lambda(c10::BFloat16)#1}, std::array<char*, 2ul>, 4, TrivialOffsetCalculator<1, unsigned "
    "int>, TrivialOffsetCalculator<1, unsigned int>, at::native::memory::LoadWithCast<1>, "
    "at::native::memory::StoreWithCast<1> >(int, at::native::direct_copy_kernel_cuda("
    "at::TensorIteratorBase&)::{lambda()#3}::operator()() const::{lambda()#12}::operator()() const"
    "::{lambda(c10::BFloat16)#1}, std::array<char*, 2ul>, TrivialOffsetCalculator<1, unsigned int>)"
)
_REDUCE = (
    "void at::native::reduce_kernel<512, 1, at::native::ReduceOp<float, at::native::MeanOps<float, "
    "float, float, float>, unsigned int, float, 4, 4> >(at::native::ReduceOp<float, "
    "at::native::MeanOps<float, float, float, float>, unsigned int, float, 4, 4>)"
)
_GEMV = (
    "std::enable_if<!(false), void>::type internal::gemvx::kernel<int, int, __nv_bfloat16, "
    "__nv_bfloat16, __nv_bfloat16, float, false, true, true, false, 7, false, cublasGemvParamsEx<"
    "int, cublasGemvTensorStridedBatched<__nv_bfloat16 const>, cublasGemvTensorStridedBatched<"
    "__nv_bfloat16 const>, cublasGemvTensorStridedBatched<__nv_bfloat16>, float> >"
)
_CAT = (
    "void at::native::(anonymous namespace)::CatArrayBatchedCopy<at::native::(anonymous namespace)"
    "::OpaqueType<2u>, unsigned int, 4, 64, 64>(at::native::(anonymous namespace)::OpaqueType<2u>*)"
)
_FLASH = (
    "void pytorch_flash::flash_fwd_splitkv_kernel<Flash_fwd_kernel_traits<128, 64, 128, 4, false, "
    "false, cutlass::bfloat16_t>, false, false, false, false, true, false, true, false>"
)


def _pointwise(name: str, functor: str) -> Op:
    text = _ELEMENTWISE.format(kind="vectorized", width=8, functor=functor, inputs=3)
    return _op(name, kernel=text)


def _cast() -> Op:
    copied = _op("aten::_to_copy", _op("aten::empty_strided"), _op("aten::copy_", kernel=_COPY))
    return _op("aten::to", copied)


_TRANSPOSE = _op("aten::t", _op("aten::transpose", _op("aten::as_strided")))
_LINEAR = (_op("aten::linear", _TRANSPOSE, _op("aten::matmul", _op("aten::mm", kernel=_GEMV))),)
_NORM = (
    _cast(), _pointwise("aten::pow", "PowFunctor"), _op("aten::mean", kernel=_REDUCE),
    _pointwise("aten::add", "AddFunctor"), _pointwise("aten::rsqrt", "RsqrtFunctor"),
    _pointwise("aten::mul", "MulFunctor"), _cast(), _pointwise("aten::mul", "MulFunctor"),
)  # fmt: skip
_HALF = _op("aten::slice", _op("aten::as_strided"))
_ROTATED = (
    _op("aten::unsqueeze", _op("aten::as_strided")), _pointwise("aten::mul", "MulFunctor"),
    _HALF, _HALF, _pointwise("aten::neg", "NegFunctor"), _op("aten::cat", kernel=_CAT),
    _pointwise("aten::mul", "MulFunctor"), _pointwise("aten::add", "AddFunctor"),
)  # fmt: skip
_SDPA = _op(
    "aten::scaled_dot_product_attention",
    _op("aten::_scaled_dot_product_flash_attention",
        _op("aten::transpose", _op("aten::as_strided")),
        _op("aten::_flash_attention_forward", _op("aten::empty_like"), _op("aten::empty"),
            kernel=_FLASH)),
)  # fmt: skip
_ADD = (_pointwise("aten::add", "AddFunctor"),)
_OPS: dict[str, tuple[Op, ...]] = {
    "q_proj": _LINEAR, "k_proj": _LINEAR, "v_proj": _LINEAR, "o_proj": _LINEAR,
    "q_norm": _NORM, "k_norm": _NORM, "rope": (*_ROTATED, *_ROTATED),
    "kv_cache": (_op("aten::cat", kernel=_CAT), _op("aten::cat", kernel=_CAT)),
    "attn_forward": (_SDPA, _op("aten::transpose", _op("aten::as_strided"))),
    "input_layernorm": _NORM, "post_attention_layernorm": _NORM, "norm": _NORM,
    "gate_proj": _LINEAR, "up_proj": _LINEAR, "down_proj": _LINEAR, "lm_head": _LINEAR,
    "act_fn": (_pointwise("aten::silu", "SiluFunctor"),),
    "embed_tokens": (_op("aten::embedding", _op("aten::index_select", kernel=_CAT)),),
    "rotary_emb": (*_ROTATED, _cast()),
}  # fmt: skip
_ATTN = ("q_proj", "q_norm", "k_proj", "k_norm", "v_proj", "rope", "kv_cache", "attn_forward",
         "o_proj")  # fmt: skip
_FFN = ("gate_proj", "act_fn", "up_proj")


@dataclass(slots=True)
class _Host:
    """A host event of one step: times in ns from the step's start."""

    name: str
    category: str
    start_ns: int
    dur_ns: int = 0


@dataclass(slots=True)
class _Launch:
    """A launch and its kernel, times in ns from the step's start; `inside` is a host event."""

    kernel: str
    start_ns: int
    dur_ns: int
    kernel_start_ns: int
    kernel_dur_ns: int
    inside: int


@dataclass(slots=True)
class _Step:
    """One forward pass as it is made: a clock for the host, one for the device."""

    chance: random.Random
    gpu: bool
    clock_ns: int = 0
    device_free_ns: int = 0
    host: list[_Host] = field(default_factory=list)
    launches: list[_Launch] = field(default_factory=list)

    def begin(self, name: str, category: str) -> _Host:
        opened = _Host(name, category, self.clock_ns)
        self.host.append(opened)
        self.clock_ns += self.chance.randint(400, 3000)
        return opened

    def end(self, opened: _Host) -> None:
        self.clock_ns += self.chance.randint(300, 2000)
        opened.dur_ns = self.clock_ns - opened.start_ns

    def run(self, op: Op) -> None:
        name, inside, kernel = op
        opened = self.begin(name, "cpu_op")
        at = len(self.host) - 1
        for each in inside:
            self.run(each)
        if kernel:
            self._work(kernel, at)
        self.end(opened)

    def part(self, label: str, ops: Sequence[Op]) -> None:
        opened = self.begin(label, "cpu_op")
        for op in ops:
            self.run(op)
        self.end(opened)

    def _work(self, kernel: str, inside: int) -> None:
        """On a GPU a launch and what it puts there; else the time that the work takes."""
        if not self.gpu:
            self.clock_ns += self.chance.randint(2000, 90_000)
            return
        start, dur = self.clock_ns, self.chance.randint(3000, 9000)
        self.clock_ns += dur
        begin = max(start + dur + self.chance.randint(500, 3000), self.device_free_ns + 300)
        busy = self.chance.randint(900, 14_000)
        self.device_free_ns = begin + busy
        self.launches.append(_Launch(kernel, start, dur, begin, busy, inside))


def make_step(layers: int, gpu: bool, seed: int) -> _Step:
    """One decode step with its labels, operators, launches and kernels."""
    step = _Step(random.Random(seed), gpu)
    around = step.begin("ProfilerStep#", "user_annotation")
    phase = step.begin("decode", "user_annotation")
    for name in ("embed_tokens", "rotary_emb"):
        step.part(name, _OPS[name])
    for number in range(layers):
        _layer(step, f"layer.{number}")
    for name in ("norm", "lm_head"):
        step.part(name, _OPS[name])
    step.end(phase)
    # The device ends before the step does, as it does where the step is synchronised.
    step.clock_ns = max(step.clock_ns, step.device_free_ns + 2000)
    step.end(around)
    step.clock_ns += 20_000
    return step


def _layer(step: _Step, label: str) -> None:
    layer = step.begin(label, "user_annotation")
    step.part(f"{label}.input_layernorm", _NORM)
    attn = step.begin(f"{label}.attn", "user_annotation")
    for part in _ATTN:
        step.part(f"{label}.attn.{part}", _OPS[part])
    step.end(attn)
    step.run(_ADD[0])
    step.part(f"{label}.post_attention_layernorm", _NORM)
    ffn = step.begin(f"{label}.ffn", "user_annotation")
    for part in _FFN:
        step.part(f"{label}.ffn.{part}", _OPS[part])
    step.run(_pointwise("aten::mul", "MulFunctor"))
    step.part(f"{label}.ffn.down_proj", _LINEAR)
    step.end(ffn)
    step.run(_ADD[0])
    step.end(layer)


# --- text ---------------------------------------------------------------------------------------

_HEAD = {
    "old": """
  {
    "schemaVersion": 1,
    "deviceProperties": [
    {
      "id": 0, "name": "NVIDIA H100 80GB HBM3", "totalGlobalMem": 85017493504,
      "computeMajor": 9, "computeMinor": 0,
      "maxThreadsPerBlock": 1024, "maxThreadsPerMultiprocessor": 2048,
      "regsPerBlock": 65536, "warpSize": 32,
      "sharedMemPerBlock": 49152, "numSms": 132
    }
    ],
      "cuda_driver_version": 13000,
      "cuda_runtime_version": 13000,
  "displayTimeUnit": "ms",
  "baseTimeNanoseconds": 1790857026000000000,
  "traceEvents": [""",
    "new": """ {
    "schemaVersion": 1,
    "deviceProperties": [
    {
      "id": 0, "name": "NVIDIA H100 80GB HBM3", "totalGlobalMem": 85017493504
    }],
    "cuda_driver_version": 13000,
    "cuda_runtime_version": 13000,
    "displayTimeUnit": "ms",
    "baseTimeNanoseconds": 1790857026000000000,
    "traceEvents": [
    """,
}
_TAIL = {
    "old": """
  {{
    "name": "Record Window End", "ph": "i", "s": "g",
    "pid": "", "tid": "", "ts": {ts}
  }}
  ],
  "traceName": "trace.json"
}}""",
    "new": """
  {{
    "ph": "i",
    {blank}
    "s": "g",
    "name": "Record Window End",
    "pid": "",
    "tid": "",
    "ts": {ts}
    {blank}
  }}
  ],"traceName": "trace.json" }}""",
}
_EVENT = {
    "old": """
  {{
    "ph": "X", "cat": "{cat}", "name": "{name}", "pid": {pid}, "tid": {tid},
    "ts": {ts}, "dur": {dur},
    "args": {{
      {args}
    }}
  }},""",
    "new": """
  {{
    "ph": "X",
    "cat": "{cat}",
    "name": "{name}",
    "pid": {pid},
    "tid": {tid},
    "ts": {ts},
    "dur": {dur}
    ,
    "args": {{
      {args}
    }}
  }},""",
}
_FLOW = {
    "old": """
  {{
    "ph": "{ph}", "id": {id}, "pid": {pid}, "tid": {tid}, "ts": {ts},
    "cat": "ac2g", "name": "ac2g"{bind}
  }},""",
    "new": """
  {{
    "ph": "{ph}",
    "id": {id},
    "pid": {pid},
    "tid": {tid},
    "ts": {ts},
    "cat": "ac2g",
    "name": "ac2g"
    {bind}
  }},""",
}
_BIND = ', "bp": "e"'
_KERNEL_ARGS = (
    '"External id": {external},      "queued": 0, "device": 0, "context": 1,      "stream": 7, '
    '"correlation": {correlation},      "registers per thread": 32,      "shared memory": 0,      '
    '"blocks per SM": 0.060606,      "warps per SM": 0.242424,      "grid": [8, 1, 1],      '
    '"block": [128, 1, 1],      "est. achieved occupancy %": 0'
)
_KERNEL_ARGS_MORE = ',      "graph id": 0, "graph node id": 0'
_LAUNCH_ARGS = '"External id": {external},      "cbid": 211, "correlation": {correlation}'
_OP_ARGS = '"External id": {external},"Record function id": 0, "Ev Idx": {index}'


def _us(time_ns: int) -> str:
    return f"{time_ns // 1000}.{time_ns % 1000:03d}"


def write_trace(
    out: IO[str], steps: int, *, layers: int = 28, layout: str = "new", gpu: bool = True
) -> None:
    """Writes the whole trace of `steps` decode steps."""
    variants = [make_step(layers, gpu, seed) for seed in range(_VARIANTS)]
    out.write(_HEAD[layout])
    for text in _host_text(variants, steps, layout):
        out.write(text)
    for text in _device_text(variants, steps, layout):
        out.write(text)
    end_ns = _START_NS + sum(variants[n % _VARIANTS].clock_ns for n in range(steps))
    out.write(_TAIL[layout].format(ts=_us(end_ns), blank=""))


def _host_text(variants: Sequence[_Step], steps: int, layout: str) -> Iterator[str]:
    event, begin_ns, index = _EVENT[layout], _START_NS, 0
    for number in range(steps):
        step = variants[number % _VARIANTS]
        texts = []
        for each in step.host:
            name = f"{each.name}{number}" if each.name.endswith("#") else each.name
            texts.append(
                event.format(
                    cat=each.category, name=name, pid=PID, tid=PID,
                    ts=_us(begin_ns + each.start_ns), dur=_us(each.dur_ns),
                    args=_OP_ARGS.format(external=index + 1, index=index),
                )
            )  # fmt: skip
            index += 1
        yield "".join(texts)
        begin_ns += step.clock_ns


def _device_text(variants: Sequence[_Step], steps: int, layout: str) -> Iterator[str]:
    begin_ns, index, correlation = _START_NS, 1, _FIRST_CORRELATION
    for number in range(steps):
        step = variants[number % _VARIANTS]
        texts = []
        for each in step.launches:
            texts.append(_pair_text(each, layout, begin_ns, index + each.inside, correlation))
            correlation += 18
        yield "".join(texts)
        begin_ns += step.clock_ns
        index += len(step.host)


def _pair_text(each: _Launch, layout: str, begin_ns: int, external: int, correlation: int) -> str:
    """The kernel, the end of the arrow, the launch, and the arrow's start."""
    event, flow = _EVENT[layout], _FLOW[layout]
    ids = {"external": external, "correlation": correlation}
    on_device = {"pid": 0, "tid": STREAM, "ts": _us(begin_ns + each.kernel_start_ns)}
    on_host = {"pid": PID, "tid": PID, "ts": _us(begin_ns + each.start_ns)}
    more = _KERNEL_ARGS_MORE if layout == "new" else ""
    return (
        event.format(
            cat="kernel", name=each.kernel, dur=_us(each.kernel_dur_ns), **on_device,
            args=_KERNEL_ARGS.format(**ids) + more,
        )
        + flow.format(ph="f", id=correlation, bind=_BIND, **on_device)
        + event.format(
            cat="cuda_runtime", name="cudaLaunchKernel", dur=_us(each.dur_ns), **on_host,
            args=_LAUNCH_ARGS.format(**ids),
        )
        + flow.format(ph="s", id=correlation, bind="", **on_host)
    )  # fmt: skip


def steps_for(megabytes: float, *, layers: int = 28, layout: str = "new", gpu: bool = True) -> int:
    """How many steps make a file of about this size."""
    variants = [make_step(layers, gpu, 0)]
    texts = (*_host_text(variants, 1, layout), *_device_text(variants, 1, layout))
    return max(1, round(megabytes * 1e6 / sum(map(len, texts))))


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", type=Path)
    parser.add_argument("--megabytes", type=float, default=50)
    parser.add_argument("--layers", type=int, default=28)
    parser.add_argument("--layout", choices=tuple(_EVENT), default="new")
    parser.add_argument("--cpu", action="store_true", help="a trace without a GPU")
    args = parser.parse_args(argv)
    how = {"layers": args.layers, "layout": args.layout, "gpu": not args.cpu}
    with args.path.open("w", encoding="utf-8") as out:
        write_trace(out, steps_for(args.megabytes, **how), **how)
    return 0


if __name__ == "__main__":
    sys.exit(main())
