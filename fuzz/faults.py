"""Fault campaign: whatever fails in a run, the older result or the new one is whole afterwards.

    python fuzz/faults.py --every 1

A run of a tiny model is repeated with one fault at one of its file operations: a kill, SIGTERM, the
same or a Ctrl-C with another one at the next operation, a disk that is full from there on, or an
I/O error.
It writes a run of its own, or one in place of an older one (`--force`). After each the older run is
exported again and gives the same records, or the new one is there in its place; the next run works,
and leaves nothing hidden and no record of a run that is gone. What does not hold is printed with
what makes it again, and the exit code is 1.

A file operation is what Python tells its audit hooks of (opening, renaming, removing, making and
listing files and folders, locks, the exchange of two folders), and each flush to the disk and each
write through a descriptor. Each run is a fork of one process that has done such a run itself: torch
is imported, and the model is loaded.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import gc
import io
import json
import os
import pickle
import shutil
import signal
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ["OMP_NUM_THREADS"] = "1"

KILL, TERM, FULL, BROKEN = "kill", "SIGTERM", "ENOSPC", "EIO"
TERM_TWICE, INT_TWICE = "SIGTERM twice", "Ctrl-C twice"
FAULTS = (KILL, TERM, TERM_TWICE, INT_TWICE, FULL, BROKEN)
# What is sent at an operation, and again at the next one.
_SIGNALS = {KILL: signal.SIGKILL, TERM: signal.SIGTERM}
_TWICE = {TERM_TWICE: signal.SIGTERM, INT_TWICE: signal.SIGINT}
_ERRORS = {FULL: errno.ENOSPC, BROKEN: errno.EIO}
_EXIT_CODES = {
    KILL: {-signal.SIGKILL},
    TERM: {143},
    TERM_TWICE: {143},
    INT_TWICE: {130},
    FULL: {0, 1, 2},
    BROKEN: {0, 1, 2},
}
MODEL = {
    "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "head_dim": 8, "hidden_size": 16,
    "intermediate_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1,
    "num_key_value_heads": 1, "vocab_size": 32, "tie_word_embeddings": True,
}  # fmt: skip
_RECORDS = Path("timing_results/timing_records.json")
# Events of Python's audit hooks; where in their arguments a path is.
_AUDITED = {
    "open": 0, "os.rename": 0, "os.mkdir": 0, "os.remove": 0, "os.rmdir": 0, "os.listdir": 0,
    "os.scandir": 0, "os.chmod": 0, "os.truncate": 0, "shutil.rmtree": 0,
}  # fmt: skip
_MAKING = ("open to write", "os.mkdir", "os.fsync", "os.write")


@dataclass(frozen=True)
class Done:
    """A command that has ended in a fork.

    operations: its file operations, in order, if it was asked for.
    """

    code: int
    err: str
    operations: Sequence[str] = ()


@dataclass
class Operations:
    """Counts the file operations of this process below a folder; puts a fault at one of them."""

    folder: str
    fault: str = ""
    at: int = -1
    seen: list[str] = field(default_factory=list)
    quiet: bool = False

    def watch(self) -> None:
        sys.addaudithook(self._audited)
        for name in ("fsync", "write"):
            setattr(os, name, self._watched(f"os.{name}", getattr(os, name)))

    def _audited(self, event: str, args: tuple[Any, ...]) -> None:
        if event == "ctypes.dlsym" and args[1] == "renameat2":
            self._met("renameat2")
        elif event == "fcntl.flock":
            self._met("flock")
        elif event in _AUDITED and self._is_ours(args[_AUDITED[event]]):
            writes = event == "open" and args[2] & (os.O_WRONLY | os.O_RDWR)
            self._met("open to write" if writes else event)

    def _is_ours(self, path: object) -> bool:
        if isinstance(path, int) or path is None:
            return False
        return os.path.abspath(os.fsdecode(path)).startswith(self.folder)  # type: ignore[arg-type]

    def _watched(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*args: Any) -> Any:
            self._met(name)
            return call(*args)

        return watched

    def _met(self, name: str) -> None:
        if self.quiet:
            return
        number = len(self.seen)
        self.seen.append(name)
        is_here = number == self.at
        if self.fault in _SIGNALS and is_here:
            os.kill(os.getpid(), _SIGNALS[self.fault])
        if self.fault in _TWICE and self.at <= number <= self.at + 1:
            os.kill(os.getpid(), _TWICE[self.fault])
        stays = self.fault == FULL and number > self.at >= 0 and name in _MAKING
        if (self.fault in _ERRORS and is_here) or stays:
            number = _ERRORS[self.fault]
            raise OSError(number, os.strerror(number))


def in_fork(work: Callable[[], int], cwd: Path, operations: Operations | None = None) -> Done:
    """`work` in a fork, with what it prints and, unless it was killed, its file operations."""
    with tempfile.TemporaryDirectory() as folder:
        err, seen = Path(folder) / "err", Path(folder) / "seen"
        child = os.fork()
        if child == 0:
            _be_child(work, cwd, operations, err, seen)
        _, status = os.waitpid(child, 0)
        told = pickle.loads(seen.read_bytes()) if seen.exists() else ()
        return Done(os.waitstatus_to_exitcode(status), err.read_text(), told)


def _be_child(
    work: Callable[[], int], cwd: Path, operations: Operations | None, err: Path, seen: Path
) -> None:
    code = 99
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores it
        os.chdir(cwd)
        for stream, file in ((1, os.devnull), (2, err)):
            os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), stream)
        sys.stdout, sys.stderr = (
            io.TextIOWrapper(os.fdopen(stream, "wb", buffering=0), write_through=True)
            for stream in (1, 2)
        )
        if operations is not None:
            operations.watch()
        code = work()
    except BaseException:
        traceback.print_exc()
    if operations is not None:
        operations.quiet = True
        seen.write_bytes(pickle.dumps(operations.seen))
    os._exit(code)


class Campaign:
    """Runs of one tiny model below a folder, and what is expected of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.model = folder / "model"
        self.model.mkdir()
        (self.model / "config.json").write_text(json.dumps(MODEL))
        self.before = folder / "before"
        self.before.mkdir()
        self._make_older_run()
        self.old_records = records_of(self.before)

    def _make_older_run(self) -> None:
        """In this process, so that no fork imports anything or loads the model."""
        from qwen3_profile.measure import session

        load_model, loaded = session.load_model, []
        session.load_model = lambda *asked: loaded.append(load_model(*asked)) or loaded[0]
        here = Path.cwd()
        os.chdir(self.before)
        with contextlib.redirect_stdout(io.StringIO()):
            code = self._run("--run-name", "mine")
        os.chdir(here)
        assert code == 0
        session.load_model = lambda *_: loaded[0]
        # A fork copies each object that it looks through for garbage; even counting takes a while.
        gc.collect()
        gc.freeze()
        gc.get_freeze_count = lambda: 1

    def _run(self, *argv: str) -> int:
        from qwen3_profile.__main__ import main

        return main(("--model-name", str(self.model), "--weights", "random", "--device", "cpu",
                     "--input-len", "4", "--num-runs", "1", "--warmup-runs", "1", "--dtype",
                     "float32", "--no-ceilings", *argv))  # fmt: skip

    def profile(self, cwd: Path, *argv: str, operations: Operations | None = None) -> Done:
        return in_fork(lambda: self._run(*argv), cwd, operations)

    def export(self, cwd: Path, run: str) -> Done:
        from qwen3_profile.export import main

        given = (f"traces/{run}", "--output-dir", "again")
        return in_fork(lambda: main(given), cwd)

    def copy(self) -> Path:
        """The folder with the older run, to be changed."""
        place = Path(tempfile.mkdtemp(dir=self.folder))
        return shutil.copytree(self.before, place, dirs_exist_ok=True)

    def operations(self, argv: Sequence[str]) -> tuple[str, ...]:
        """Those of a run to which nothing happens."""
        cwd = self.copy()
        done = self.profile(cwd, *argv, operations=Operations(str(cwd)))
        assert done.code == 0, done.err
        return done.operations

    def wrong(self, argv: Sequence[str], fault: str, at: int) -> str:
        """What does not hold after a fault; empty where all does."""
        cwd = self.copy()
        done = self.profile(cwd, *argv, operations=Operations(str(cwd), fault, at))
        try:
            self._check(cwd, argv, fault, done)
        except AssertionError as error:
            return f"{error}; it said: {done.err.strip()[-300:]!r}"
        finally:
            shutil.rmtree(cwd)
        return ""

    def _check(self, cwd: Path, argv: Sequence[str], fault: str, done: Done) -> None:
        demand("Traceback" not in done.err, "a traceback")
        demand(done.code in _EXIT_CODES[fault], f"exit code {done.code}")
        demand(done.code in (0, -signal.SIGKILL) or done.err, "nothing is told")
        if fault in (TERM, *_TWICE):
            demand(len(done.err.splitlines()) == 1, "not one line")
        self._check_place(cwd, replaces="--force" in argv)
        after = self.profile(cwd, "--run-name", "mine", "--force")
        demand(after.code == 0, f"the next run fails: {after.err}")
        hidden = [each.name for each in (cwd / "traces").glob(".*")]
        demand(not hidden, f"left hidden: {hidden}")
        ids = run_ids(cwd)
        known = {each["id"].rpartition("-c")[0] for each in records_of(cwd)}
        demand(known <= ids, f"records of runs that are gone: {known - ids}")
        demand(run_ids(cwd, "mine") <= known, "the next run has no records")

    def _check_place(self, cwd: Path, *, replaces: bool) -> None:
        """The older run, or what replaces it, can be exported; its records are among the others."""
        exported = self.export(cwd, "mine")
        demand(exported.code == 0, f"the run cannot be exported: {exported.err}")
        again = json.loads((cwd / "again/timing_records.json").read_text())
        shutil.rmtree(cwd / "again")
        is_old = again == self.old_records
        demand(is_old or (replaces and again), "the run is another")
        if is_old:
            known = [each["id"] for each in records_of(cwd)]
            demand(again[0]["id"] in known, "its records are lost")


def records_of(cwd: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((cwd / _RECORDS).read_text())
    return found


def run_ids(cwd: Path, name: str = "*") -> set[str]:
    return {json.loads(path.read_text())["id"] for path in cwd.glob(f"traces/{name}/run.json")}


def demand(holds: object, what: str) -> None:
    if not holds:
        raise AssertionError(what)


WAYS = {"new": ("--run-name", "other"), "force": ("--run-name", "mine", "--force")}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--every", type=int, default=25, help="so many operations apart (default: %(default)s)")
    add("--first", type=int, default=0, help="the first one, of each (default: %(default)s)")
    add("--way", choices=WAYS, help="default: both")
    add("--fault", choices=FAULTS, help="default: each")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(BrokenPipeError):
        return run_campaign(Campaign(Path(folder)), args)


def run_campaign(campaign: Campaign, args: argparse.Namespace) -> int:
    survivors = 0
    for way in [args.way] if args.way else WAYS:
        operations = campaign.operations(WAYS[way])
        print(f"{way}: {len(operations)} file operations: {dict(Counter(operations))}", flush=True)
        for number, fault in enumerate([args.fault] if args.fault else FAULTS):
            # Each fault at others, so that a sample sees more of them.
            first = (args.first + number * args.every // len(FAULTS)) % args.every
            chosen = range(first, len(operations), args.every)
            wrong = {at: campaign.wrong(WAYS[way], fault, at) for at in chosen}
            told = {at: why for at, why in wrong.items() if why}
            print(f"  {fault}: {len(chosen)} runs, {len(told)} not as they should be", flush=True)
            for at, why in told.items():
                print(f"    --way {way} --fault '{fault}' --every 100000 --first {at} "
                      f"({operations[at]}): {why}")  # fmt: skip
            survivors += len(told)
    return 1 if survivors else 0


if __name__ == "__main__":
    raise SystemExit(main())
