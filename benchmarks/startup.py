"""From the start of a process to the end of the first traced forward, beside the floor.

    python benchmarks/startup.py --rounds 5

ours    what the command does until it has a model (auto weights) and a heap at rest, then one
        forward, labelled and traced
floor   import torch, import the Qwen3 class, one bare forward; the model that the forward needs
        is made outside the clock

Each round runs each arm once in a fresh process, in turn, so that drift of the machine hits
both. Times are medians in seconds from the start of the process, interpreter included; `cpu` is
what all threads took, of the floor without its model. What is done in a thread under the imports
shows only in `cpu`. The warm-up and bare passes of a run are no part of either arm.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PHASES = ("imports", "build", "weights", "forward")
CPU = "cpu"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--batch-size", type=int, default=2, help="default: %(default)s")
    parser.add_argument("--input-len", type=int, default=256, help="default: %(default)s")
    parser.add_argument("--arm", choices=ARMS, help=argparse.SUPPRESS)
    parser.add_argument("--started", type=float, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.arm:
        ARMS[args.arm](Clock(args.started), args)
        return 0
    samples: dict[str, list[dict[str, float]]] = {arm: [] for arm in ARMS}
    for _ in range(args.rounds):
        for arm in ARMS:
            samples[arm].append(measure(arm, args))
    print(report(samples, args))
    return 0


class Clock:
    """Splits the time since the process was started into phases; prints them at the end."""

    def __init__(self, started: float) -> None:
        self.last = started
        self.last_cpu = 0.0
        self.times = dict.fromkeys((*PHASES, CPU), 0.0)

    def lap(self, phase: str | None) -> None:
        """Books the time since the last lap on `phase`; None leaves it out."""
        now, cpu = time.time(), time.process_time()
        if phase is not None:
            self.times[phase] += now - self.last
            self.times[CPU] += cpu - self.last_cpu
        self.last, self.last_cpu = now, cpu

    def booked(
        self, before: str, function: Callable[..., object], within: str
    ) -> Callable[..., object]:
        """`function`, whose time is booked on `within`, and the time up to its call on `before`."""

        def call(*args: object) -> object:
            self.lap(before)
            found = function(*args)
            self.lap(within)
            return found

        return call

    def stop(self) -> None:
        print(json.dumps(self.times))


def ours(clock: Clock, args: Namespace) -> None:
    """What `__main__` does, with the clock between its steps."""
    from qwen3_profile import __main__ as command
    from qwen3_profile.system.collector import keep_all_objects

    argv = ["--batch-size", str(args.batch_size), "--input-len", str(args.input_len)]
    invocation = command.parse_arguments(argv)
    with keep_all_objects():
        from qwen3_profile.measure import session

        split_loading(clock)
        prepared = session.prepare(invocation)
    clock.lap("weights")
    from torch.profiler import ProfilerActivity, profile

    from qwen3_profile.measure import instrument
    from qwen3_profile.measure.model import load as models

    session.start_run(invocation, prepared, ROOT, argv)
    loaded = prepared.loaded
    vocab_size = loaded.facts.shape.vocab_size
    ids = models.make_inputs(vocab_size, args.batch_size, args.input_len, 0, prepared.device)
    with (
        session.frozen_heap(),
        profile(activities=[ProfilerActivity.CPU]),
        instrument.labelled(loaded.model),
    ):
        models.prefill(loaded.model, ids)
        clock.lap("forward")
    clock.stop()


def split_loading(clock: Clock) -> None:
    """Books the steps of loading, the import of transformers among them, where they happen."""
    from qwen3_profile.measure.model import transformers_compat

    config, class_of, model = (
        transformers_compat.published_config,
        transformers_compat._class_of,
        transformers_compat.empty_model,
    )
    transformers_compat.published_config = clock.booked("imports", config, "build")  # type: ignore[assignment]
    transformers_compat._class_of = clock.booked("build", class_of, "imports")  # type: ignore[assignment]
    transformers_compat.empty_model = clock.booked("build", model, "build")  # type: ignore[assignment]


def floor(clock: Clock, args: Namespace) -> None:
    import torch
    from transformers.models.qwen3.modeling_qwen3 import Qwen3ForCausalLM

    clock.lap("imports")
    from qwen3_profile.measure import devices
    from qwen3_profile.measure.model import load as models
    from qwen3_profile.measure.model import published_shapes, random_weights, transformers_compat

    shape = published_shapes.PUBLISHED["Qwen/Qwen3-0.6B"]
    device = devices.resolve_device(None).device
    model = transformers_compat.empty_model(
        transformers_compat.published_config(shape, torch.bfloat16)
    )
    assert isinstance(model, Qwen3ForCausalLM)
    count = random_weights.values_needed(model)
    random_weights.fill(model, random_weights.random_values(count, torch.bfloat16, device, 0))
    ids = models.make_inputs(shape.vocab_size, args.batch_size, args.input_len, 0, device)
    clock.lap(None)
    models.prefill(model, ids)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    clock.lap("forward")
    clock.stop()


ARMS: dict[str, Callable[[Clock, Namespace], None]] = {"ours": ours, "floor": floor}


def measure(arm: str, args: Namespace) -> dict[str, float]:
    """One run of one arm in a process of its own -> seconds by phase, and of CPU."""
    command = [sys.executable, __file__, "--arm", arm, "--started", repr(time.time())]
    command += ["--batch-size", str(args.batch_size), "--input-len", str(args.input_len)]
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        command,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in paths if path)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    times: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return times


def report(samples: dict[str, list[dict[str, float]]], args: Namespace) -> str:
    """The table of medians, and the ratios; those of one round are compared with each other."""
    lines = [
        f"default model, {args.batch_size} x {args.input_len} tokens, "
        f"median of {args.rounds} rounds, seconds",
        f"{'':8}{''.join(f'{name:>10}' for name in (*PHASES, 'total', CPU))}",
    ]
    totals = {arm: [sum(run[p] for p in PHASES) for run in runs] for arm, runs in samples.items()}
    cpu = {arm: [run[CPU] for run in runs] for arm, runs in samples.items()}
    for arm, runs in samples.items():
        times = [statistics.median(run[phase] for run in runs) for phase in PHASES]
        times += [statistics.median(totals[arm]), statistics.median(cpu[arm])]
        lines.append(f"{arm:8}{''.join(f'{value:10.2f}' for value in times)}")
    return "\n".join((*lines, ratio("total", totals), ratio(CPU, cpu)))


def ratio(what: str, times: dict[str, list[float]]) -> str:
    ratios = [one / other for one, other in zip(times["ours"], times["floor"], strict=True)]
    rounds = ", ".join(f"{each:.2f}" for each in ratios)
    return f"{what}, ours / floor: {statistics.median(ratios):.2f} (by round {rounds})"


if __name__ == "__main__":
    raise SystemExit(main())
