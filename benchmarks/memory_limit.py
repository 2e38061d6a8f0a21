"""Holds what is predicted to fit into a device's memory against real runs near the limit.

    python benchmarks/memory_limit.py [--device cpu --address-space GB] [--num-layers N]

A prefill of 2 x 512 tokens with --memory says how much a sequence takes, and how many would fit.
Then 95 % and 110 % of as many are run: the first has to fit, with about the predicted peak,
and the second has to fail, in one line that names the part. On a GPU the allocator's segments can
grow meanwhile (expandable_segments), as the prediction says; once 95 % is run without, where what
lies between blocks may be more than the 5 % left. On a CPU --address-space gives each process so
much, as `ulimit -v` does, so that the limit is near.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from qwen3_profile.analysis.memory_fit import memory_fit
from qwen3_profile.records.load import load
from qwen3_profile.records.record import TimingRecord

_BATCH, _LENGTH = 2, 512
_FITS, _FAILS = 0.95, 1.10


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model-name", default="Qwen/Qwen3-0.6B")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--num-layers", type=int)
    parser.add_argument("--address-space", type=float, help="GB, on a CPU")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        first, _ = _run(place / "first", _BATCH, options)
        if first is None or first.memory is None or (fit := memory_fit(first)) is None:
            print("no memory was recorded")
            return 1
        memory = first.memory
        print(f"{options.model_name} on {options.device}: {_LENGTH} tokens, start and peak in MB")
        print(f"batch {_BATCH}: {_mb(memory.start_bytes)} and {_mb(memory.whole.peak_bytes)}; the")
        print(f"allocator's own peak: {_mb(memory.allocator_peak_bytes or 0)}")
        print(f"a sequence takes {_mb(fit.each_bytes)}; {fit.sequences} would fit")
        grows = {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}
        trials = [(_FITS, grows), (_FITS, {}), (_FAILS, grows)]
        for share, allocator in trials if options.device != "cpu" else trials[::2]:
            batch = round(share * fit.sequences)
            predicted = memory.start_bytes + batch * fit.each_bytes
            found, line = _run(place / f"{share}{len(allocator)}", batch, options, allocator)
            peak = found.memory.whole.peak_bytes if found and found.memory else None
            told = line if peak is None else f"{_mb(peak)}, {peak / predicted:.4f} of it"
            how = "" if allocator or options.device == "cpu" else ", segments that do not grow"
            print(f"batch {batch} ({share:.1%}{how}): predicted {_mb(predicted)}; {told}")
    return 0


def _run(
    place: Path, batch: int, options: Any, allocator: Mapping[str, str] | None = None
) -> tuple[TimingRecord | None, str]:
    """One prefill with its memory; its record, or the line that says why there is none."""
    argv = ["--weights", "random", "--model-name", options.model_name, "--device", options.device]
    argv += ["--batch-size", str(batch), "--input-len", str(_LENGTH), "--num-runs", "1", "--memory"]
    argv += ["--no-ceilings", "--trace-dir", str(place), "--run-name", "run"]
    argv += ["--output-dir", str(place)]
    if options.num_layers:
        argv += ["--num-layers", str(options.num_layers)]
    done = subprocess.run(
        [sys.executable, "-m", "qwen3_profile", *argv],
        capture_output=True, text=True, check=False, env=os.environ | (allocator or {}),
        preexec_fn=partial(_limit, options.address_space),
    )  # fmt: skip
    errors = [each for each in done.stderr.splitlines() if each.startswith("error")]
    file = place / "run" / "run.json"
    if not file.is_file() or not json.loads(file.read_text())["configs"][0]["measurements"]:
        return None, (errors or ["no run"])[0]
    return load(place / "run").groups[0][0], ""


def _limit(gb: float | None) -> None:
    if gb is not None:
        resource.setrlimit(resource.RLIMIT_AS, (int(gb * 1e9), int(gb * 1e9)))


def _mb(count: float) -> str:
    return f"{count / 1e6:.3f}"


if __name__ == "__main__":
    sys.exit(main())
