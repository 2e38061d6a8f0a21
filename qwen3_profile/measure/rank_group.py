"""The ranks of a run that torchrun started: joined, kept together, and ended together.

All ranks do the same, pass by pass, and meet before each. What goes wrong on one is told to the
others at their next meeting; who does not come within the timeout is named. Meetings go over
gloo and not over the device, so that no trace has them.
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from qwen3_profile.errors import EXIT_FAILED, ConfigError, RunError, tell
from qwen3_profile.run_folder.run_json import (
    ConfigResult,
    rank_results_file,
    read_results,
    write_results,
)
from qwen3_profile.system.launched import Launched

# What a collective that hangs on a device leaves to the others to say before torch ends all.
_GRACE_S = 5.0
_POLL_S = 1.0
# To import torch and transformers, on a machine with much else to do.
_START_S = 120.0
_FINE, _FAILED = 0, 1
# When nobody measures.
_NEVER = float("inf")


def rank_device(process: Launched, asked: str | None) -> str | None:
    """The device of a rank, as `resolve_device` takes it: each has one of its own.

    Raises:
        ConfigError: there are not so many.
    """
    if asked is not None and torch.device(asked.split(":")[0]).type != "cuda":
        return asked
    if asked is not None and ":" in asked:
        what = "is one device, and each rank has its own"
        raise ConfigError(f"--device {asked}", what, "give --device cuda")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not count:
        return asked
    if process.local_rank >= count:
        what = f"has no GPU: this host has {count}"
        raise ConfigError(f"rank {process.rank}", what, "lower --nproc-per-node")
    torch.cuda.set_device(process.local_rank)
    return f"cuda:{process.local_rank}"


def _as_far_as(first: ConfigResult, other: ConfigResult) -> ConfigResult:
    """What another rank has kept, which is not done where the first one's is not: who is killed
    or hangs says nothing of its end.
    """
    if first.status == "done" or other.status != "done":
        return other
    return replace(other, status=first.status, error=first.error)


class LostRankError(RunError):
    """Another rank has failed, or is gone: nothing more can be measured together.

    Args:
        where, what, do: as of any.
        gone: whether it is gone, so that nothing after it can be measured either.
    """

    def __init__(self, where: str, what: str, do: str = "", *, gone: bool = False) -> None:
        super().__init__(where, what, do)
        self.gone = gone


class Ranks:
    """This process among those that torchrun started.

    Args:
        launched: which one it is.
        device: where it computes; NCCL joins CUDA's devices, gloo all others.
        timeout_s: how long it waits for another rank.
    """

    def __init__(self, launched: Launched, device: torch.device, timeout_s: float) -> None:
        self.rank, self.size = launched.rank, launched.size
        self._timeout_s = timeout_s
        self._met = 0
        self._at = _NEVER
        wait = timedelta(seconds=timeout_s)
        store, _, _ = next(rendezvous("env://", timeout=wait))
        store.set_timeout(wait)
        self._store = PrefixStore("qwen3_profile", store)
        self._store.set(f"here/{self.rank}", "")
        self._await({f"here/{rank}": rank for rank in range(self.size)})
        is_cuda = device.type == "cuda"
        dist.init_process_group(
            "nccl" if is_cuda else "gloo",
            store=PrefixStore("group", store),
            rank=self.rank,
            world_size=self.size,
            # On a device torch ends the process, and no line says why: the guard comes first.
            timeout=wait + timedelta(seconds=2 * _GRACE_S) if is_cuda else wait,
            device_id=device if is_cuda else None,
        )
        self._control = dist.new_group(backend="gloo", timeout=wait)
        self.is_apart = False
        self._guard = threading.Thread(target=self._watch, daemon=True)
        self._guard.start()

    def _await(self, keys: dict[str, int]) -> None:
        """Waits until ranks have set what they are to set before anything is measured.

        Imports and the model may take one of them far longer than the others.

        Args:
            keys: and who sets each.
        """
        begun, allowed_s = time.monotonic(), _START_S + self._timeout_s
        while not self._store.check(list(keys)):
            if time.monotonic() - begun > allowed_s:
                late = [rank for key, rank in keys.items() if not self._store.check([key])]
                who = f"rank {', '.join(map(str, late))}"
                raise LostRankError(who, f"did not start within {allowed_s:g} s", gone=True)
            time.sleep(_POLL_S / 10)

    def meet(self, *, failed: str = "") -> None:
        """Waits for all ranks.

        Args:
            failed: why this one cannot go on, for the others.

        Raises:
            LostRankError: another one failed, or did not come.
        """
        self._met += 1
        try:
            if failed:
                self._store.set(f"failed/{self.rank}/{self._met}", failed)
            self._store.set(f"met/{self.rank}", str(self._met))
            mine = torch.tensor([_FAILED if failed else _FINE])
            states = [torch.empty_like(mine) for _ in range(self.size)]
            dist.all_gather(states, mine, group=self._control)
        except RuntimeError as error:  # torch's own of every kind of them
            raise LostRankError(*self.missing(), gone=True) from error
        self._at = time.monotonic()
        for rank, state in enumerate(states):
            if int(state) == _FAILED and not failed:
                why = self._store.get(f"failed/{rank}/{self._met}").decode()
                raise LostRankError(f"rank {rank}", f"failed: {why}")

    def missing(self) -> tuple[str, str]:
        """Which ranks have not come as far as this one: who, and what is to be said of them."""
        late = [rank for rank in range(self.size) if self._met_by(rank) < self._met]
        who = f"rank {', '.join(map(str, late))}" if late else "another rank"
        return who, f"is gone, or did not come within {self._timeout_s:g} s"

    def share(self, name: str, text: str | None = None) -> str:
        """What rank 0 gives for all of them.

        Raises:
            LostRankError: it gives nothing.
        """
        if text is not None:
            self._store.set(name, text)
        self._await({name: 0})
        return str(self._store.get(name).decode())

    def fail(self, where: str, error: RunError) -> RunError:
        """Tells the others that this rank cannot go on; gives what there is to be told here.

        Args:
            where: what it was about.
        """
        if isinstance(error, LostRankError):
            self.is_apart |= error.gone
            return RunError(where, f"{error.where} {error.what}", error.do)
        # The pass may have taken all its time: the meeting has its own.
        self._at = time.monotonic()
        try:
            self.meet(failed=error.what)
        except LostRankError as lost:
            # It went wrong here because it had gone wrong there.
            self.is_apart = True
            return RunError(error.where, f"{lost.where} {lost.what}; here: {error.what}")
        return error

    def name(self, worker: str) -> str:
        """With which the names of this rank's files begin: no two ranks write one file."""
        return f"{worker}.rank{self.rank}"

    def keep(self, folder: Path, worker: str, results: tuple[ConfigResult, ...]) -> None:
        """Writes what this rank has of a config so far, for rank 0 to find."""
        write_results(rank_results_file(folder, worker, self.rank), results)

    def gather(
        self, folder: Path, worker: str, results: tuple[ConfigResult, ...]
    ) -> tuple[ConfigResult, ...]:
        """The results of rank 0 with those that the others have written."""
        self._at = _NEVER
        files = [rank_results_file(folder, worker, rank) for rank in range(self.size)]
        found = [read_results(file) for file in files[1:]]
        for file in files:
            file.unlink(missing_ok=True)
        return tuple(
            replace(
                mine,
                others=tuple(
                    _as_far_as(mine, each)
                    for rank in found
                    for each in rank
                    if each.phase == mine.phase
                ),
            )
            for mine in results
        )

    def leave(self) -> None:
        """Ends the group, if all ranks are still in it."""
        self._at = _NEVER
        if not self.is_apart:
            dist.destroy_process_group()

    def _met_by(self, rank: int) -> int:
        try:
            key = f"met/{rank}"
            return int(self._store.get(key)) if self._store.check([key]) else 0
        except RuntimeError:
            return 0

    def _watch(self) -> None:
        """Ends this process where it hangs on a device, of which no exception tells."""
        while time.monotonic() - self._at < self._timeout_s + _GRACE_S:
            time.sleep(_POLL_S)
        waited = time.monotonic() - self._at
        tell(f"error: rank {self.rank}: has met no other rank for {waited:.0f} s, and ends")
        os._exit(EXIT_FAILED)
