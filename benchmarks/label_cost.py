"""What one label costs the host: round a function that does nothing, without a model.

    bare        the function alone
    idle        with its label, no profiler: what every call pays between two traces
    traced      with its label, as `ranges` writes it, under the profiler
    dear        with torch.profiler.record_function in its place, under the profiler

Each arm makes the same number of calls in turn, round by round; medians over the rounds, in ns a
call. What a label costs is the difference to `bare`. Whole forward passes: `disturbance.py`.

    python benchmarks/label_cost.py [--calls 2000] [--rounds 15]
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from statistics import median

from torch.profiler import ProfilerActivity, profile, record_function

from qwen3_profile.measure import ranges
from qwen3_profile.measure.patching import Patches

LABEL = "layer.7.attn.q_proj"


def nothing() -> None:
    pass


def dear() -> None:
    with record_function(LABEL):
        pass


def ns_a_call(function: Callable[[], None], calls: int) -> float:
    for _ in range(calls // 10):
        function()
    begin = time.perf_counter_ns()
    for _ in range(calls):
        function()
    return (time.perf_counter_ns() - begin) / calls


def ns_a_traced_call(function: Callable[[], None], calls: int) -> float:
    with profile(activities=[ProfilerActivity.CPU]):
        return ns_a_call(function, calls)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=2000, help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=15, help="default: %(default)s")
    options = parser.parse_args(argv)
    with ExitStack() as undo:
        labelled = ranges.inside_range(nothing, LABEL, Patches(undo))
        arms: dict[str, Callable[[], float]] = {
            "bare": lambda: ns_a_call(nothing, options.calls),
            "idle": lambda: ns_a_call(labelled, options.calls),
            "traced": lambda: ns_a_traced_call(labelled, options.calls),
            "dear": lambda: ns_a_traced_call(dear, options.calls),
        }
        times: dict[str, list[float]] = {name: [] for name in arms}
        for _ in range(options.rounds):
            for name, arm in arms.items():
                times[name].append(arm())
    print(f"{'':8}{'median ns':>11}{'min':>8}{'max':>8}{'a label':>9}")
    bare = median(times["bare"])
    for name, values in times.items():
        middle = median(values)
        print(
            f"{name:<8}{middle:>11.0f}{min(values):>8.0f}{max(values):>8.0f}{middle - bare:>9.0f}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
