"""What labels and profiler cost a forward pass: wall-clock in five arms, interleaved.

    bare                neither
    labels              labels installed, no profiler
    profiler            profiler, no labels
    both                as the product measures
    both, dear labels   every label by torch.profiler.record_function

Every arm runs once a round, each after a pass that is not timed; medians over the rounds, and the
ratio to `bare`. A label's own cost is (labels - bare) / labels, and (both - profiler) / labels.

    python benchmarks/disturbance.py [--device cpu] [--num-layers N] [--rounds 15]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

from torch.profiler import record_function

from qwen3_profile import labels
from qwen3_profile.config import DEFAULT_MODEL, ModelRequest
from qwen3_profile.measure import instrument, ranges
from qwen3_profile.measure.devices import resolve_device
from qwen3_profile.measure.executions.eager import Generation
from qwen3_profile.measure.model.load import load_model, make_inputs
from qwen3_profile.measure.profiler import Recorder

_CASES = (("prefill", 2, 256), ("decode", 1, 128))


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device")
    parser.add_argument("--model-name", default=DEFAULT_MODEL)
    parser.add_argument("--num-layers", type=int)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args(argv)
    device = resolve_device(options.device).device
    request = ModelRequest(options.model_name, "random", options.num_layers)
    loaded = load_model(request, options.dtype, None, device)
    facts = loaded.facts
    count = 1 + len(
        list(labels.expected_labels(facts.shape.num_hidden_layers, frozenset(facts.moe_layers)))
    )
    print(f"{options.model_name}, {count} labels a pass, {device}, {options.rounds} rounds")
    for phase, batch, length in _CASES:
        inputs = make_inputs(facts.shape.vocab_size, batch, length, 0, device)
        _report(phase, batch, length, count, _rounds(loaded.model, inputs, phase, options.rounds))
    return 0


def _rounds(model: Any, inputs: Any, phase: str, rounds: int) -> dict[str, list[int]]:
    recorder = Recorder(inputs.device)
    times: dict[str, list[int]] = {name: [] for name in _ARMS}
    for _ in range(rounds):
        for name, arm in _ARMS.items():
            forward, lead_in = _passes(model, inputs, phase)
            recorder.settle(lead_in)
            times[name].append(arm(recorder, model, forward, lead_in, phase))
    return times


def _passes(model: Any, inputs: Any, phase: str) -> tuple[Callable[[], None], Callable[[], None]]:
    generation = Generation(model, inputs, decode_steps=64)
    if phase == "prefill":
        return generation.prefill, Generation(model, inputs, decode_steps=1).prefill
    generation.prefill()
    generation.decode()
    return generation.decode, generation.decode


def _bare(recorder: Recorder, model: Any, forward: Any, lead_in: Any, phase: str) -> int:
    return recorder.timed(forward)


def _labels(recorder: Recorder, model: Any, forward: Any, lead_in: Any, phase: str) -> int:
    with instrument.labelled(model):
        return recorder.timed(forward)


def _profiler(recorder: Recorder, model: Any, forward: Any, lead_in: Any, phase: str) -> int:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json.gz"
        return recorder.traced(forward, lead_in, phase, 0, path).profiled_ns


def _both(recorder: Recorder, model: Any, forward: Any, lead_in: Any, phase: str) -> int:
    with instrument.labelled(model):
        return _profiler(recorder, model, forward, lead_in, phase)


def _dear(recorder: Recorder, model: Any, forward: Any, lead_in: Any, phase: str) -> int:
    with mock.patch.object(ranges, "label_range", record_function):
        return _both(recorder, model, forward, lead_in, phase)


_ARMS = {
    "bare": _bare,
    "labels": _labels,
    "profiler": _profiler,
    "both": _both,
    "both, dear labels": _dear,
}


def _report(phase: str, batch: int, length: int, count: int, times: dict[str, list[int]]) -> None:
    bare = median(times["bare"])
    print(f"\n{phase} {batch} x {length}")
    print(f"{'arm':<18}{'median ms':>11}{'min':>10}{'max':>10}{'of bare':>9}")
    for name, values in times.items():
        middle = median(values)
        print(
            f"{name:<18}{middle / 1e6:>11.3f}{min(values) / 1e6:>10.3f}{max(values) / 1e6:>10.3f}"
            f"{middle / bare:>9.2f}"
        )
    alone = (median(times["labels"]) - bare) / count / 1e3
    under = (median(times["both"]) - median(times["profiler"])) / count / 1e3
    print(f"a label costs {alone:.2f} us without the profiler, {under:.2f} us under it")


if __name__ == "__main__":
    sys.exit(main())
