"""Holds undisturbed times against other clocks, taken without this tool's labels.

    python benchmarks/undisturbed.py [--device cpu] [--num-layers N] [--rounds 15]

Of a prefill of 2 x 256 tokens and of a decode step at batch 1 after 128 tokens, in one process,
each pass in its turn, round by round:

    layers    CPU time of all layers: by the labels of the clock pass, against
              `time.perf_counter_ns` in forward hooks of the layers, in passes of their own
    idle      idle time of the device: in the device pass, as the tool reckons it, against the
              wall-clock of the bare pass less the time that the device was busy

Medians, in brackets between which values the middle half lies, and the median ratio of a round. The
device pass takes longer than the bare one, and so does its idle time: by what the last line says.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import numpy as np

from qwen3_profile import labels
from qwen3_profile.attribution.attribute import attribute, union_ns
from qwen3_profile.attribution.build_scopes import build_scopes
from qwen3_profile.attribution.scopes import Step
from qwen3_profile.config import DEFAULT_MODEL, ModelRequest
from qwen3_profile.measure import instrument
from qwen3_profile.measure.clock import Clock
from qwen3_profile.measure.devices import resolve_device
from qwen3_profile.measure.executions.eager import Generation
from qwen3_profile.measure.model.load import load_model, make_inputs
from qwen3_profile.measure.model.structure import find_decoder
from qwen3_profile.measure.profiler import Recorder
from qwen3_profile.trace import read_trace

_CASES = (("prefill", 2, 256), ("decode", 1, 128))
_STEPS = 4


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
    model = load_model(request, options.dtype, None, device).model
    print(f"{options.model_name}, {device}, {options.rounds} rounds; ms")
    for phase, batch, length in _CASES:
        bench = Bench(model, device, phase, batch, length)
        rounds = [bench.round() for _ in range(options.rounds)]
        print(f"\n{phase} {batch} x {length}")
        _compare("layers", [each.clocked_s for each in rounds], [each.hooked_s for each in rounds])
        if device.type == "cuda":
            expected = [each.bare_s - each.busy_s for each in rounds]
            _compare("idle", [each.idle_s for each in rounds], expected)
            _compare("whole pass", [each.device_s for each in rounds], [r.bare_s for r in rounds])
    return 0


@dataclass(frozen=True)
class Round:
    """Seconds. clocked, hooked: of all layers; device: of the whole device pass."""

    bare_s: float
    clocked_s: float
    hooked_s: float
    device_s: float = 0.0
    busy_s: float = 0.0
    idle_s: float = 0.0


class Bench:
    """Takes one pass of each kind a round."""

    def __init__(self, model: Any, device: Any, phase: str, batch: int, length: int) -> None:
        self._model, self._phase = model, phase
        self._recorder = Recorder(device)
        self._inputs = make_inputs(model.config.vocab_size, batch, length, 0, device)

    def round(self) -> Round:
        self._recorder.settle(self._forward())
        bare_ns = self._recorder.timed(self._forward())
        found = Round(bare_ns / 1e9, self._clocked(), self._hooked())
        return self._seen(found) if self._recorder.device.type == "cuda" else found

    def _forward(self) -> Any:
        generation = Generation(self._model, self._inputs, decode_steps=_STEPS)
        if self._phase == "prefill":
            return generation.prefill
        generation.prefill()
        generation.decode()
        return generation.decode

    def _clocked(self) -> float:
        clock, forward = Clock(), self._forward()
        with instrument.labelled(self._model, labels=clock):
            self._recorder.clocked(forward, self._phase, clock)
        found = clock.take()
        is_layer = [labels.parse(name) for name in found.names]
        times = zip(found.label, found.dur_ns, strict=True)
        return sum(ns for at, ns in times if (x := is_layer[at]) and x.kind == "layer") / 1e9

    def _hooked(self) -> float:
        forward = self._forward()
        with _clocks_on(find_decoder(self._model).layers) as spent:
            self._recorder.timed(forward)
        return sum(spent) / 1e9

    def _seen(self, found: Round) -> Round:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "device.json.gz")
            seen = self._recorder.device_only(self._forward(), self._forward(), path)
            trace = read_trace(path)
        begin = seen.started_ns - trace.info.base_time_ns
        step = Step(0, begin, begin + seen.wall_ns + 1)
        nothing = build_scopes(trace, np.zeros(len(trace.host), bool))
        read = attribute(trace, nothing, (step,))
        busy_ns = union_ns(trace.device.start_ns, trace.device.end_ns)
        return replace(
            found,
            device_s=seen.wall_ns / 1e9,
            busy_s=busy_ns / 1e9,
            idle_s=int(read.gap_ns.sum()) / 1e9,
        )


@contextmanager
def _clocks_on(layers: Any) -> Iterator[list[int]]:
    spent: list[int] = []
    begun: list[int] = []
    hooks = []
    for layer in layers:
        hooks.append(
            layer.register_forward_pre_hook(lambda *_: begun.append(time.perf_counter_ns()))
        )
        hooks.append(
            layer.register_forward_hook(
                lambda *_: spent.append(time.perf_counter_ns() - begun.pop())
            )
        )
    try:
        yield spent
    finally:
        for hook in hooks:
            hook.remove()


def _compare(what: str, ours: list[float], others: list[float]) -> None:
    ratio = median(one / other for one, other in zip(ours, others, strict=True))
    print(f"{what:<12}{_told(ours):<30} other clock {_told(others):<30}{ratio:>7.3f}")


def _told(seconds: list[float]) -> str:
    low, _, high = quantiles(seconds, n=4) if len(seconds) > 1 else seconds * 3
    return f"{median(seconds) * 1e3:.3f} [{low * 1e3:.3f} .. {high * 1e3:.3f}]"


if __name__ == "__main__":
    sys.exit(main())
