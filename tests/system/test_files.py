"""Files are written whole or not at all, and what is no plain file is written through."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from qwen3_profile.errors import OutputError
from qwen3_profile.records.store import check_json
from qwen3_profile.system.files import write_atomic


def test_a_link_stays_and_its_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    real, link = tmp_path / "there" / "real", tmp_path / "link"
    real.write_bytes(b"old")
    link.symlink_to(real)
    write_atomic(link, b"new")
    assert link.is_symlink()
    assert real.read_bytes() == b"new"


def test_links_in_a_circle(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "a")
    with pytest.raises(OutputError, match="cannot be written"):
        write_atomic(tmp_path / "a", b"new")


def test_a_pipe_is_written_through(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    found: list[bytes] = []
    reader = threading.Thread(target=lambda: found.append(pipe.read_bytes()))
    reader.start()
    write_atomic(pipe, [b"a", b"b"])
    reader.join()
    assert found == [b"ab"]
    assert pipe.is_fifo()


def test_a_read_only_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "timing_records.json"
    path.write_text("[]")
    path.chmod(0o444)
    with pytest.raises(OutputError, match="read-only"):
        check_json(path)
