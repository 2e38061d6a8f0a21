"""Where the time of the README's first command goes, told from outside by what it prints.

    python benchmarks/first_run.py --rounds 3 --arms before=ce2a801 after=HEAD

Each arm is a commit, checked out beside the others, or a folder of code; `NAME=plain` is a script
of torch and transformers alone that runs as many passes of that model, and measures nothing. Each
round runs the command once in each arm, in turn, so that drift of the machine hits all; in a new
folder, and with `-v`. A phase begins with its line on stderr and ends with the next one. Times are
medians in seconds; `to the first table` is from the start of the process to the first line of the
first table, the install aside; `cpu` is what the process and its children took. The round before
the others, which compiles what came without bytecode and measures what is kept for a day, stands in
brackets. Another command's arguments stand after `--`.
"""

from __future__ import annotations

import argparse
import functools
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parent.parent
COMMAND = ("--batch-size", "2", "--input-len", "256")
_STEP = re.compile(r"\[ *[\d.]+ s\] (?:step \d+ of \d+: )?(?:[^:]*: )?(?:run \d+ of \d+, )?(.*)")
# Stands in the first line of each of a run's tables, after the plan that is printed before it.
_TABLE = re.compile(r"^(prefill|decode|train_step): batch|^layer +attn")
PLAIN = """
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM
device = "cuda" if torch.cuda.is_available() else "cpu"
config = Qwen3Config(
    hidden_size=1024, intermediate_size=3072, num_hidden_layers=28, num_attention_heads=16,
    num_key_value_heads=8, head_dim=128, vocab_size=151936, tie_word_embeddings=True,
)
torch.set_default_dtype(torch.bfloat16)
with torch.device(device):
    model = Qwen3ForCausalLM(config).eval()
    ids = torch.randint(config.vocab_size, (2, 256))
with torch.no_grad():
    for _ in range(13):
        logits = model(ids, logits_to_keep=1).logits.cpu()
print("prefill: batch 2")
"""
START, END = "start of Python, check of the arguments", "end of the process"
TABLE, TOTAL, CPU = "to the first table", "in all", "cpu"


@dataclass
class Times:
    """Seconds by phase, in the order in which they came first."""

    phases: dict[str, float] = field(default_factory=dict)
    sums: dict[str, float] = field(default_factory=dict)


def main(argv: Sequence[str] | None = None) -> int:
    given = list(sys.argv[1:] if argv is None else argv)
    split = given.index("--") if "--" in given else len(given)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="default: %(default)s")
    parser.add_argument(
        "--arms",
        nargs="+",
        default=["this tree="],
        help="NAME=COMMIT, NAME=FOLDER or NAME=plain; NAME= is this tree",
    )
    args = parser.parse_args(given[:split])
    command = given[split + 1 :] or COMMAND
    samples: dict[str, list[Times]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        trees = [checked_out(arm, Path(scratch)) for arm in args.arms]
        for _ in range(args.rounds + 1):
            for name, tree in trees:
                samples.setdefault(name, []).append(timed(tree, command, Path(scratch)))
    print(report(samples, command))
    return 0


def checked_out(arm: str, scratch: Path) -> tuple[str, Path | None]:
    """The arm's name and the folder of its code; None of the plain script."""
    name, _, commit = arm.partition("=")
    if commit == "plain":
        return name, None
    if not commit:
        return name, ROOT
    if Path(commit).is_dir():
        return name, Path(commit).resolve()
    tree = scratch / name
    tree.mkdir()
    packed = subprocess.run(
        ["git", "-C", ROOT, "archive", commit], stdout=subprocess.PIPE, check=True
    )
    subprocess.run(["tar", "-x", "-C", tree], input=packed.stdout, check=True)
    return name, tree


def environment(tree: Path | None) -> dict[str, str]:
    own = str(tree) if tree else ""
    path = os.pathsep.join(filter(None, (own, os.environ.get("PYTHONPATH"))))
    return os.environ | {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1", "LC_ALL": "C.UTF-8"}


@functools.cache
def tells_phases(tree: Path) -> bool:
    """Whether the code of `tree` knows -v; of an older state the sums alone are told."""
    argv = [sys.executable, "-m", "qwen3_profile", "--help"]
    return " -v" in subprocess.run(
        argv, cwd=tree, env=environment(tree), capture_output=True, text=True, check=True
    ).stdout  # fmt: skip


def timed(tree: Path | None, command: Sequence[str], scratch: Path) -> Times:
    """One run of the command with the code of `tree`, or of the plain script."""
    folder = Path(tempfile.mkdtemp(dir=scratch))
    verbose = ("-v",) if tree and tells_phases(tree) else ()
    program = ("-m", "qwen3_profile", *command, *verbose) if tree else ("-c", PLAIN)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, *program],
        cwd=folder,
        env=environment(tree),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    shown: list[tuple[float, str]] = []
    reader = threading.Thread(target=stamp, args=(process.stdout, shown))
    reader.start()
    told: list[tuple[float, str]] = []
    stamp(process.stderr, told)
    reader.join()
    if process.wait():
        lines = "\n".join(line for _, line in (*told, *shown))
        raise SystemExit(f"exit code {process.returncode}:\n{lines}")
    ended = time.monotonic()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    shutil.rmtree(folder)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    table = next(at for at, line in shown if _TABLE.match(line))
    sums = {TABLE: table - started, TOTAL: ended - started, CPU: cpu}
    return Times(phases_of(told, started, ended) if verbose else {}, sums)


def stamp(lines: IO[str], into: list[tuple[float, str]]) -> None:
    for line in lines:
        into.append((time.monotonic(), line.rstrip("\n")))


def phases_of(told: list[tuple[float, str]], started: float, ended: float) -> dict[str, float]:
    """Seconds from each step's line to the next one's, those of one name together."""
    steps = [(started, START)]
    steps += [(at, found[1]) for at, line in told if (found := _STEP.match(line))]
    steps = [(at, END if name == "done" else name) for at, name in steps]
    times: dict[str, float] = {}
    for (at, name), (until, _) in zip(steps, [*steps[1:], (ended, "")], strict=True):
        times[name] = times.get(name, 0.0) + until - at
    return times


def report(samples: dict[str, list[Times]], command: Sequence[str]) -> str:
    arms = list(samples)
    names = list(
        dict.fromkeys(n for runs in samples.values() for each in runs for n in each.phases)
    )
    width = max(map(len, (*names, TABLE))) + 2
    lines = [
        f"python -m qwen3_profile {' '.join(command)}",
        f"median of {len(samples[arms[0]]) - 1} rounds, seconds; in brackets the round before them",
        " " * width + "".join(f"{arm:>18}" for arm in arms),
    ]
    for name in names:
        columns = [[run.phases.get(name, 0.0) for run in samples[a] if run.phases] for a in arms]
        lines.append(row(name, width, columns))
    for name in (TABLE, TOTAL, CPU):
        lines.append(row(name, width, [[run.sums[name] for run in samples[a]] for a in arms]))
    return "\n".join(lines)


def row(name: str, width: int, columns: list[list[float]]) -> str:
    cells = (
        f"{statistics.median(times[1:]):.2f} [{times[0]:.2f}]" if times else "-"
        for times in columns
    )
    return f"{name:{width}}" + "".join(f"{cell:>18}" for cell in cells)


if __name__ == "__main__":
    raise SystemExit(main())
