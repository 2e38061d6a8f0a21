"""Verdicts on passes whose answer is known beforehand, and what came of taking the advice.

    python benchmarks/verdicts.py [--cases ceilings|dense|moe|all] [--small] [--device cpu]
        [--keep FOLDER]

The ceilings that the tool measures, beside loops written here over the same shapes, and beside the
data sheet of the card. Both are taken several times in turn, and warmed up under the same load: a
GPU at its power limit lowers its clock within tenths of a second, so a loop of 50 ms after a rest
finds another rate than one of 300 ms. MHz is the SM clock while the tool measured a shape.
Then, each in a process of its own as a user runs it:

    decode of 0.6B      waits for the CPU; as a CUDA graph and compiled, against what was predicted
    decode of 8B        as a CUDA graph and compiled: reads 16 GB of weights for each token
    prefill of 8B       8 x 2048 tokens: multiplies matrices
    decode of 30B-A3B   a mixture of experts, op by op and as a CUDA graph

--small leaves a layer and few tokens, to try the script on a CPU. Runs are kept in FOLDER.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
from torch.nn import functional

from qwen3_profile.analysis.explain import Explanation, explain
from qwen3_profile.measure import ceilings
from qwen3_profile.measure.devices import resolve_device
from qwen3_profile.records.load import load
from qwen3_profile.run_folder.ceilings import Ceilings
from qwen3_profile.views.terminal.explain import render_explanation

# Card -> dense bfloat16 TFLOP/s and GB/s of its maker's data sheet.
_DATA_SHEETS = {"H200": (989.5, 4800.0), "H100 80GB HBM3": (989.5, 3350.0), "A100": (312.0, 2039.0)}
# How often tool and loop take turns; of a loop, the warm-up, and blocks of so many seconds.
_TURNS, _WARM_UP_S, _BLOCKS, _BLOCK_S = 3, 0.6, 10, 0.02


@dataclass(frozen=True)
class Case:
    """A run, the phase that is looked at, and the verdict that it must get."""

    name: str
    phase: str
    expected: str
    arguments: tuple[str, ...]
    needs_gpu: bool = False


_STATIC = ("--cache", "static", "--decode-steps", "16", "--trace-steps", "3")
_DENSE = (
    Case("0.6B decode, batch 1", "decode", "launch-bound",
         (*_STATIC, "--decode-steps", "32", "--num-runs", "5", "--executions", "EVERY")),
    Case("8B decode, batch 1, CUDA graph", "decode", "memory-bound",
         ("--model-name", "Qwen/Qwen3-8B", *_STATIC, "--num-runs", "3", "--executions",
          "cuda_graph"), needs_gpu=True),
    Case("8B decode, batch 1, compiled", "decode", "memory-bound",
         ("--model-name", "Qwen/Qwen3-8B", *_STATIC, "--num-runs", "3", "--executions", "compiled",
          "--compile", "reduce-overhead"), needs_gpu=True),
    Case("8B prefill, 8 x 2048", "prefill", "compute-bound",
         ("--model-name", "Qwen/Qwen3-8B", "--batch-size", "8", "--input-len", "2048")),
)  # fmt: skip
_MOE = (
    Case("30B-A3B decode, batch 1", "decode", "launch-bound",
         ("--model-name", "Qwen/Qwen3-30B-A3B", *_STATIC)),
    Case("30B-A3B decode, batch 1, CUDA graph", "decode", "-",
         ("--model-name", "Qwen/Qwen3-30B-A3B", *_STATIC, "--executions", "cuda_graph"),
         needs_gpu=True),
)  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", choices=("ceilings", "dense", "moe", "all"), default="all")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--device")
    parser.add_argument("--keep", type=Path)
    options = parser.parse_args(argv)
    device = resolve_device(options.device).device
    cases = {"ceilings": (), "dense": _DENSE, "moe": _MOE, "all": (*_DENSE, *_MOE)}[options.cases]
    if options.cases != "moe":
        print(_ceilings(device))
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        for at, case in enumerate(cases):
            if device.type == "cuda" or not case.needs_gpu:
                print(f"\n{'=' * 100}\n{_told(case, folder / f'run{at}', device, options.small)}")
                sys.stdout.flush()
    return 0


def _ceilings(device: torch.device) -> str:
    """What the tool measures, and loops of our own over the same shapes."""
    dtype = "bfloat16" if device.type == "cuda" else "float32"
    turns = []
    for _ in range(_TURNS):
        found = ceilings.measure(device, dtype)
        turns.append((found, _own(found, device, dtype)))
    found = turns[0][0]
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    sheet = next((v for card, v in _DATA_SHEETS.items() if card in name), None)
    lines = [f"{name}, torch {torch.__version__}, {dtype}; medians of {_TURNS} turns", ""]
    lines.append(
        f"{'ceiling':<28}{'tool':>9}{'own loop':>10}{'ratio':>8}{'of each turn':>22}"
        f"{'MHz':>12}{'data sheet':>12}"
    )
    for at, (what, *_) in enumerate(_rates(found)):
        tool = [_rates(each)[at][1] for each, _ in turns]
        own = [loops[at] for _, loops in turns]
        unit, sheet_at = (1e12, 0) if "FLOP" in what else (1e9, 1)
        ratios = [ours / theirs for ours, theirs in zip(tool, own, strict=True)]
        lines.append(
            f"{what:<28}{median(tool) / unit:>9.1f}{median(own) / unit:>10.1f}"
            f"{median(ratios):>8.3f}{' '.join(f'{each:.3f}' for each in ratios):>22}"
            f"{_clocks([_rates(each)[at][2] for each, _ in turns]):>12}"
            f"{f'{sheet[sheet_at]:.1f}' if sheet else '-':>12}"
        )
    shortest = median(each.launch_ns for each, _ in turns)
    lines.append(f"shortest kernel: {shortest / 1e3:.2f} us")
    return "\n".join(lines)


def _rates(found: Ceilings) -> list[tuple[str, float, int | None]]:
    """Of each ceiling its name, what it is per second, and the clock meanwhile."""
    return [
        *(
            (f"{e.rows} x {e.into} x {e.out}, TFLOP/s", e.flops_per_s, e.sm_clock_mhz)
            for e in found.products
        ),
        ("copy, GB/s", found.copy_bytes_per_s, None),
        ("sum, GB/s", found.read_bytes_per_s, None),
    ]


def _clocks(mhz: Sequence[int | None]) -> str:
    known = [each for each in mhz if each is not None]
    return f"{min(known)}..{max(known)}" if known else "-"


def _own(found: Ceilings, device: torch.device, dtype: str) -> list[float]:
    """The same per second, by loops of our own: FLOPs of each shape, bytes of a copy and a sum."""
    calls, counts = [], []
    for each in found.products:
        x = torch.randn(each.rows, each.into, device=device).to(getattr(torch, dtype))
        weight = torch.randn(each.out, each.into, device=device).to(getattr(torch, dtype))
        calls.append(lambda x=x, weight=weight: functional.linear(x, weight))
        counts.append(2 * each.rows * each.into * each.out)
    seconds = _loops(calls, device)
    del calls
    size = 1 << (30 if device.type == "cuda" else 28)
    source = torch.randn(size // 4, device=device)
    target = torch.empty_like(source)
    for call, count in ((lambda: target.copy_(source), 2 * size), (source.sum, size)):
        seconds += _loops([call], device)
        counts.append(count)
    return [count / took for count, took in zip(counts, seconds, strict=True)]


def _loops(calls: Sequence[Callable[[], object]], device: torch.device) -> list[float]:
    """Seconds of each call by the host's clock round blocks of it, one call's after another's."""
    wait = torch.cuda.synchronize if device.type == "cuda" else (lambda: None)

    def block(call: Callable[[], object], count: int) -> float:
        wait()
        start = time.perf_counter()
        for _ in range(count):
            call()
        wait()
        return (time.perf_counter() - start) / count

    counts = [max(1, round(_BLOCK_S / max(block(call, 2), 1e-9))) for call in calls]
    end = time.perf_counter() + _WARM_UP_S
    while time.perf_counter() < end:
        for call, count in zip(calls, counts, strict=True):
            block(call, count)
    taken = [[block(c, n) for c, n in zip(calls, counts, strict=True)] for _ in range(_BLOCKS)]
    return [median(each) for each in zip(*taken, strict=True)]


def _told(case: Case, place: Path, device: torch.device, small: bool) -> str:
    executions = "eager,compiled,cuda_graph" if device.type == "cuda" else "eager,compiled"
    argv = [word.replace("EVERY", executions) for word in case.arguments]
    argv += ["--weights", "random", "--device", str(device)]
    argv += ["--trace-dir", str(place), "--output-dir", str(place), "--run-name", "run"]
    if small:
        argv += ["--num-layers", "1", "--batch-size", "1", "--input-len", "32"]
        argv += ["--dtype", "float32", "--num-runs", "2"]
    done = subprocess.run(
        [sys.executable, "-m", "qwen3_profile", *argv], capture_output=True, text=True, check=False
    )
    if not (place / "run" / "run.json").is_file():
        return f"{case.name}: no run\n{done.stderr[-1500:]}"
    found = [explain(records) for records in load(place / "run").groups]
    mine = [each for each in found if each.phase == case.phase]
    lines = [f"{case.name}: expected {case.expected}, found {mine[0].whole.kind}", ""]
    lines += [line for line in done.stderr.splitlines() if line.startswith("error")]
    lines += [render_explanation(mine[0]), "", *_taken(mine)]
    return "\n".join(lines)


def _taken(found: Sequence[Explanation]) -> Iterator[str]:
    """What was predicted of an eager pass, beside what other ways of running it took."""
    if len(found) < 2:
        return
    first = found[0].whole
    yield f"eager {first.wall_ns / 1e6:.3f} ms; predicted at best {first.best_ns / 1e6:.3f} ms"
    for each in found[1:]:
        whole = each.whole
        yield (
            f"config {each.config_index}: {whole.wall_ns / 1e6:.3f} ms, "
            f"{first.wall_ns / whole.wall_ns:.2f} times as fast; {each.claims[0].sentence}"
        )


if __name__ == "__main__":
    sys.exit(main())
