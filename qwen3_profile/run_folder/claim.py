"""How a run gets a folder that no other run has, and gives it up again."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from qwen3_profile.errors import OutputError, ProfileError, TraceError, warn
from qwen3_profile.run_folder.layout import RAW_FOLDER, RUN_FILE
from qwen3_profile.run_folder.run_json import read_run, write_run
from qwen3_profile.system.files import make_folder, output_error, try_lock, unlock

_EXCHANGE = 2  # of renameat2
_HERE = -100  # AT_FDCWD

# Is told the id of a run that is gone for good, before the last of its files is.
Forget = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Claim:
    """A run's folder that no other run has, locked for as long as the run is made.

    folder: where the run is made; hidden next to `place` while an older run is there.
    place: where it belongs.
    locks: of the folder, and of the older run.
    forget: drops what is known elsewhere of the run that is dropped.
    """

    folder: Path
    place: Path
    locks: list[int] = field(default_factory=list)
    forget: Forget = str

    @property
    def replaces(self) -> bool:
        """Whether there is an older run."""
        return self.folder != self.place

    def commit(self) -> None:
        """Puts the run in its place, for it has results; an older one there is dropped.

        Raises:
            OutputError: the older one is still there, or what is known of it elsewhere is.
        """
        try:
            if self.replaces:
                _drop(self._replaced(), self.place, self.forget)
        finally:
            self._release()

    def _replaced(self) -> Path:
        try:
            return _replace(self.folder, self.place)
        except OSError as error:
            do = f"the new run is {self.folder}"
            raise OutputError(
                str(self.place), f"cannot be replaced: {error.strerror}", do
            ) from error

    def roll_back(self) -> None:
        """Drops the new run; an older one never left its place.

        Raises:
            OutputError: what is known of it elsewhere is still there, and so is it.
        """
        try:
            _delete(self.folder, self.forget)
        finally:
            self._release()

    def _release(self) -> None:
        while self.locks:
            unlock(self.locks.pop())


def claim_folder(trace_dir: Path, name: str | None, *, force: bool, forget: Forget = str) -> Claim:
    """Makes the run's folder: `name`, or the next free `runN`.

    Args:
        forget: is called for each run that is replaced, now or when the claim is committed.

    Raises:
        OutputError: `name` is taken and `force` is off, or the folder cannot be made. One that
            holds nothing is free.
    """
    if name is not None and (Path(name).name != name or name == ".."):
        make_folder(trace_dir)
        raise OutputError("--run-name", f"{name!r} is not a folder's name", "leave out any slash")
    make_folder(trace_dir)
    _put_right(trace_dir, forget)
    if name is None:
        folder = _next_number(trace_dir)
    else:
        folder = trace_dir / name
        if not _try_make(folder):
            claim = _emptied(folder) or _beside(folder, force=force)
            return replace(claim, forget=forget)
    return Claim(folder, folder, _locked(folder), forget)


def remove_run(folder: Path, forget: Forget) -> None:
    """Deletes a run, and what `forget` drops of it elsewhere.

    Raises:
        OutputError: it is not a run of ours, or is still being made.
    """
    if not (folder / RUN_FILE).is_file():
        raise OutputError(str(folder), "is not a run of ours", "delete it by hand")
    locks = _locked(folder)
    try:
        _drop(folder, folder, forget)
    finally:
        for lock in locks:
            unlock(lock)


def has_traces(folder: Path) -> bool:
    """Whether a run has come as far as a whole raw trace."""
    return any((folder / RAW_FOLDER).glob("[!.]*"))


def _numbered(trace_dir: Path) -> Iterator[Path]:
    """runN, runN+1, ... from the first that is free, or was a moment ago."""
    try:
        taken = [name[3:] for name in os.listdir(trace_dir) if name.startswith("run")]
    except OSError as error:
        raise output_error(trace_dir, error) from error
    number = max((int(n) for n in taken if n.isascii() and n.isdecimal()), default=0)
    while True:
        number += 1
        yield trace_dir / f"run{number}"


def _try_make(folder: Path) -> bool:
    try:
        folder.mkdir()
    except FileExistsError:
        return False
    except OSError as error:
        raise output_error(folder, error) from error
    return True


def _emptied(folder: Path) -> Claim | None:
    """An empty folder, or that of a run that was killed as soon as it had begun; else None."""
    if not _holds_nothing(folder):
        return None
    claim = Claim(folder, folder, _locked(folder))
    if not _holds_nothing(folder):  # until now another process had it
        claim._release()
        return None
    for left in folder.iterdir():
        left.unlink()
    return claim


def _holds_nothing(folder: Path) -> bool:
    return folder.is_dir() and _is_just_made(os.listdir(folder))


def _next_number(trace_dir: Path) -> Path:
    return next(folder for folder in _numbered(trace_dir) if _try_make(folder))


def _beside(place: Path, *, force: bool) -> Claim:
    """A hidden folder next to a run, if the user allows to replace it and it is one of ours."""
    if not force:
        raise OutputError(
            str(place), "is already there", "take another --run-name, or replace it with --force"
        )
    locks = _locked(place)
    folder = place.with_name(f".{place.name}.new.{os.getpid()}")
    try:
        if not (place / RUN_FILE).is_file():
            raise OutputError(str(place), "is not a run of ours", "take another --run-name")
        if not _try_make(folder):
            raise OutputError(str(folder), "is already there", "take another --run-name")
        return Claim(folder, place, [*locks, *_locked(folder)])
    except BaseException:
        for lock in locks:
            unlock(lock)
        raise


def _locked(folder: Path) -> list[int]:
    """The lock of a folder; none where the system has no locks for folders."""
    try:
        lock = try_lock(folder)
    except BlockingIOError as error:
        what = "is still being made by another process"
        raise OutputError(
            str(folder), what, "wait for its end, or take another --run-name"
        ) from error
    return [] if lock is None else [lock]


def _replace(new: Path, place: Path) -> Path:
    """Puts `new` at `place`, and gives where the older folder is now.

    Both change places at once where the system can; else a crash between two renames leaves the
    older one hidden, and the next start puts it back.
    """
    with contextlib.suppress(OSError, AttributeError):
        exchange = ctypes.CDLL(None, use_errno=True).renameat2
        if exchange(_HERE, os.fsencode(new), _HERE, os.fsencode(place), _EXCHANGE) == 0:
            return new
    aside = place.with_name(f".{place.name}.replaced.{os.getpid()}")
    place.rename(aside)
    try:
        new.rename(place)
    except OSError:
        aside.rename(place)
        raise
    return aside


def _drop(old: Path, place: Path, forget: Forget) -> None:
    """Deletes an older run, under a name that says so if the deletion does not come to its end."""
    dropped = place.with_name(f".{place.name}.dropped.{os.getpid()}")
    with contextlib.suppress(OSError):
        old = old.rename(dropped)
    _delete(old, forget)


def _delete(old: Path, forget: Forget) -> None:
    """What is known of a run goes first: while its folder is there, a later start can repeat it."""
    try:
        forget(read_run(old).id)
    except TraceError as error:
        # Of what is no run nothing is known; what cannot be read now a later start may read.
        why = error.__cause__
        if isinstance(why, OSError) and not isinstance(why, FileNotFoundError):
            raise OutputError(error.where, error.what, "the next start tries it again") from error
    shutil.rmtree(old, ignore_errors=True)


def _put_right(trace_dir: Path, forget: Forget) -> None:
    """Finds what runs that were killed have left hidden; whatever has traces is shown again."""
    for left in sorted(trace_dir.glob(".*.*.*")):
        name, kind, number = left.name[1:].rsplit(".", 2) if left.name.count(".") > 2 else [""] * 3
        if kind not in ("new", "replaced", "dropped") or not number.isdecimal():
            continue
        try:
            lock = try_lock(left)
        except OSError:  # it is being made, or gone
            continue
        try:
            if kind == "dropped":
                _delete(left, forget)
            elif _is_a_run(left):
                _show_again(left, trace_dir / name, kind)
        except OSError as error:
            raise output_error(left, error) from error
        finally:
            if lock is not None:
                unlock(lock)


def _is_a_run(left: Path) -> bool:
    """Whether a folder of such a name can be of ours."""
    names = os.listdir(left)
    return _is_just_made(names) or RUN_FILE in names or RAW_FOLDER in names


def _is_just_made(names: Sequence[str]) -> bool:
    """Whether a run has come no further: its run.json is being written, under another name yet."""
    return all(name.startswith(f".{RUN_FILE}.") for name in names)


def _show_again(left: Path, place: Path, kind: str) -> None:
    # A run whose traces its owner has deleted still has its report.
    if not (has_traces(left) or (kind == "replaced" and (left / RUN_FILE).is_file())):
        shutil.rmtree(left, ignore_errors=True)
        return
    # An older run goes back to its place; else its place has another, and it gets a new one.
    if kind != "replaced" or not _try_make(place):
        place = _next_number(place.parent)
    left.rename(place)
    with contextlib.suppress(ProfileError):
        write_run(place, replace(read_run(place), name=place.name))
    warn(f"{place}: holds what a run that was killed left in {left.name}")
