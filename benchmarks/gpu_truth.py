"""Device time per layer against two other clocks: CUDA events, and the profiler's own averages.

For each shape, phase and batch size, on one GPU, with random weights:

- `kernels`: attn_cuda and ffn_cuda of all layers, as this package attributes them in a trace;
- `events`: CUDA events round the same modules in separate passes, without profiler and labels.
  They are stream-ordered, so they include the time in which the stream had nothing to do;
- `kernels + gap` and `events there`: the same two in one traced pass. What the device waited for a
  part, added to the part's kernels, is what the events measured;
- `averages`: the sum of `key_averages()` over kernels, memcpys and memsets.

    python benchmarks/gpu_truth.py [--rounds 5] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch.autograd import DeviceType

from qwen3_profile.attribution.attribute import attribute
from qwen3_profile.attribution.build_scopes import build_scopes, select_labels
from qwen3_profile.attribution.parts import Times, sum_times
from qwen3_profile.attribution.pass_parts import layers
from qwen3_profile.config import ModelRequest
from qwen3_profile.measure import instrument
from qwen3_profile.measure.devices import resolve_device
from qwen3_profile.measure.executions.eager import Generation
from qwen3_profile.measure.model.load import load_model, make_inputs
from qwen3_profile.measure.profiler import Recorder
from qwen3_profile.passes.pass_times import PassTimes, read_steps
from qwen3_profile.trace import read_trace

_CASES = [
    (name, phase, batch)
    for name in ("Qwen/Qwen3-0.6B", "Qwen/Qwen3-8B")
    for phase in ("prefill", "decode")
    for batch in (1, 8)
]
_INPUT_LEN = 512
_BLOCKS = {"attn": "self_attn", "ffn": "mlp"}


@dataclass(frozen=True)
class Result:
    """One line of the report; times in ms, medians over rounds, summed over layers."""

    model: str
    phase: str
    batch: int
    block: str
    kernels: float
    events: float
    ratio_low: float
    ratio_high: float
    kernels_and_gap: float
    events_there: float
    device_time: float
    averages: float


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(argv)
    results = []
    print(_HEADER)
    loaded_name, model = "", None
    device = resolve_device("cuda").device
    for name, phase, batch in _CASES:
        if name != loaded_name:
            model = None
            torch.cuda.empty_cache()
            loaded = load_model(ModelRequest(name=name, weights="random"), "bfloat16", None, device)
            loaded_name, model = name, loaded.model
        inputs = make_inputs(loaded.facts.shape.vocab_size, batch, _INPUT_LEN, 0, device)
        for result in _measure(model, name, phase, batch, inputs, options.rounds):
            print(_line(result), flush=True)
            results.append(result)
    if options.json:
        options.json.write_text(json.dumps([asdict(r) for r in results], indent=1) + "\n")
    return 0


def _measure(
    model: Any, name: str, phase: str, batch: int, inputs: torch.Tensor, rounds: int
) -> Iterator[Result]:
    recorder = Recorder(inputs.device)
    bare: list[dict[str, float]] = []
    there: list[dict[str, float]] = []
    steps: list[PassTimes] = []
    averages: list[float] = []
    for index in range(rounds):
        forward, lead_in = _passes(model, inputs, phase)
        with _events(model) as measured:
            lead_in()
            measured.clear()
            forward()
            recorder.synchronize()
            bare.append(_block_times(measured))
        recorder.settle(lead_in)
        forward, lead_in = _passes(model, inputs, phase)
        with instrument.labelled(model), _events(model) as measured:
            step, average = _traced(recorder, forward, lead_in, phase, index, measured)
        there.append(_block_times(measured))
        steps.append(step)
        averages.append(average)
        recorder.settle(lead_in)
    for block in _BLOCKS:
        yield _result(name, phase, batch, block, bare, there, steps, averages)


def _passes(
    model: Any, inputs: torch.Tensor, phase: str
) -> tuple[Callable[[], None], Callable[[], None]]:
    """The pass to measure, and one of the same kind to run before it."""
    generation = Generation(model, inputs, decode_steps=64)
    if phase == "prefill":
        return generation.prefill, Generation(model, inputs, decode_steps=1).prefill
    generation.prefill()
    generation.decode()
    return generation.decode, generation.decode


def _traced(
    recorder: Recorder,
    forward: Callable[[], None],
    lead_in: Callable[[], None],
    phase: str,
    index: int,
    measured: dict[str, list[Any]],
) -> tuple[PassTimes, float]:
    def lead_in_unmeasured() -> None:
        lead_in()
        measured.clear()

    kept: list[Any] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json.gz"
        recorder.traced(forward, lead_in_unmeasured, phase, index, path, kept.append)
        trace = read_trace(path)
    attribution = attribute(trace, build_scopes(trace, select_labels(trace)))
    (step,) = read_steps(attribution)
    return step, _averages(kept[0])


def _averages(profiler: Any) -> float:
    """The profiler's own sum over device events, in ms; annotations are ranges and not counted."""
    names = ("gpu_user_annotation",)
    return sum(
        event.self_device_time_total / 1e3
        for event in profiler.key_averages()
        if event.device_type == DeviceType.CUDA
        and not event.is_user_annotation
        and event.key not in names
    )


@contextmanager
def _events(model: Any) -> Iterator[dict[str, list[Any]]]:
    """Records a CUDA event before and after each layer's blocks, in the modules' own order."""
    measured: dict[str, list[Any]] = {}
    handles = []
    for block, attribute_name in _BLOCKS.items():
        for layer in model.model.layers:
            module = getattr(layer, attribute_name)
            before, after = _hooks(block, measured)
            handles.append(module.register_forward_pre_hook(before))
            handles.append(module.register_forward_hook(after))
    try:
        yield measured
    finally:
        for handle in handles:
            handle.remove()


def _hooks(block: str, measured: dict[str, list[Any]]) -> tuple[Any, Any]:
    def before(*_: Any) -> None:
        pair = [torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)]
        measured.setdefault(block, []).append(pair)
        pair[0].record()

    def after(*_: Any) -> None:
        measured[block][-1][1].record()

    return before, after


def _block_times(measured: dict[str, list[Any]]) -> dict[str, float]:
    return {b: sum(start.elapsed_time(end) for start, end in p) for b, p in measured.items()}


def _result(
    name: str,
    phase: str,
    batch: int,
    block: str,
    bare: list[dict[str, float]],
    there: list[dict[str, float]],
    steps: list[PassTimes],
    averages: list[float],
) -> Result:
    totals = [_block_total(step, block) for step in steps]
    kernels = [total.device_ns / 1e6 for total in totals]
    ratios = [k / b[block] for k, b in zip(kernels, bare, strict=True)]
    return Result(
        model=name.rpartition("-")[2],
        phase=phase,
        batch=batch,
        block=block,
        kernels=median(kernels),
        events=median(b[block] for b in bare),
        ratio_low=min(ratios),
        ratio_high=max(ratios),
        kernels_and_gap=median((t.device_ns + t.gap_ns) / 1e6 for t in totals),
        events_there=median(t[block] for t in there),
        device_time=median(step.device_ns / 1e6 for step in steps),
        averages=median(averages),
    )


def _block_total(step: PassTimes, block: str) -> Times:
    found = (layer.find(f"{layer.name}.{block}") for layer in layers(step.forward))
    return sum_times(part.total for part in found if part is not None)


_HEADER = (
    f"{'model':>6} {'phase':>8} {'batch':>5} {'block':>5} {'kernels':>9} {'events':>9} "
    f"{'ratio':>15} {'kern+gap':>9} {'ev.there':>9} {'ratio':>6} {'device':>9} {'averages':>9}"
)


def _line(r: Result) -> str:
    return (
        f"{r.model:>6} {r.phase:>8} {r.batch:>5} {r.block:>5} {r.kernels:>9.3f} {r.events:>9.3f} "
        f"{r.kernels / r.events:>5.3f} {r.ratio_low:.2f}-{r.ratio_high:.2f} "
        f"{r.kernels_and_gap:>9.3f} {r.events_there:>9.3f} "
        f"{r.kernels_and_gap / r.events_there:>6.3f} {r.device_time:>9.3f} {r.averages:>9.3f}"
    )


if __name__ == "__main__":
    sys.exit(main())
