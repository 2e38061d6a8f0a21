"""What attribution costs an event: labels, launches and device events in, each event's scope out.

    python benchmarks/attribution.py --events 1e5 1e6 1e7 --rounds 5

The columns are those of a labelled Qwen3 that decodes, as the reader makes them: per launch one
device event, and a label for every fourth launch or so. Nothing is read here; the time is that of
nesting the labels and giving each event to its scope, of the whole trace at once. (`export` looks
at a long one window by window, so that its columns stay in a processor's caches.)
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from qwen3_profile.attribution.attribute import attribute
from qwen3_profile.attribution.build_scopes import build_scopes
from qwen3_profile.attribution.scopes import Step
from qwen3_profile.trace.columns import Category, Events, Trace, TraceInfo, Track

# One step: a forward pass of so many layers, each with labels as (name, launches inside).
_LAYERS = 28
_PARTS = (("q_proj", 4), ("k_proj", 4), ("v_proj", 4), ("attn_forward", 8), ("o_proj", 4),
          ("gate_proj", 4), ("up_proj", 4), ("down_proj", 4))  # fmt: skip
_LAUNCH_NS, _KERNEL_NS = 1000, 900


def one_step() -> tuple[list[tuple[str, int, int]], int]:
    """The labels of a step as (name, start, end), and the number of its launches."""
    labels, at = [], 0
    for layer in range(_LAYERS):
        begin = at
        for part, launches in _PARTS:
            labels.append((f"layer.{layer}.{part}", at * _LAUNCH_NS, (at + launches) * _LAUNCH_NS))
            at += launches
        labels.append((f"layer.{layer}", begin * _LAUNCH_NS, at * _LAUNCH_NS))
    return [("decode", 0, at * _LAUNCH_NS), *labels], at


def make_trace(events: int) -> tuple[Trace, tuple[Step, ...]]:
    """A trace of at least so many labels, launches and device events together."""
    labels, launches = one_step()
    steps = max(1, -(-events // (len(labels) + 2 * launches)))
    length = launches * _LAUNCH_NS + 50_000
    names = (*dict.fromkeys(name for name, _, _ in labels), "cudaLaunchKernel", "kernel")
    offset = np.arange(steps)[:, None] * length
    start = (np.array([row[1] for row in labels]) + offset).ravel()
    dur = np.tile([row[2] - row[1] for row in labels], steps)
    name = np.tile([names.index(row[0]) for row in labels], steps)
    host = _events(Category.USER_ANNOTATION, name, 0, start, dur, -1)
    order = np.lexsort((-host.dur_ns, host.start_ns))
    called = (np.arange(launches) * _LAUNCH_NS + offset).ravel()
    ids = np.arange(len(called))
    calls = _events(Category.RUNTIME, len(names) - 2, 0, called + 10, 500, ids)
    device = _events(Category.KERNEL, len(names) - 1, 1, called + 5000, _KERNEL_NS, ids)
    info = TraceInfo("made", None, 0, ("GPU",))
    none = host.take(np.zeros(0, np.int64))
    tracks = (Track("1", "1"), Track("0", "7"))
    trace = Trace(info, names, tracks, host.take(order), calls, device, none)
    found = tuple(Step(k, k * length, (k + 1) * length) for k in range(steps))
    return trace, found


def _events(
    category: Category,
    name: object,
    track: int,
    start: object,
    dur: object,
    correlation: object,
) -> Events:
    columns = np.broadcast_arrays(int(category), name, track, start, dur, correlation)
    types = (np.int8, np.int32, np.int32, np.int64, np.int64, np.int64)
    return Events(*(column.astype(kind) for column, kind in zip(columns, types, strict=True)))


def nest_and_attribute(trace: Trace, steps: tuple[Step, ...]) -> None:
    scopes = build_scopes(trace, np.ones(len(trace.host), bool), name_gaps=False)
    found = attribute(trace, scopes, steps)
    if int(found.sum_of("device_ns").sum()) != int(trace.device.dur_ns.sum()):
        raise SystemExit("not every device event belongs to a label")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=float, nargs="+", default=[1e5, 1e6, 1e7])
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    args = parser.parse_args(argv)
    print(f"{'events':>10}{'cpu ns/event':>14}{'min':>8}{'max':>8}")
    for events in args.events:
        trace, steps = make_trace(int(events))
        count = len(trace.host) + len(trace.launches) + len(trace.device)
        spent = []
        for _ in range(args.rounds):
            begin = time.process_time_ns()
            nest_and_attribute(trace, steps)
            spent.append((time.process_time_ns() - begin) / count)
        print(f"{count:>10}{median(spent):>14.0f}{min(spent):>8.0f}{max(spent):>8.0f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
