"""A sweep of 4 x 4 sizes of Qwen3-0.6B, prefill and decode, and two comparisons on one GPU.

    python benchmarks/sweep_and_sides.py FOLDER [--processes 5]
    python benchmarks/sweep_and_sides.py FOLDER --dry-run      anywhere: a tiny model, few sizes

FOLDER/sweep.txt       how the total and every part grow, and the largest size as it was predicted
FOLDER/attention.txt   sdpa against eager attention, in fresh processes that take turns
FOLDER/cache.txt       a dynamic against a static cache, in the same way

with a page beside each. About ten minutes on an H200; install nvidia-ml-py, so that the GPU's clock
is known. The three files are made for benchmarks/results.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

SIZES = ("--batch-size", "1,2,4,8", "--input-len", "128,256,512,1024")
FEW_SIZES = ("--batch-size", "1,2", "--input-len", "8,16")
SIDES = {
    "attention": ("--attn-implementation sdpa", "--attn-implementation eager"),
    "cache": ("--cache dynamic", "--cache static"),
}
TINY = {
    "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_size": 32,
    "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 16, "vocab_size": 200, "tie_word_embeddings": True,
    "max_position_embeddings": 1024,
}  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--processes", type=int, default=5, help="of each side")
    parser.add_argument("--dry-run", action="store_true")
    options = parser.parse_args(argv)
    folder = options.folder
    folder.mkdir(parents=True, exist_ok=True)
    model, sizes = "--weights random --num-runs 5 --decode-steps 16", SIZES
    size = "--batch-size 1 --input-len 512"
    if options.dry_run:
        (folder / "tiny").mkdir(exist_ok=True)
        (folder / "tiny" / "config.json").write_text(json.dumps(TINY))
        model = (
            f"--model-name {folder / 'tiny'} --device cpu --dtype float32 --no-ceilings "
            "--weights random --num-runs 3 --decode-steps 2"
        )
        sizes, size = FEW_SIZES, "--batch-size 1 --input-len 8"
    place = ("--trace-dir", str(folder / "sweep"), "--output-dir", str(folder / "sweep"))
    told = output("qwen3_profile", *shlex.split(model), *sizes, *place)
    (folder / "sweep.txt").write_text(told[told.index("scaling of") :])
    for name, (base, new) in SIDES.items():
        runs = [word for side in (base, new) for word in ("--run", f"{model} {size} {side}")]
        page = ("--report", str(folder / f"{name}.html"))
        where = ("--trace-dir", str(folder / name), "--num-processes", str(options.processes))
        (folder / f"{name}.txt").write_text(output("qwen3_profile.compare", *runs, *where, *page))
    return 0


def output(module: str, *argv: str) -> str:
    """What a command prints; a regression is a finding here, and no failure."""
    command = [sys.executable, "-m", module, *argv]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode not in (0, 1):
        sys.exit(done.returncode)
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
