"""What each way of watching costs a forward pass: wall-clock in several arms, interleaved.

    bare                nothing of ours
    clock               labels read the host's clock, no profiler: CPU times are from here
    device              the device's work alone is recorded: busy and idle are from here
    device, all calls   the same with the calls of driver and runtime, as torch.profiler has it
    profiler            profiler, no labels
    traced              profiler and labels: who launched what
    traced, dear        the same, every label by torch.profiler.record_function

Every arm runs once a round, in an order that moves on by one each round, each after a pass that is
not timed. A ratio is of an arm to the bare pass of its own round: the median over the rounds, and
between which values the middle half of them lies. A label costs (clock - bare) / labels.

    python benchmarks/disturbance.py [--device cpu] [--num-layers N] [--rounds 15]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median, quantiles
from typing import Any
from unittest import mock

from torch.profiler import record_function

from qwen3_profile import labels
from qwen3_profile.config import DEFAULT_MODEL, ModelRequest
from qwen3_profile.measure import instrument, profiler, ranges
from qwen3_profile.measure.clock import Clock
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
    arms = {name: arm for name, arm in _ARMS.items() if _is_there(name, recorder)}
    times: dict[str, list[int]] = {name: [] for name in arms}
    order = list(arms)
    for _ in range(rounds):
        for name in order:
            forward, lead_in = _passes(model, inputs, phase)
            recorder.settle(lead_in)
            times[name].append(arms[name](recorder, model, forward, lead_in, phase))
        order = [*order[1:], order[0]]
    return times


def _is_there(arm: str, recorder: Recorder) -> bool:
    return recorder.can_see_device_alone or not arm.startswith("device")


def _passes(model: Any, inputs: Any, phase: str) -> tuple[Callable[[], None], Callable[[], None]]:
    generation = Generation(model, inputs, decode_steps=64)
    if phase == "prefill":
        return generation.prefill, Generation(model, inputs, decode_steps=1).prefill
    generation.prefill()
    generation.decode()
    return generation.decode, generation.decode


def _bare(recorder: Recorder, model: Any, forward: Any, lead_in: Any, phase: str) -> int:
    return recorder.timed(forward)


def _clock(recorder: Recorder, model: Any, forward: Any, lead_in: Any, phase: str) -> int:
    clock = Clock()
    with instrument.labelled(model, labels=clock):
        return recorder.clocked(forward, phase, clock)


def _device(recorder: Recorder, model: Any, forward: Any, lead_in: Any, phase: str) -> int:
    with tempfile.TemporaryDirectory() as folder:
        seen = recorder.device_only(forward, lead_in, Path(folder) / "trace.json.gz")
        if seen.loud:
            print(f"warning: {seen.loud}", file=sys.stderr)
        return seen.wall_ns


def _all_calls(recorder: Recorder, model: Any, forward: Any, lead_in: Any, phase: str) -> int:
    with mock.patch.object(profiler, "record_kernels_only", return_value=""):
        return _device(recorder, model, forward, lead_in, phase)


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
    "clock": _clock,
    "device": _device,
    "device, all calls": _all_calls,
    "profiler": _profiler,
    "traced": _both,
    "traced, dear": _dear,
}


def _report(phase: str, batch: int, length: int, count: int, times: dict[str, list[int]]) -> None:
    bare = times["bare"]
    print(f"\n{phase} {batch} x {length}")
    print(f"{'arm':<18}{'median ms':>11}{'min':>10}{'max':>10}{'of bare':>9}{'half of them':>16}")
    for name, values in times.items():
        ratios = [value / base for value, base in zip(values, bare, strict=True)]
        low, middle, high = quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
        print(
            f"{name:<18}{median(values) / 1e6:>11.3f}{min(values) / 1e6:>10.3f}"
            f"{max(values) / 1e6:>10.3f}{middle:>9.3f}{low:>9.3f} - {high:.3f}"
        )
    alone = median(c - b for c, b in zip(times["clock"], bare, strict=True)) / count / 1e3
    pairs = zip(times["traced"], times["profiler"], strict=True)
    under = median(both - without for both, without in pairs) / count / 1e3
    print(f"a label costs {alone:.2f} us by the clock, {under:.2f} us under the profiler")


if __name__ == "__main__":
    sys.exit(main())
