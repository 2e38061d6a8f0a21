"""From the start of a process to the end of the first traced forward, beside the floor.

    python benchmarks/startup.py --rounds 5

ours    resolve the device, load the default model as a run does (auto weights), label it, and
        trace one forward
floor   import torch, import the Qwen3 class, one bare forward; the model that the forward needs
        is made outside the clock

Each round runs each arm once in a fresh process, in turn, so that drift of the machine hits
both. Times are medians in seconds from the start of the process, interpreter included.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PHASES = ("imports", "build", "weights", "forward")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--batch-size", type=int, default=2, help="default: %(default)s")
    parser.add_argument("--input-len", type=int, default=256, help="default: %(default)s")
    parser.add_argument("--arm", choices=ARMS, help=argparse.SUPPRESS)
    parser.add_argument("--started", type=float, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.arm:
        ARMS[args.arm](Clock(args.started), args.batch_size, args.input_len)
        return 0
    samples: dict[str, list[dict[str, float]]] = {arm: [] for arm in ARMS}
    for _ in range(args.rounds):
        for arm in ARMS:
            samples[arm].append(measure(arm, args.batch_size, args.input_len))
    print(report(samples, args.batch_size, args.input_len))
    return 0


class Clock:
    """Splits the time since the process was started into phases; prints them at the end."""

    def __init__(self, started: float) -> None:
        self.last = started
        self.phases = dict.fromkeys(PHASES, 0.0)

    def lap(self, phase: str | None) -> None:
        """Books the time since the last lap on `phase`; None leaves it out."""
        now = time.time()
        if phase is not None:
            self.phases[phase] += now - self.last
        self.last = now

    def stop(self) -> None:
        print(json.dumps(self.phases))


def ours(clock: Clock, batch_size: int, input_len: int) -> None:
    from torch.profiler import ProfilerActivity, profile

    from qwen3_profile import config, devices, library, models, weights

    # The import of transformers, the build and the fill overlap: what the clock sees of each.
    empty_model, fill = library.empty_model, weights.fill
    published_config = library.published_config

    def timed(phase_before: str, function: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object) -> object:
            clock.lap(phase_before)
            return function(*args)

        return call

    library.published_config = timed("imports", published_config)  # type: ignore[assignment]
    library._class_of = _after(clock, library._class_of)  # type: ignore[assignment]
    library.empty_model = timed("build", empty_model)  # type: ignore[assignment]
    weights.fill = timed("build", fill)  # type: ignore[assignment]
    clock.lap("imports")
    device = devices.resolve_device(None).device
    loaded = models.load_model(config.ModelRequest(), "bfloat16", None, device)
    vocab_size = loaded.facts.shape.vocab_size
    ids = models.make_inputs(vocab_size, batch_size, input_len, 0, device)
    clock.lap("weights")
    # Only now: its import of transformers is then the one that load_model has overlapped.
    from qwen3_profile import instrument

    with profile(activities=[ProfilerActivity.CPU]), instrument.labelled(loaded.model):
        models.prefill(loaded.model, ids)
        clock.lap("forward")
    clock.stop()


def floor(clock: Clock, batch_size: int, input_len: int) -> None:
    import torch
    from transformers.models.qwen3.modeling_qwen3 import Qwen3ForCausalLM

    clock.lap("imports")
    from qwen3_profile import devices, library, models, shapes, weights

    shape = shapes.PUBLISHED["Qwen/Qwen3-0.6B"]
    device = devices.resolve_device(None).device
    model = library.empty_model(library.published_config(shape, torch.bfloat16))
    assert isinstance(model, Qwen3ForCausalLM)
    count = weights.values_needed(model)
    weights.fill(model, weights.random_values(count, torch.bfloat16, device, 0))
    ids = models.make_inputs(shape.vocab_size, batch_size, input_len, 0, device)
    clock.lap(None)
    models.prefill(model, ids)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    clock.lap("forward")
    clock.stop()


ARMS: dict[str, Callable[[Clock, int, int], None]] = {"ours": ours, "floor": floor}


def _after(clock: Clock, class_of: Callable[..., object]) -> Callable[..., object]:
    """Books what `class_of` takes on imports: that is where transformers is imported."""

    def call(*args: str) -> object:
        clock.lap("build")
        found = class_of(*args)
        clock.lap("imports")
        return found

    return call


def measure(arm: str, batch_size: int, input_len: int) -> dict[str, float]:
    """One run of one arm in a process of its own -> seconds by phase."""
    command = [sys.executable, __file__, "--arm", arm, "--started", repr(time.time())]
    command += ["--batch-size", str(batch_size), "--input-len", str(input_len)]
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        command,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in paths if path)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    phases: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return phases


def report(samples: dict[str, list[dict[str, float]]], batch_size: int, input_len: int) -> str:
    """The table of medians, and the ratio; pairs of one round are compared with each other."""
    rounds = len(samples["ours"])
    lines = [
        f"default model, {batch_size} x {input_len} tokens, median of {rounds} rounds, seconds",
        f"{'':8}{''.join(f'{phase:>10}' for phase in (*PHASES, 'total'))}",
    ]
    totals = {arm: [sum(run.values()) for run in runs] for arm, runs in samples.items()}
    for arm, runs in samples.items():
        times = [statistics.median(run[phase] for run in runs) for phase in PHASES]
        times.append(statistics.median(totals[arm]))
        lines.append(f"{arm:8}{''.join(f'{value:10.2f}' for value in times)}")
    ratios = [one / other for one, other in zip(totals["ours"], totals["floor"], strict=True)]
    lines.append(
        f"ours / floor: {statistics.median(ratios):.2f} "
        f"(by round {', '.join(f'{ratio:.2f}' for ratio in ratios)})"
    )
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
