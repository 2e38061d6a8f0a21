"""How a run gets a folder that no other run has, and gives it up again."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from qwen3_profile.errors import OutputError
from qwen3_profile.run_folder.layout import RAW_FOLDER, RUN_FILE
from qwen3_profile.system.files import make_folder, output_error


@dataclass(frozen=True, slots=True)
class Claim:
    """A run's folder that no other run has.

    replaced: an older run of the same name, set aside until the new one has something to show.
    """

    folder: Path
    replaced: Path | None = None

    def commit(self) -> None:
        """Drops the older run, for the new one has results."""
        if self.replaced is not None:
            shutil.rmtree(self.replaced, ignore_errors=True)

    def roll_back(self) -> None:
        """Drops the new run, and puts the older one back."""
        shutil.rmtree(self.folder, ignore_errors=True)
        if self.replaced is not None:
            try:
                self.replaced.rename(self.folder)
            except OSError as error:
                raise output_error(self.replaced, error) from error


def claim_folder(trace_dir: Path, name: str | None, *, force: bool) -> Claim:
    """Makes the run's folder: `name`, or the next free `runN`.

    Raises:
        OutputError: `name` is taken and `force` is off, or the folder cannot be made.
    """
    make_folder(trace_dir)
    if name is None:
        return next(Claim(folder) for folder in _numbered(trace_dir) if _try_make(folder))
    folder = trace_dir / name
    if Path(name).name != name or name == "..":
        raise OutputError("--run-name", f"{name!r} is not a folder's name", "leave out any slash")
    if _try_make(folder):
        return Claim(folder)
    return Claim(folder, _set_aside(folder, force=force))


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


def _set_aside(folder: Path, *, force: bool) -> Path:
    """Moves a run out of the way, if the user allows it and it is one of ours."""
    if not force:
        raise OutputError(
            str(folder), "is already there", "take another --run-name, or replace it with --force"
        )
    if not (folder / RUN_FILE).is_file():
        raise OutputError(str(folder), "is not a run of ours", "take another --run-name")
    aside = folder.with_name(f".{folder.name}.replaced.{os.getpid()}")
    try:
        folder.rename(aside)
        folder.mkdir()
    except OSError as error:
        raise output_error(folder, error) from error
    return aside
