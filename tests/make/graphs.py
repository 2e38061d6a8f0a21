"""Hand-made traces of one small pass: run eagerly, captured, and replayed as a graph.

The pass is a list of `Op`s, in the order of their launches: what each runs under which label.

    [Op("embed_tokens", "gather"), Op("layer.0.attn.q_proj", "gemm"), ...]

Every kernel takes 50 ns, and begins 10 ns after the one before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from make.kineto import cpu_op, event, host, kernel, label, launch, step, us

DUR, PITCH = 50, 60
GRAPH_ID = 900


@dataclass(frozen=True, slots=True)
class Op:
    """One launch: under which label, of which kernel, by which operator; a fill has no kernel."""

    label: str
    kernel: str
    operator: str = "aten::op"
    grid: tuple[int, int, int] = (1, 1, 1)
    fills: bool = False


def small_pass(layers: int = 3) -> list[Op]:
    """Kernels whose names tell their operator, as PyTorch's do."""
    found = [Op("embed_tokens", "indexSelectSmallIndex", "aten::index_select")]
    for i in range(layers):
        found += [
            Op(f"layer.{i}.input_layernorm", "void MeanOps<float>", "aten::mean"),
            Op(f"layer.{i}.attn.q_proj", "nvjet_64x8", "aten::mm"),
            Op(f"layer.{i}.attn.k_proj", "nvjet_64x8", "aten::mm", (2, 1, 1)),
            Op(
                f"layer.{i}.attn.attn_forward", "flash_fwd_kernel", "aten::_flash_attention_forward"
            ),
            Op(f"layer.{i}.ffn.act_fn", "vectorized_silu_kernel", "aten::silu"),
            Op(f"layer.{i}.ffn.down_proj", "nvjet_64x8", "aten::mm"),
        ]
    return [
        *found,
        Op("lm_head", "Memset (Device)", "aten::mm", fills=True),
        Op("lm_head", "nvjet_384x8", "aten::mm"),
    ]


def eager(ops: Sequence[Op], phase: str = "decode", number: int = 0) -> list[str]:
    """The labelled pass with its kernels."""
    events, clock = [], 10
    for at, op in enumerate(ops):
        events += [_range(op, clock), cpu_op(op.operator, clock + 1, clock + PITCH - 2)]
        events.append(_launch(op, 100 + at, clock))
        events.append(_event(op, 100 + at, clock + 5000))
        clock += PITCH
    return [step(number, 0, clock + 10), label(phase, 5, clock + 5), *_around(ops), *events]


def capture(ops: Sequence[Op], phase: str = "decode", *, named: bool = False) -> list[str]:
    """The labelled capture: launches without kernels, which HIP names."""
    events, clock = [_call("cudaStreamBeginCapture", 1, 6)], 10
    for at, op in enumerate(ops):
        events += [_range(op, clock), cpu_op(op.operator, clock + 1, clock + PITCH - 2)]
        shape = {"kernel": op.kernel, "grid": list(op.grid), "block": [128, 1, 1]}
        told = shape if named and not op.fills else {}
        events.append(_launch(op, 100 + at, clock, **told))
        clock += PITCH
    end = _call("cudaStreamEndCapture", 2, clock + 2)
    return [label(phase, 5, clock + 1), *_around(ops), *events, end]


def replay(
    ops: Sequence[Op],
    phase: str = "",
    *,
    number: int = 0,
    correlation: int = GRAPH_ID,
    start: int = 10,
    nodes: Sequence[int] = (),
    streams: Sequence[int] = (),
    pitch: int = PITCH,
) -> list[str]:
    """One launch of a graph and its kernels, inside the label `phase` if that is given."""
    length = 100 + pitch * len(ops)
    events = [_call("cudaGraphLaunch", correlation, start + 5)]
    if phase:
        events += [step(number, start, start + length), label(phase, start + 1, start + 50)]
    for at, op in enumerate(ops):
        args = {"graph node id": nodes[at]} if nodes else {}
        stream = streams[at] if streams else 7
        events.append(_event(op, correlation, start + 60 + pitch * at, stream, **args))
    return events


def _range(op: Op, clock: int) -> str:
    return cpu_op(op.label, clock, clock + PITCH - 1)


def _around(ops: Iterable[Op]) -> list[str]:
    """The layers, and the blocks in them."""
    spans: dict[str, tuple[int, int]] = {}
    for at, op in enumerate(ops):
        begin, words = 10 + PITCH * at, op.label.split(".")
        for name in (".".join(words[:2]), ".".join(words[:3])) if words[0] == "layer" else ():
            if name != op.label:
                first = spans.get(name, (begin, 0))[0]
                spans[name] = (first, begin + PITCH - 1)
    return [label(name, start, end) for name, (start, end) in spans.items()]


def _launch(op: Op, correlation: int, clock: int, **args: object) -> str:
    if op.fills:
        return _call("cudaMemsetAsync", correlation, clock + 3)
    if not args:
        return launch(correlation, clock + 3, clock + 8)
    return _call("hipLaunchKernel", correlation, clock + 3, **args)


def _call(name: str, correlation: int, start: int, **args: object) -> str:
    return host("cuda_runtime", name, start, start + 5, correlation=correlation, **args)


def _event(op: Op, correlation: int, start: int, stream: int = 7, **args: object) -> str:
    if op.fills:
        return event(
            "gpu_memset", op.kernel, 0, stream, us(start), us(DUR), correlation=correlation, **args
        )
    shape = {"grid": list(op.grid), "block": [128, 1, 1]}
    return kernel(correlation, start, start + DUR, stream, name=op.kernel, **shape, **args)
