"""The runs of ours below TensorBoard's log directory, and their reports.

A run is known by its name alone, which is looked up among those that were found: no part of a
request ever becomes part of a path. Links are not followed, neither to folders nor to reports.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from qwen3_profile.errors import ProfileError
from qwen3_profile.run_folder.layout import REPORT_FILE, RUN_FILE, missing_report
from qwen3_profile.run_folder.run_json import read_run
from qwen3_profile.system.files import read_no_link

_REMOTE = re.compile(r"[a-zA-Z][0-9a-zA-Z.]*://")
# A search of a large folder is not made again before so many times as long as it took.
_REST = 20


@dataclass(frozen=True, slots=True)
class SavedRun:
    """A run below the log directory.

    name: its folder's path from there, as TensorBoard names runs too.
    facts: which model and when, in a few words; empty where run.json does not say.
    version: of the report, another one each time that it is written; empty where there is none.
    hint: what to do where there is none.
    """

    name: str
    folder: Path
    facts: str
    version: str
    hint: str

    def read_report(self) -> bytes | None:
        """The report's page, or None where it is not there, or is a link."""
        path = self.folder / REPORT_FILE
        try:
            return read_no_link(path) if _version(path) else None
        except OSError:
            return None


class LogDir:
    """The places that TensorBoard was started on.

    Args:
        logdir: one folder, as `--logdir` has it.
        spec: several ones, as `--logdir_spec` has them: `name:path,name:path`.
    """

    def __init__(self, logdir: str, spec: str = "") -> None:
        self._roots = tuple(_roots(logdir, spec))
        self._facts: dict[tuple[Path, str], str] = {}
        self._found: tuple[SavedRun, ...] = ()
        self._look_again = 0.0

    def runs(self) -> tuple[SavedRun, ...]:
        """The runs, the one that was written last first."""
        started = time.monotonic()
        if started >= self._look_again:
            found = [run for name, root in self._roots for run in self._runs_below(name, root)]
            self._found = tuple(run for _, run in sorted(found, key=lambda f: f[0], reverse=True))
            now = time.monotonic()
            self._look_again = now + _REST * (now - started)
        return self._found

    def find(self, name: str) -> SavedRun | None:
        """The run of this very name."""
        return next((run for run in self.runs() if run.name == name), None)

    def _runs_below(self, group: str, root: Path) -> Iterator[tuple[int, SavedRun]]:
        """(when it was written, run) of each run, but none inside another."""
        for place, folders, files in os.walk(root):
            folders[:] = [name for name in folders if not name.startswith(".")]
            folder = Path(place)
            version = _version(folder / RUN_FILE) if RUN_FILE in files else ""
            if version:
                folders.clear()
                name = (Path(group) / folder.relative_to(root)).as_posix()
                yield int(version.partition("-")[0]), self._saved(name, folder, version)

    def _saved(self, name: str, folder: Path, version: str) -> SavedRun:
        key = (folder, version)
        if key not in self._facts:
            self._facts[key] = _facts(folder)
        report = _version(folder / REPORT_FILE)
        hint = "" if report else missing_report(folder)
        return SavedRun(_printable(name), folder, self._facts[key], report, _printable(hint))


def _roots(logdir: str, spec: str) -> Iterator[tuple[str, Path]]:
    """(name, folder) of each place on this machine; others cannot be looked into."""
    named = [("", logdir)] if logdir else [_named(each) for each in spec.split(",")]
    for name, place in named:
        if place and not _REMOTE.match(place):
            yield name, Path(os.path.abspath(os.path.expanduser(place)))


def _named(specification: str) -> tuple[str, str]:
    """The two halves of `name:path`; a path alone has no name, be it of a remote place."""
    name, colon, place = specification.partition(":")
    is_alone = not colon or name.startswith("/") or _REMOTE.match(specification)
    return ("", specification) if is_alone else (name, place)


def _version(path: Path) -> str:
    """What changes with each writing of a file; empty where there is none, or but a link to one."""
    try:
        if path.is_symlink() or not path.is_file():
            return ""
        found = path.stat()
    except OSError:
        return ""
    return f"{found.st_mtime_ns}-{found.st_size}-{found.st_ino}"


def _facts(folder: Path) -> str:
    try:
        run = read_run(folder)
    except ProfileError:
        return ""
    return f"{run.model.name}, {run.started[:16].replace('T', ' ')}"


def _printable(text: str) -> str:
    """Text that JSON and a browser can hold; a folder's name may be any bytes."""
    return text.encode(errors="backslashreplace").decode()
