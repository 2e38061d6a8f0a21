"""Holds the undisturbed times of records against other clocks, taken without this tool's labels.

    python benchmarks/undisturbed.py [--device cpu] [--num-layers N] [--rounds 7]

Of a prefill of 2 x 256 tokens and of decode steps at batch 1 after 128 tokens:

    layers    the CPU time of all layers: records, from the clock pass, against
              `time.perf_counter_ns` in forward hooks of the layers, in passes of a process of
              their own
    idle      the device's idle time: records, from the device pass, against the wall-clock of
              the bare pass less the device's busy time

Medians over the runs and rounds, and in brackets between which values the middle half lies.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from qwen3_profile.config import DEFAULT_MODEL, ModelRequest
from qwen3_profile.measure.devices import resolve_device
from qwen3_profile.measure.executions.eager import Generation
from qwen3_profile.measure.model.load import load_model, make_inputs
from qwen3_profile.measure.model.structure import find_decoder
from qwen3_profile.measure.profiler import Recorder

ROOT = Path(__file__).resolve().parent.parent
_STEPS = 8
_CASES = (("prefill", 2, 256), ("decode", 1, 128))


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device")
    parser.add_argument("--model-name", default=DEFAULT_MODEL)
    parser.add_argument("--num-layers", type=int)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args(argv)
    device = resolve_device(options.device).device
    records = {case: _records(options, str(device), *case) for case in _CASES}
    request = ModelRequest(options.model_name, "random", options.num_layers)
    model = load_model(request, options.dtype, None, device).model
    print(f"{options.model_name}, {device}, {options.rounds} rounds; ms")
    for case in _CASES:
        print(f"\n{case[0]} {case[1]} x {case[2]}")
        hooked = [_hooked(model, device, *case) for _ in range(options.rounds)]
        _compare("layers", [_layers_s(r) for r in records[case]], [s for s, _ in hooked])
        if device.type != "cpu":
            idle = [r["total_time"] - r["cuda_busy"] for r in records[case]]
            _compare("idle", [r["cuda_gap"] for r in records[case]], idle)
        bare = [r["total_time"] for r in records[case]]
        _compare("whole pass", bare, [s for _, s in hooked])
    return 0


def _records(
    options: argparse.Namespace, device: str, phase: str, batch: int, length: int
) -> list[dict[str, Any]]:
    """The records of a run of the product, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable, "-m", "qwen3_profile", "--weights", "random", "--device", device,
            "--model-name", options.model_name, "--dtype", options.dtype,
            "--batch-size", str(batch), "--input-len", str(length),
            "--num-runs", str(options.rounds),
            *(("--decode-steps", str(_STEPS)) if phase == "decode" else ()),
            *(("--num-layers", str(options.num_layers)) if options.num_layers else ()),
        ]  # fmt: skip
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        path = Path(folder, "timing_results", "timing_records.json")
        found = [each for each in json.loads(path.read_text()) if each["phase"] == phase]
    sources = {(each["cpu_source"], each["idle_source"]) for each in found}
    print(f"{phase}: sources {sorted(sources)}, overhead {found[0]['overhead']}")
    return found


def _layers_s(record: dict[str, Any]) -> float:
    """Seconds of all layers: of each its blocks and whatever lies beside them."""
    return sum(
        value
        for layer in record["layer_details"]
        for name, value in layer.items()
        if isinstance(value, float) and not name.endswith("_cuda")
    )


def _hooked(model: Any, device: Any, phase: str, batch: int, length: int) -> tuple[float, float]:
    """Seconds of all layers by hooks, and of the pass, with nothing of this tool's in the model."""
    recorder = Recorder(device)
    inputs = make_inputs(model.config.vocab_size, batch, length, 0, device)
    generation = Generation(model, inputs, decode_steps=_STEPS)
    forward = generation.prefill
    if phase == "decode":
        generation.prefill()
        generation.decode()
        forward = generation.decode
    with _clocks_on(find_decoder(model).layers) as spent:
        wall_ns = recorder.timed(forward)
    return sum(spent) / 1e9, wall_ns / 1e9


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
    ratio = median(ours) / median(others)
    print(f"{what:<12}records {_told(ours):<30} other clock {_told(others):<30}{ratio:>7.3f}")


def _told(seconds: list[float]) -> str:
    low, _, high = quantiles(seconds, n=4) if len(seconds) > 1 else seconds * 3
    return f"{median(seconds) * 1e3:.3f} [{low * 1e3:.3f} .. {high * 1e3:.3f}]"


if __name__ == "__main__":
    sys.exit(main())
