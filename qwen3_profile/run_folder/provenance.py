"""What a compiled graph is made of: its kernels in the order of their calls, each with its parts.

torch.compile leaves no labels inside a compiled graph, so a run writes this next to its traces, one
file for each config, and `passes.compiled.match` finds the calls again by their order. A sample:

    {"schema_version": 1, "graphs": [{"region": "0/0", "kernels": [
        {"name": "triton_per_fused_add_mean_mul_pow_rsqrt_4", "parts": [
            {"label": "layer.0.residual_attn", "nodes": 1},
            {"label": "layer.0.post_attention_layernorm", "nodes": 6}], "bytes": 264192},
        {"name": "aten::mm", "parts": [{"label": "layer.0.ffn.gate_proj", "nodes": 1}],
         "bytes": 6422528}]}]}

Pure data: no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

from qwen3_profile.run_folder.side_files import read_versioned
from qwen3_profile.system.files import write_atomic

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class PartShare:
    """A part that a kernel computes, or some of it.

    label: as in `labels`; a container's for what has no name in it, empty for the forward pass.
    nodes: how many operations of the graph that is; views and constants are none.
    """

    label: str
    nodes: int


@dataclass(frozen=True, slots=True)
class Kernel:
    """One call of a kernel in a compiled graph.

    name: of its event in a trace, without the number of the graph.
    parts: in the order in which the model computes them; empty where nothing is known.
    bytes: that it reads and writes, as `measure.op_bytes` says; None where that is not known.
    """

    name: str
    parts: tuple[PartShare, ...]
    bytes: int | None = None


@dataclass(frozen=True, slots=True)
class CompiledGraph:
    """What torch.compile made of one frame.

    region: the compile id, by which a trace names its calls: "0/0", "0/1", ...
    kernels: in the order of their calls.
    """

    region: str
    kernels: tuple[Kernel, ...]


@dataclass(frozen=True, slots=True)
class Provenance:
    """Every graph of one config."""

    schema_version: int
    graphs: tuple[CompiledGraph, ...]


def write_provenance(path: Path, graphs: tuple[CompiledGraph, ...]) -> None:
    """Writes the file whole or not at all."""
    write_atomic(path, msgspec.json.encode(Provenance(SCHEMA_VERSION, graphs)) + b"\n")


def read_provenance(path: Path) -> Provenance:
    """Reads what `write_provenance` wrote.

    Raises:
        TraceError: it is not there, not ours, or of a newer schema.
    """
    return read_versioned(path, Provenance, SCHEMA_VERSION, "provenance")
