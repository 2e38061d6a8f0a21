"""Files at a URL such as s3://bucket/folder, by fsspec: whole copies in a temporary folder."""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from qwen3_profile.errors import ConfigError, in_words

_URL = re.compile(r"[a-z][a-z0-9+.:-]+://", re.IGNORECASE)


def is_remote(text: str) -> bool:
    """Whether a text is a URL, and no path of this machine."""
    return _URL.match(text) is not None


def files_at(url: str) -> list[str]:
    """The URLs of the files directly in a folder, by name; none where it is a file.

    Raises:
        ConfigError: nothing can be read there.
    """
    with _explained(url):
        files, path = _opened(url)
        if not _is_folder(files, path):
            return []
        found = [each for each in files.ls(path, detail=True) if each["type"] == "file"]
        return sorted(files.unstrip_protocol(each["name"]) for each in found)


@contextlib.contextmanager
def fetched(url: str) -> Iterator[Path]:
    """A copy of a file or folder, called as it is there; it is gone after the block.

    Raises:
        ConfigError: nothing can be read there.
    """
    with tempfile.TemporaryDirectory(prefix="qwen3_profile.") as place:
        with _explained(url):
            files, path = _opened(url)
            target = Path(place) / Path(path.rstrip("/")).name
            _copy(files, path, target)
            if not target.exists():
                raise FileNotFoundError(url)
        yield target


def _copy(files: Any, path: str, target: Path) -> None:
    """One by one: over http a folder is a page of links, and would be copied as one."""
    if not _is_folder(files, path):
        files.get_file(path, str(target))
        return
    above = path.rstrip("/")
    for name in files.find(path):
        place = target / name[len(above) + 1 :]
        place.parent.mkdir(parents=True, exist_ok=True)
        files.get_file(name, str(place))


def _is_folder(files: Any, path: str) -> bool:
    """Over http what is asked for is no folder unless it is a page; to look for links in a trace
    would be to read all of it.
    """
    kind = files.info(path).get("mimetype") if path.startswith("http") else None
    return (kind is None or kind == "text/html") and bool(files.isdir(path))


def _opened(url: str) -> tuple[Any, str]:
    from fsspec.core import url_to_fs  # half a second, for those who name a URL

    files, path = url_to_fs(url)
    return files, str(path)


@contextlib.contextmanager
def _explained(url: str) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise ConfigError(url, f"cannot be read: {error}", "install what it names") from error
    except FileNotFoundError as error:
        raise ConfigError(url, "is not there", "give a run's folder or a trace file") from error
    except Exception as error:  # each file system raises its own
        raise ConfigError(url, f"cannot be read: {in_words(error)}") from error
