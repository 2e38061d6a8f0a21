"""Tensor parallel prefill and decode on 1 and 2 GPUs, and a large all-reduce beside a plain loop.

    python benchmarks/tensor_parallel.py OUT [--models NAME,NAME] [--ranks 1,2] [--device cpu]

Runs the program itself, alone and under torchrun, one model after the other; then a loop of
all-reduces of one large array, timed by synchronisation alone and again under torch.profiler, whose
traces the program splits: the bus bandwidth of both has to agree. Writes OUT/tensor_parallel.txt,
and leaves the runs and the traces of the loop in OUT.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

MODELS = "Qwen/Qwen3-8B,Qwen/Qwen3-32B"
WARM, TIMED = 5, 20
_TIMEOUT_S = 900


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--models", default=MODELS)
    parser.add_argument("--ranks", default="1,2")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--input-len", type=int, default=2048)
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--decode-steps", type=int, default=16)
    parser.add_argument("--num-layers", type=int)
    parser.add_argument("--elements", type=int, default=1 << 27, help="of the large array, bf16")
    parser.add_argument("--loop", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.loop:
        run_loop(options)
        return
    most = max(map(int, options.ranks.split(",")))
    texts = [models_table(options), loop_table(options, most)]
    report = options.out / "tensor_parallel.txt"
    report.write_text("\n\n".join(texts) + "\n")
    print(report.read_text())


# --- models ---------------------------------------------------------------------------------------


def models_table(options: argparse.Namespace) -> str:
    """What an export of all runs says: the tables of ranks, and of scaling."""
    traces = options.out / "traces"
    for model in options.models.split(","):
        for count in options.ranks.split(","):
            name = f"{Path(model).name}_{count}"
            flags = [
                "--model-name", model, "--weights", "random", "--device", options.device,
                "--input-len", options.input_len, "--batch-size", options.batch_size,
                "--decode-steps", options.decode_steps, "--trace-steps", 2, "--num-runs", 5,
                "--trace-dir", traces, "--run-name", name, "--output-dir", options.out / "records",
                "--force", "--no-ceilings",
            ]  # fmt: skip
            if options.num_layers:
                flags += ["--num-layers", options.num_layers]
            call([*launcher(int(count)), "-m", "qwen3_profile", *map(str, flags)])
    exported = call(
        [sys.executable, "-m", "qwen3_profile.export", str(traces),
         "--output-dir", str(options.out / "exported")]
    )  # fmt: skip
    return exported[exported.index("=== ") :] if "=== " in exported else exported


def launcher(count: int) -> list[str]:
    if count == 1:
        return [sys.executable]
    run = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
    return [sys.executable, *run]


def call(command: list[str]) -> str:
    """What a command prints; it ends the benchmark where it fails."""
    print("+", *command, file=sys.stderr, flush=True)
    done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    if done.returncode:
        sys.exit(f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout


# --- one large all-reduce -------------------------------------------------------------------------


def loop_table(options: argparse.Namespace, ranks: int) -> str:
    """The bus bandwidth of the plain loop, and what the program finds in the traces of it."""
    from qwen3_profile.analysis.rank_waiting import rank_waiting
    from qwen3_profile.records.ranks import collect_ranks, trace_files

    loop = ["--loop", f"--device={options.device}", f"--elements={options.elements}"]
    call([*launcher(ranks), __file__, str(options.out / "loop"), *loop])
    plain = json.loads((options.out / "loop" / "plain.txt").read_text())
    found = rank_waiting(collect_ranks(trace_files(options.out / "loop")))
    rows = found.rows if found is not None else ()
    split = next((row.bus_bytes_per_s for row in rows if row.kind == "all_reduce"), None)
    size = options.elements * 2
    lines = [
        f"all-reduce of {size / 1e6:.1f} MB on {ranks} ranks, bus bandwidth as nccl-tests has it:",
        f"  plain loop, {TIMED} in a row   {plain / 1e9:10.2f} GB/s",
    ]
    if split is None:
        lines.append(
            "  out of its traces     not told: gloo writes no sizes, or it is mere latency"
        )
    else:
        lines.append(
            f"  out of its traces     {split / 1e9:10.2f} GB/s  ({split / plain - 1:+.1%})"
        )
    return "\n".join(lines)


def run_loop(options: argparse.Namespace) -> None:
    """One rank of the loop."""
    import torch
    import torch.distributed as dist
    from torch.profiler import ProfilerActivity, profile, record_function

    rank, on_gpu = int(os.environ["RANK"]), options.device == "cuda"
    if on_gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if on_gpu else "gloo")
    array = torch.ones(options.elements, dtype=torch.bfloat16, device=options.device)
    wait: Callable[[], None] = torch.cuda.synchronize if on_gpu else (lambda: None)

    def loop(count: int) -> float:
        wait()
        dist.barrier()
        begun = time.perf_counter()
        for _ in range(count):
            dist.all_reduce(array)
        wait()
        return time.perf_counter() - begun

    loop(WARM)
    seconds = loop(TIMED)
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=activities) as profiler, record_function("loop"):
        loop(TIMED)
    profiler.export_chrome_trace(str(options.out / f"rank{rank}.json"))
    if rank == 0:
        size = dist.get_world_size()
        rate = options.elements * 2 * TIMED / seconds * 2 * (size - 1) / size
        (options.out / "plain.txt").write_text(json.dumps(rate))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
