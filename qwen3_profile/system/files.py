"""Writing that loses nothing: whole files or none, and one writer at a time."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from qwen3_profile.errors import OutputError

_LOCK_SECONDS = 60.0
# Of a page or a trace for a browser, which shows no more.
_MOST_BYTES = 1 << 30
_STREAMS = {"/dev/stdout": 1, "/dev/stderr": 2}


def write_atomic(path: Path, data: bytes | Iterable[bytes]) -> None:
    """Puts `data`, or its pieces one after the other, at `path`: wholly, or not at all.

    The bytes are written next to the file, flushed to the disk, and renamed over it. What is no
    plain file, such as a device or a pipe, is written through.

    Raises:
        OutputError: it could not be written; what was at `path` is still there.
    """
    temporary = None
    shown = path
    try:
        # Before links are followed: /dev/stdout is one to a pipe that has no path.
        if is_special(path):
            # A stream's own descriptor knows how far the stream has come.
            stream = _STREAMS.get(os.path.abspath(path))
            opened = os.open(path, os.O_WRONLY) if stream is None else os.dup(stream)
            with open(opened, "wb", buffering=0) as device:
                for piece in [data] if isinstance(data, bytes) else data:
                    _write_all(device.fileno(), piece)
            return
        path = path.resolve()  # of a link, its file is replaced, and not the link
        # mkstemp makes the file for its owner alone; the result is to be as readable as any.
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with open(descriptor, "wb") as file:
            file.writelines([data] if isinstance(data, bytes) else data)
            file.flush()
            os.fchmod(file.fileno(), 0o666 & ~_umask())
            os.fsync(file.fileno())
        os.replace(temporary, path)
        temporary = None
        _sync_folder(path.parent)
    except (OSError, RuntimeError) as error:
        why = (
            error if isinstance(error, OSError) else OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        )
        raise output_error(shown, why) from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


def is_special(path: Path) -> bool:
    """Whether there is something that is neither a file nor a folder: a device, a pipe.

    So are the streams in /dev: they may be a file that the shell holds open.
    """
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    if stat.S_ISREG(mode):
        return os.path.abspath(path) in _STREAMS
    return not stat.S_ISDIR(mode)


def path_text(path: Path | str) -> str:
    """A path as UTF-8 can hold it: its bytes may be none, or the locale another."""
    return os.fsencode(path).decode(errors="backslashreplace")


def read_no_link(path: Path) -> bytes:
    """The bytes of a plain file; of none that a link leads to, not even one made a moment ago.

    Raises:
        OSError: it is not there, a link, no plain file, or longer than a browser can show.
    """
    flags = (getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"))
    with open(os.open(path, sum(flags, os.O_RDONLY)), "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "it is no plain file")
        if found.st_size > _MOST_BYTES:
            raise OSError(errno.EFBIG, "it is too long")
        return file.read(_MOST_BYTES)


def refuse_read_only(path: Path) -> None:
    """Refuses a file that its owner has made read-only; renaming would replace it all the same.

    Raises:
        OutputError: nobody may write it.
    """
    with contextlib.suppress(OSError):
        mode = path.stat().st_mode
        if stat.S_ISREG(mode) and not mode & 0o222:
            raise output_error(path, PermissionError(errno.EACCES, "it is read-only"))


@contextlib.contextmanager
def only_writer(path: Path) -> Iterator[None]:
    """Holds the lock next to `path`, so that two runs cannot merge into it at once.

    Raises:
        OutputError: the lock cannot be made, or another run held it for a minute.
    """
    # What a ledger never needs takes longer to import than a small trace to read.
    from filelock import FileLock, Timeout

    path = path.resolve()
    lock = FileLock(path.parent / f".{path.name}.lock", timeout=_LOCK_SECONDS)
    try:
        lock.acquire()
    except Timeout as error:
        raise OutputError(
            str(path), "another run has held its lock for a minute", "end it, or write elsewhere"
        ) from error
    except OSError as error:
        raise output_error(path, error) from error
    try:
        yield
    finally:
        lock.release()


def try_lock(folder: Path) -> int | None:
    """The lock of a folder, which ends with this process; None where the system has none.

    Raises:
        BlockingIOError: another process has it.
        OSError: the folder cannot be opened.
    """
    try:
        import fcntl  # Windows has none
    except ImportError:
        return None
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def unlock(lock: int) -> None:
    """Gives back what `try_lock` gave, for forks of this process too."""
    import fcntl

    with contextlib.suppress(OSError):
        fcntl.flock(lock, fcntl.LOCK_UN)
    os.close(lock)


def make_folder(path: Path) -> None:
    """Makes `path` and its parents, and proves that a file can be written into it.

    Raises:
        OutputError: it cannot be made, is no folder, or cannot be written.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path) as probe:
            probe.write(b"\0" * 4096)
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        raise output_error(path, error) from error


def output_error(path: Path, error: OSError) -> OutputError:
    """`error` of the system in our words, with what to do about it."""
    do = {
        errno.ENOSPC: "free some space, or write to another disk",
        errno.EDQUOT: "free some space, or write to another disk",
        errno.EACCES: "change its permissions, or write elsewhere",
        errno.EPERM: "change its permissions, or write elsewhere",
        errno.EROFS: "write elsewhere",
        errno.EEXIST: "it is a file, not a folder; write elsewhere",
        errno.ENOTDIR: "a file is in the way; write elsewhere",
    }.get(error.errno or 0, "write elsewhere")
    return OutputError(str(path), f"cannot be written: {error.strerror or error}", do)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    """Makes the rename itself last through a power cut, where the system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
