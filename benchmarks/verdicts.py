"""Verdicts on passes whose answer is known beforehand, and what came of taking the advice.

    python benchmarks/verdicts.py [--cases dense|moe|all] [--small] [--device cpu] [--keep FOLDER]

The ceilings that the tool measures, beside loops written here over the same shapes, and beside the
data sheet of the card. Then, each in a process of its own as a user runs it:

    decode of 0.6B      waits for the CPU; as a CUDA graph and compiled, against what was predicted
    decode of 8B        as a CUDA graph: reads 16 GB of weights for each token
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
_LOOPS, _CALLS = 7, 10


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
    parser.add_argument("--cases", choices=("dense", "moe", "all"), default="all")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--device")
    parser.add_argument("--keep", type=Path)
    options = parser.parse_args(argv)
    device = resolve_device(options.device).device
    cases = {"dense": _DENSE, "moe": _MOE, "all": (*_DENSE, *_MOE)}[options.cases]
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
    found = ceilings.measure(device, dtype)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    sheet = next((v for card, v in _DATA_SHEETS.items() if card in name), None)
    lines = [f"{name}, torch {torch.__version__}, {dtype}; SM clock {found.sm_clock_mhz} MHz", ""]
    lines.append(f"{'ceiling':<28}{'tool':>12}{'own loop':>12}{'ratio':>8}{'data sheet':>12}")
    rows = [*_product_rows(found, device, dtype), *_memory_rows(found, device)]
    for what, ours, theirs, unit, at in rows:
        said = f"{sheet[at]:.1f}" if sheet else "-"
        ratio = ours / theirs
        lines.append(f"{what:<28}{ours / unit:>12.1f}{theirs / unit:>12.1f}{ratio:>8.3f}{said:>12}")
    lines.append(f"shortest kernel: {found.launch_ns / 1e3:.2f} us")
    return "\n".join(lines)


Row = tuple[str, float, float, float, int]


def _product_rows(found: Ceilings, device: torch.device, dtype: str) -> Iterator[Row]:
    for each in found.products:
        rows, into, out = each.rows, each.into, each.out
        x = torch.randn(rows, into, device=device).to(getattr(torch, dtype))
        weight = torch.randn(out, into, device=device).to(getattr(torch, dtype))
        seconds = _loop(lambda x=x, weight=weight: functional.linear(x, weight), device)
        name = f"{rows} x {into} x {out}, TFLOP/s"
        yield name, each.flops_per_s, 2 * rows * into * out / seconds, 1e12, 0


def _memory_rows(found: Ceilings, device: torch.device) -> Iterator[Row]:
    size = 1 << (30 if device.type == "cuda" else 28)
    source = torch.randn(size // 4, device=device)
    target = torch.empty_like(source)
    copied = _loop(lambda: target.copy_(source), device)
    yield "copy, GB/s", found.copy_bytes_per_s, 2 * size / copied, 1e9, 1
    yield "sum, GB/s", found.read_bytes_per_s, size / _loop(source.sum, device), 1e9, 1


def _loop(call: Callable[[], object], device: torch.device) -> float:
    """Seconds of one call, by the host's clock round many of them."""
    wait = torch.cuda.synchronize if device.type == "cuda" else (lambda: None)
    for _ in range(3 * _CALLS):
        call()
    found = []
    for _ in range(_LOOPS):
        wait()
        start = time.perf_counter()
        for _ in range(_CALLS):
            call()
        wait()
        found.append((time.perf_counter() - start) / _CALLS)
    return median(found)


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
