"""Hand-made traces: short calls in, Kineto's own JSON out, times to the nanosecond.

    read(
        step(0, 0, 90),
        label("prefill", 10, 80),
        launch(1, 20, 25),
        kernel(1, 40, 60),
    )

Every time is an integer of nanoseconds and is written as Kineto does: microseconds with three
decimals, never through a float. An event is its JSON text.
"""

from __future__ import annotations

import gzip
import json
import tempfile
from collections.abc import Iterable
from pathlib import Path

from qwen3_profile.attribution.attribute import Attribution, attribute
from qwen3_profile.attribution.build_scopes import build_scopes, select_labels
from qwen3_profile.attribution.scopes import NO_SCOPE, ScopeTree
from qwen3_profile.label_parts import required_parts
from qwen3_profile.labels import layer_label
from qwen3_profile.trace import Trace, read_trace
from qwen3_profile.trace.columns import Int64

PID = 100
MAIN = 1


def us(time_ns: int) -> str:
    """1234567 -> `1234.567`."""
    whole, rest = divmod(time_ns, 1000)
    return f"{whole}.{rest:03d}"


def event(cat: str, name: str, pid: object, tid: object, ts: str, dur: str, **args: object) -> str:
    """One complete event; `ts` and `dur` are written as they are."""
    head = json.dumps({"ph": "X", "cat": cat, "name": name, "pid": pid, "tid": tid})
    return f'{head[:-1]}, "ts": {ts}, "dur": {dur}, "args": {json.dumps(args)}}}'


def host(cat: str, name: str, start: int, end: int, thread: int = MAIN, **args: object) -> str:
    return event(cat, name, PID, thread, us(start), us(end - start), **args)


def label(name: str, start: int, end: int, thread: int = MAIN) -> str:
    """A `record_function` range."""
    return host("user_annotation", name, start, end, thread)


def cpu_op(name: str, start: int, end: int, thread: int = MAIN) -> str:
    """An operator, or a `_RecordFunctionFast` range."""
    return host("cpu_op", name, start, end, thread)


def step(number: int, start: int, end: int) -> str:
    return label(f"ProfilerStep#{number}", start, end)


def launch(correlation: int, start: int, end: int, thread: int = MAIN) -> str:
    return host("cuda_runtime", "cudaLaunchKernel", start, end, thread, correlation=correlation)


def driver(correlation: int, start: int, end: int, thread: int = MAIN) -> str:
    return host("cuda_driver", "cuLaunchKernel", start, end, thread, correlation=correlation)


def on_device(
    cat: str,
    name: str,
    correlation: int | None,
    start: int,
    end: int,
    stream: int,
    device: int,
    **args: object,
) -> str:
    args |= {} if correlation is None else {"correlation": correlation}
    return event(cat, name, device, stream, us(start), us(end - start), **args)


def kernel(
    correlation: int | None,
    start: int,
    end: int,
    stream: int = 7,
    device: int = 0,
    name: str = "",
    **args: object,
) -> str:
    name = name or f"k{correlation}"
    return on_device("kernel", name, correlation, start, end, stream, device, **args)


def memcpy(correlation: int, start: int, end: int, stream: int = 7, device: int = 0) -> str:
    return on_device("gpu_memcpy", f"copy{correlation}", correlation, start, end, stream, device)


def memset(correlation: int, start: int, end: int, stream: int = 7, device: int = 0) -> str:
    return on_device("gpu_memset", f"set{correlation}", correlation, start, end, stream, device)


def document(*events: str, base_time_ns: int | None = None) -> bytes:
    """The whole file; `base_time_ns` as torch writes it from 2024 on."""
    base = "" if base_time_ns is None else f'"baseTimeNanoseconds": {base_time_ns},\n'
    joined = ",\n  ".join(events)
    return f'{{\n"schemaVersion": 1,\n{base}"traceEvents": [\n  {joined}\n]}}\n'.encode()


def write(path: Path, data: bytes) -> Path:
    """`data` at `path`, packed if the name says so."""
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def read(*events: str) -> Trace:
    with tempfile.TemporaryDirectory() as folder:
        return read_trace(write(Path(folder, "trace.json"), document(*events)))


def split(*events: str) -> Attribution:
    """The trace of these events, its labels nested, its device events given to them."""
    trace = read(*events)
    return attribute(trace, build_scopes(trace, select_labels(trace)))


LEAF_NS = 1000


def forward_pass(
    num_layers: int,
    *,
    number: int = 0,
    cuda: bool = True,
    leaf_ns: int = LEAF_NS,
    phase: str = "prefill",
) -> list[str]:
    """A labelled forward pass of a dense model inside its step.

    Every leaf takes `leaf_ns` on the host and, on a GPU, launches one kernel of a tenth of it; it
    runs at once. So attn takes 9 leaves, ffn 4, a layer 15, and the pass 15 * num_layers + 4.
    """
    events: list[str] = []
    clock = 0

    def leaf(name: str) -> None:
        nonlocal clock
        events.append(cpu_op(name, clock, clock + leaf_ns))
        if cuda:
            events.append(launch(clock + 1, clock + 10, clock + 20))
            events.append(kernel(clock + 1, clock + 30, clock + 30 + leaf_ns // 10))
        clock += leaf_ns

    def container(name: str, leaves: Iterable[str]) -> None:
        begin = clock
        for leaf_name in leaves:
            leaf(leaf_name)
        events.append(label(name, begin, clock))

    leaf("embed_tokens")
    leaf("rotary_emb")
    for layer in range(num_layers):
        begin = clock
        for block in required_parts("layer"):
            name = layer_label(layer, block)
            parts = required_parts(block)
            if not parts:
                leaf(name)
            else:
                container(name, (f"{name}.{part}" for part in parts))
        events.append(label(layer_label(layer), begin, clock))
    leaf("norm")
    leaf("lm_head")
    return [step(number, 0, clock), label(phase, 0, clock), *events]


def with_children(scopes: ScopeTree, own: Int64) -> Int64:
    """`own`, int64[s], of each scope and of all that it contains."""
    total = own.copy()
    for scope in range(len(scopes) - 1, -1, -1):
        if scopes.parent[scope] != NO_SCOPE:
            total[scopes.parent[scope]] += total[scope]
    return total


def self_cpu_ns(scopes: ScopeTree) -> Int64:
    """int64[s]: the wall-clock of each scope less that of its children."""
    own = scopes.end_ns - scopes.start_ns
    for scope, parent in enumerate(scopes.parent.tolist()):
        if parent != NO_SCOPE:
            own[parent] -= scopes.end_ns[scope] - scopes.start_ns[scope]
    return own
