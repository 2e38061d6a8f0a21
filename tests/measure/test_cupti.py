"""What CUPTI is asked for while the device alone is recorded, and what is told if it cannot be."""

from __future__ import annotations

import ctypes
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from qwen3_profile.measure import cupti


def library(told: list[int], refused: int | None = None) -> Any:
    def disable(kind: Any) -> int:
        told.append(kind.value)
        return 7 if kind.value == refused else 0

    return SimpleNamespace(cuptiActivityDisable=disable)


@pytest.mark.parametrize(
    ("refused", "expected", "why"),
    [
        pytest.param(None, [4, 5, 17], "", id="calls of driver and runtime, and overhead"),
        pytest.param(
            5, [4, 5], "CUPTI refuses to switch off records of kind 5 (error 7)", id="refused"
        ),
    ],
)
def test_all_records_but_those_of_the_device_are_switched_off(
    monkeypatch: pytest.MonkeyPatch, refused: int | None, expected: list[int], why: str
) -> None:
    told: list[int] = []
    monkeypatch.setattr(cupti, "_loaded_library", lambda: library(told, refused))
    assert cupti.record_kernels_only() == why
    assert told == expected


@pytest.mark.parametrize(
    ("found", "why"),
    [
        pytest.param(None, "torch has loaded no libcupti", id="no library"),
        pytest.param(
            SimpleNamespace(), "libcupti has no cuptiActivityDisable", id="another library"
        ),
    ],
)
def test_where_it_cannot_be_done_the_reason_is_told(
    monkeypatch: pytest.MonkeyPatch, found: Any, why: str
) -> None:
    monkeypatch.setattr(cupti, "_loaded_library", lambda: found)
    assert cupti.record_kernels_only() == why


MAPS = """\
7f0000000000-7f0000001000 r-xp 00000000 08:01 1  /usr/lib/libc.so.6
7f0000002000-7f0000003000 r-xp 00000000 08:01 2  {path}
"""


@pytest.mark.parametrize("name", ["libcupti.so", "libcupti.so.12", "libcupti.so.2026.1.0"])
def test_the_library_is_the_one_that_the_process_has(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path = f"/opt/cuda/lib64/{name}"
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: MAPS.format(path=path))
    opened: list[str] = []
    monkeypatch.setattr(ctypes, "CDLL", opened.append)
    cupti._loaded_library()
    assert opened == [path]


@pytest.mark.parametrize("path", ["/usr/lib/libcuptish.so", "/tmp/libcupti.so.txt"])
def test_another_library_is_none(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: MAPS.format(path=path))
    assert cupti._loaded_library() is None
