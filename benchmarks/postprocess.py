"""From a trace file to its ledger and records: ours, other tools, and the floors.

    python -m venv peers
    peers/bin/python -m pip install HolisticTraceAnalysis==0.5.0 'pandas<3' \\
        torch-tb-profiler==0.4.3 orjson pysimdjson
    python benchmarks/postprocess.py --python peers/bin/python --megabytes 50 500 --rounds 5

The files are made by `long_trace.py`: a labelled Qwen3 of 28 layers that decodes, in the layout of
today and in the older one, with a GPU and without, plain and as .gz. Each tool reads each file in a
process of its own, in turn, round by round, so that drift of the machine hits all. A time is that
of the whole process, from its start to its end, as is its peak of memory.

    ledger         ours: file to ledger, as `export --ledger` makes and writes it
    records        ours: file to records, as `export` makes and writes them, with their summary
    json.load      the standard library's parser alone
    orjson         that parser alone, without garbage collection
    simdjson       its parse to a DOM alone
    HTA            HolisticTraceAnalysis: load, and the breakdown of kernels
    tb-profiler    torch-tb-profiler: its loader and what it makes of the run
    inflate        the floor of a .gz: inflate it and throw the text away
    scan           the floor of a JSON parser: msgspec over the whole text, of which nothing is kept
"""

from __future__ import annotations

import argparse
import gzip
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from long_trace import steps_for, write_trace
from postprocess_arms import ARMS

ROOT = Path(__file__).resolve().parent.parent
# Tools that hold many times the size of a file are not given files of gigabytes.
_SMALL_ONLY = {"HTA": 600e6, "tb-profiler": 600e6, "orjson": 1000e6, "simdjson": 1000e6}
_ARMS = ("ledger", "records", *ARMS)
_PEERS = ("orjson", "simdjson", "HTA", "tb-profiler")
_SLOW = ("HTA", "tb-profiler")
_ONLY_GZ = ("inflate",)
_NOT_GZ = ("orjson", "simdjson", "scan")


# --- measuring ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sample:
    """One run of one arm. cpu_s: user and system time of the process and its children."""

    wall_s: float
    cpu_s: float
    rss_mb: float


def command_of(arm: str, path: Path, folder: str) -> list[str]:
    """What Python is told: of ours what a user types."""
    export = ["-m", "qwen3_profile.export", str(path)]
    if arm == "ledger":
        return [*export, "--ledger", f"{folder}/ledger.json"]
    if arm == "records":
        return [*export, "--output-dir", folder]
    return [str(Path(__file__).with_name("postprocess_arms.py")), arm, str(path)]


def measure(arm: str, path: Path, python: str) -> Sample | None:
    """One process, from start to end; None where it failed or had no end."""
    with tempfile.TemporaryDirectory() as folder:
        return _measure([python, *command_of(arm, path, folder)])


def _measure(command: list[str]) -> Sample | None:
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    # An installed package is compiled; modules that are compiled anew each time measure that.
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    begin = time.perf_counter()
    # The peak of a child is told when it is waited for, and only of that child by wait4.
    process = subprocess.Popen(
        command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        return None
    return Sample(
        time.perf_counter() - begin, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1e3
    )


def arms_for(path: Path, text_bytes: int, only: Sequence[str] | None) -> list[str]:
    packed = path.suffix == ".gz"
    return [
        arm
        for arm in (only or _ARMS)
        if text_bytes <= _SMALL_ONLY.get(arm, float("inf"))
        and not (packed and arm in _NOT_GZ)
        and not (not packed and arm in _ONLY_GZ)
    ]


@dataclass(frozen=True)
class File:
    path: Path
    text_bytes: int
    events: int
    title: str


def make_file(folder: Path, megabytes: float, layout: str, gpu: bool, packed: bool) -> File:
    steps = steps_for(megabytes, layout=layout, gpu=gpu)
    plain = folder / f"{'gpu' if gpu else 'cpu'}_{layout}_{megabytes:g}.json"
    if not plain.exists():
        with plain.open("w", encoding="utf-8") as out:
            write_trace(out, steps, layout=layout, gpu=gpu)
    size = plain.stat().st_size
    with plain.open("rb") as file:
        events = sum(block.count(b'"ph"') for block in iter(lambda: file.read(1 << 22), b""))
    path = plain
    if packed:
        path = plain.with_suffix(".json.gz")
        if not path.exists():
            with plain.open("rb") as file, gzip.open(path, "wb", compresslevel=6) as out:
                while block := file.read(1 << 22):
                    out.write(block)
    title = (
        f"{'GPU' if gpu else 'CPU'} trace, {layout} layout, {size / 1e6:.0f} MB, {events} events"
    )
    return File(path, size, events, title + (", as .gz" if packed else ""))


def report(file: File, samples: dict[str, list[Sample | None]]) -> str:
    head = f"{'':<12}{'runs':>6}{'wall s':>9}{'min':>8}{'max':>8}{'cpu s':>9}{'MB/s':>8}"
    lines = [file.title, f"{head}{'ns/event':>10}{'RSS MB':>9}"]
    for arm, runs in samples.items():
        known = [run for run in runs if run is not None]
        if not known:
            lines.append(f"{arm:<12}   failed")
            continue
        wall = median(run.wall_s for run in known)
        lines.append(
            f"{arm:<12}{len(known):>6}{wall:>9.2f}{min(r.wall_s for r in known):>8.2f}"
            f"{max(r.wall_s for r in known):>8.2f}{median(r.cpu_s for r in known):>9.2f}"
            f"{file.text_bytes / wall / 1e6:>8.0f}{wall * 1e9 / file.events:>10.0f}"
            f"{max(r.rss_mb for r in known):>9.0f}"
        )
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=float, nargs="+", default=[50, 500])
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--slow-rounds", type=int, help="of HTA and tb-profiler (default: as many)")
    parser.add_argument("--python", default=sys.executable, help="of an environment with the peers")
    parser.add_argument("--folder", type=Path, help="for the files, which stay there")
    parser.add_argument("--only", nargs="+", choices=_ARMS, help="these arms alone")
    parser.add_argument("--kinds", nargs="+", choices=tuple(_KINDS), default=list(_KINDS))
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.folder or Path(scratch)
        for megabytes in args.megabytes:
            files = [make_file(folder, megabytes, *_KINDS[kind]) for kind in args.kinds]
            slow = args.rounds if args.slow_rounds is None else args.slow_rounds
            _compare(files, args.rounds, slow, args.python, args.only)
    return 0


# layout, GPU, packed
_KINDS = {
    "new": ("new", True, False),
    "gz": ("new", True, True),
    "old": ("old", True, False),
    "cpu": ("new", False, False),
}


def _compare(
    files: list[File], rounds: int, slow_rounds: int, python: str, only: Sequence[str] | None
) -> None:
    samples: list[dict[str, list[Sample | None]]] = [
        {arm: [] for arm in arms_for(file.path, file.text_bytes, only)} for file in files
    ]
    for number in range(rounds):
        for file, found in zip(files, samples, strict=True):
            for arm, runs in found.items():
                if (runs and runs[-1] is None) or (arm in _SLOW and number >= slow_rounds):
                    continue
                runs.append(measure(arm, file.path, python if arm in _PEERS else sys.executable))
    for file, found in zip(files, samples, strict=True):
        print(report(file, found), end="\n\n", flush=True)


if __name__ == "__main__":
    sys.exit(main())
