"""Signal campaign: whenever a command is asked to end, it does, in one line or in silence.

    python fuzz/interrupts.py --moments 40 --seconds 1

Each command is started many times, and gets SIGTERM, SIGINT or SIGHUP at one of the moments of its
first second, or of a longer time. Until Python has come as far as this package that is Python's: it
ends silently by the signal, or with Python's own traceback. Then it ends silently, and once it can,
with one line and the exit code 143, 130 or 129, unless it had come to its end. Nothing hidden may
be left, nor records without a run. What does not hold is printed, and the exit code is 1.

`--group` sends the signal to all processes of the command, as a terminal does.
"""

from __future__ import annotations

import argparse
import configparser
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(Path(__file__).resolve().parent), str(ROOT / "benchmarks")]

import long_trace  # noqa: E402
from faults import MODEL, demand, records_of, run_ids  # noqa: E402

SIGNALS = {"SIGTERM": signal.SIGTERM, "SIGINT": signal.SIGINT, "SIGHUP": signal.SIGHUP}
PYTHONS, SILENT, TOLD, ENDED, WRONG = (
    "Python's own", "silent", "one line", "had ended", "wrong"
)  # fmt: skip
_OUTCOMES = (PYTHONS, SILENT, TOLD, ENDED, WRONG)
# What tells how far a command has come, and no error.
_PROGRESS = re.compile(r"warning: |\[ *\d+\.\d s\] |process \d+ of \d+: ")
_LONGEST_S = 180
_RUN = ("--model-name", "model", "--weights", "random", "--device", "cpu", "--input-len", "4",
        "--num-runs", "1", "--dtype", "float32", "--no-ceilings")  # fmt: skip
_SAVED = str(ROOT / "tests/data/runs/h200-2layers")


def _program(name: str) -> tuple[str, ...]:
    """What pip makes of an entry point, whatever is installed here."""
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    lines = settings["options.entry_points"]["console_scripts"].split("\n")
    module, _, function = dict(line.split(" = ") for line in lines if line)[name].partition(":")
    return ("-c", f"import sys\nfrom {module} import {function}\nsys.exit({function}())")


WAYS = {
    "python -m qwen3_profile": ("-m", "qwen3_profile", *_RUN),
    "qwen3-profile run": (*_program("qwen3-profile"), "run", *_RUN),
    "--num-processes 2": ("-m", "qwen3_profile", *_RUN, "--num-processes", "2"),
    "torchrun, 2 ranks": (
        "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "qwen3_profile",
        *_RUN, "--parallel", "dp",
    ),
    "qwen3-profile list": (*_program("qwen3-profile"), "list"),
    "qwen3-profile-export": (*_program("qwen3-profile-export"), _SAVED, "--output-dir", "out"),
    "python -m qwen3_profile.export": (
        "-m", "qwen3_profile.export", _SAVED, "--output-dir", "out", "--report", "r.html",
    ),
    "export of a long trace": ("-m", "qwen3_profile.export", "long.json", "--output-dir", "out"),
    "export of long ranks": ("-m", "qwen3_profile.export", "ranks", "--output-dir", "out"),
    "python -m qwen3_profile.compare": ("-m", "qwen3_profile.compare", _SAVED, _SAVED),
    "python -m qwen3_profile.export --view": ("-m", "qwen3_profile.export", _SAVED, "--view"),
}  # fmt: skip
# Of text: enough for two processes to share it.
_LONG_MB = 70
_LONG = {"long.json": ("long.json",), "ranks": ("ranks/rank0.json", "ranks/rank1.json")}


def _give_long_trace(cwd: Path, names: Sequence[str]) -> None:
    """Puts a trace there that takes a while to read; it is made once, beside all places."""
    long = cwd.parent / "long.json"
    if not long.exists():
        long_trace.main((str(long), "--megabytes", str(_LONG_MB)))
    for name in names:
        (cwd / name).parent.mkdir(exist_ok=True)
        (cwd / name).hardlink_to(long)


def outcome(way: str, number: int, after_s: float, places: Path, *, group: bool) -> tuple[str, str]:
    """What a signal comes to that is sent so long after the start; and why it is wrong."""
    with tempfile.TemporaryDirectory(dir=places) as folder:
        cwd = Path(folder)
        (cwd / "model").mkdir()
        (cwd / "model/config.json").write_text(json.dumps(MODEL))
        for name in WAYS[way]:
            _give_long_trace(cwd, _LONG.get(name, ()))
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        process = subprocess.Popen(
            [sys.executable, *WAYS[way]], cwd=cwd, text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True,
            env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}, preexec_fn=_heed,
        )  # fmt: skip
        time.sleep(after_s)
        (os.killpg if group else os.kill)(process.pid, number)
        try:
            _, err = process.communicate(timeout=_LONGEST_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return WRONG, f"still there after {_LONGEST_S} s: {process.communicate()[1][-300:]!r}"
        try:
            found = _judged(number, process.returncode, err, is_ours="torchrun" not in way)
            demand(not _is_left(process.pid), "a process is left")
            _check_place(cwd)
        except AssertionError as error:
            return WRONG, f"{error}: {process.returncode}, {err[-500:]!r}"
    return found, ""


def _judged(number: int, code: int, err: str, *, is_ours: bool) -> str:
    """
    Args:
        is_ours: else torchrun says much of its own, and what the exit code is.
    """
    lines = [line for line in err.splitlines() if not _PROGRESS.match(line)]
    if not is_ours:
        lines = [line for line in lines if line.startswith(("error: ", "interrupted", "config "))]
        demand("qwen3_profile/" not in err, "a traceback")
        demand(len(lines) <= 1, "not one line")
        return ENDED if not code else TOLD if lines else SILENT
    if not code:
        demand(not lines, "it ended well, and tells an error")
        return ENDED
    if "Traceback" in err and "qwen3_profile/" not in err:
        return PYTHONS
    if not lines:
        demand(code in (-number, 128 + number), "another exit code")
        return SILENT
    demand(len(lines) == 1 and "interrupted" in lines[0], "not one line")
    demand(code == 128 + number, "another exit code")
    return TOLD


def _check_place(cwd: Path) -> None:
    traces, records = cwd / "traces", cwd / "timing_results/timing_records.json"
    hidden = [each.name for each in traces.rglob(".*")]
    demand(not hidden, f"left hidden: {hidden}")
    for run in traces.glob("**/raw"):
        demand((run.parent / "run.json").is_file(), f"{run.parent.name} is no run")
    known = {each["id"].rpartition("-c")[0] for each in records_of(cwd)} if records.exists() else {}
    demand(set(known) <= run_ids(cwd, "**"), "records of no run")


def _is_left(group: int) -> bool:
    """Whether a process of the group is there still, a moment after the first one's end."""
    for _ in range(100):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return False
        time.sleep(0.1)
    os.killpg(group, signal.SIGKILL)
    return True


def _heed() -> None:
    """What a shell starts in its background ignores some of them."""
    for number in SIGNALS.values():
        signal.signal(number, signal.SIG_DFL)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--moments", type=int, default=8, help="of each command and signal (default: %(default)s)")
    add("--seconds", type=float, default=1, help="how long they are spread over (default: 1)")
    add("--first", type=float, default=0, help="seconds to the first one (default: 0)")
    add("--way", choices=WAYS, action="append", help="default: all")
    add("--signal", choices=SIGNALS, action="append", help="default: all")
    add("--group", action="store_true", help="send it to all processes of the command")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as places:
        return run_campaign(Path(places), args)


def run_campaign(places: Path, args: argparse.Namespace) -> int:
    wrong = 0
    for way in args.way or WAYS:
        for name in args.signal or SIGNALS:
            counts: Counter[str] = Counter()
            early_s = 0.0
            for moment in range(args.moments):
                after_s = args.first + args.seconds * moment / args.moments
                found, why = outcome(way, SIGNALS[name], after_s, places, group=args.group)
                counts[found] += 1
                if found == PYTHONS:
                    early_s = after_s
                if why:
                    print(f"    {name} after {after_s:.3f} s: {why}", flush=True)
            wrong += counts[WRONG]
            told = ", ".join(f"{counts[each]} {each}" for each in _OUTCOMES)
            print(f"{way}, {name}: {told}; Python's own until {early_s:.3f} s", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
