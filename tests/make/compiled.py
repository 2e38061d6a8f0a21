"""Hand-made traces of compiled graphs, and the provenance that goes with them.

    read(*region("0/0", 100, ["triton_a", "aten::mm"]))

Every kernel call takes 50 ns on the host and begins 60 ns after the one before it; on a GPU it
launches one kernel of 30 ns, which runs 1000 ns later.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from make.kineto import cpu_op, kernel, label, launch, read, step
from make.samples import record
from qwen3_profile.attribution.attribute import attribute
from qwen3_profile.attribution.build_scopes import build_scopes, select_labels
from qwen3_profile.config import COMPILED, RunConfig
from qwen3_profile.passes.compiled.kernel_times import compiled_times
from qwen3_profile.passes.compiled.match import match_kernels
from qwen3_profile.passes.compiled.scopes import place_kernels
from qwen3_profile.passes.pass_times import PassTimes, read_steps
from qwen3_profile.records.record import TimingRecord
from qwen3_profile.run_folder.bytes_moved import Moved, Traffic
from qwen3_profile.run_folder.provenance import CompiledGraph, Kernel, PartShare

CALL_NS, PITCH_NS, KERNEL_NS, LATER_NS = 50, 60, 30, 1000
KERNEL_BYTES = 60_000
HEAD_NS = 20


def region(
    compile_id: str, start: int, names: Sequence[str], *, cuda: bool = True, first_id: int = 1
) -> list[str]:
    """One call of a compiled graph; ends at `region_end`."""
    clock = start + HEAD_NS
    events = []
    for at, name in enumerate(names):
        events.append(cpu_op(name, clock, clock + CALL_NS))
        if "::" in name:
            events.append(cpu_op("aten::resolve_conj", clock + 1, clock + 2))
        if cuda:
            events.append(launch(first_id + at, clock + 5, clock + 9))
            begin = clock + LATER_NS
            events.append(kernel(first_id + at, begin, begin + KERNEL_NS, name=f"{name}_kernel"))
        clock += PITCH_NS
    end = region_end(start, len(names))
    return [
        cpu_op(f"Torch-Compiled Region: {compile_id}", start, end),
        cpu_op("Pregraph bytecode", start + 2, start + 5),
        cpu_op("## Call CompiledFxGraph None ##", start + 10, end - 1),
        *events,
    ]


def region_end(start: int, calls: int) -> int:
    return start + HEAD_NS + calls * PITCH_NS + 10


def graph(compile_id: str, *kernels: tuple[str, dict[str, int]]) -> CompiledGraph:
    """What was compiled: each kernel's name, and the operations of each label in it; each moves
    60,000 bytes.
    """
    return CompiledGraph(
        compile_id,
        tuple(
            Kernel(name, tuple(PartShare(*part) for part in parts.items()), KERNEL_BYTES)
            for name, parts in kernels
        ),
    )


# A layer as Inductor compiles it, in little: two fused kernels, one of them across layers.
LAYERS = graph(
    "0/0",
    ("triton_norm", {"layer.0.input_layernorm": 6}),
    ("aten::mm", {"layer.0.attn.q_proj": 1}),
    ("triton_rope", {"layer.0.attn.q_norm": 6, "layer.0.attn.rope": 2}),
    ("aten::mm", {"layer.0.ffn.down_proj": 1}),
    ("triton_add_norm", {"layer.0.residual_ffn": 1, "layer.1.input_layernorm": 6}),
    ("aten::mm", {"layer.1.attn.q_proj": 1}),
)


def passed(names: Sequence[str], *more: str, cuda: bool = True) -> list[str]:
    """A prefill with one graph, and `more` behind it."""
    graph_call = region("0/0", 100, names, cuda=cuda)
    return [step(0, 0, 5000), label("prefill", 5, 4000), *graph_call, *more]


def split_compiled(events: Sequence[str], *graphs: CompiledGraph) -> PassTimes:
    """The one step of a trace whose kernels were launched one by one."""
    trace = read(*events)
    calls = match_kernels(trace, graphs)
    placed = place_kernels(trace, build_scopes(trace, select_labels(trace)), calls)
    found = attribute(trace, placed.scopes)
    (times,) = read_steps(found, compiled_times(found, calls, placed.calls))
    return times


# What runs outside the graph in `compiled_record`.
OUTSIDE = Traffic({"sample": Moved(1, 2000)})


def compiled_record(
    *, run_index: int = 0, cuda: bool = True, names: Sequence[str] = ()
) -> TimingRecord:
    """Of a prefill that was compiled as `LAYERS`, in 21 s; a bare pass takes 0.01 ms.

    Args:
        names: of the kernel calls in its trace, if they are not those that were compiled.
    """
    eager = record(index=run_index, cuda=cuda)
    facts = replace(
        eager.facts,
        execution=COMPILED,
        compile_mode="default",
        compile_scope="model",
        compile_time=21.0,
        output_error=2e-3,
    )
    names = names or [kernel.name for kernel in LAYERS.kernels]
    return replace(
        eager,
        id=f"A-c1-r{run_index}-prefill",
        config_index=1,
        config=RunConfig(batch_size=2, input_len=256, execution=COMPILED),
        total_ns=10_000,
        times=replace(split_compiled(passed(names, cuda=cuda), LAYERS), traffic=OUTSIDE),
        facts=facts,
    )
