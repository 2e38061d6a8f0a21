"""What a fork makes beside this process: the same as one process alone, or an error of its own."""

from __future__ import annotations

import os
from collections.abc import Callable
from unittest.mock import Mock

import psutil
import pytest

from qwen3_profile.system import processes
from qwen3_profile.system.processes import ForkFailedError, forked, map_in_turns

HERE = os.getpid()


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "may_fork", lambda: True)
    monkeypatch.setattr(processes, "core_count", lambda: 2)


@pytest.mark.parametrize("count", range(9))
def test_results_are_in_the_order_of_the_items(count: int) -> None:
    found = map_in_turns(lambda item: (10 * item, os.getpid()), range(count))
    assert [result for result, _ in found] == [10 * item for item in range(count)]
    forks_of_it = {process for _, process in found} - {HERE}
    assert len(forks_of_it) == (1 if count >= 4 else 0)


def _raises_in_the_fork(item: int) -> int:
    if os.getpid() != HERE:
        raise ValueError
    return item


def _raises_at_five(item: int) -> int:
    if item == 5:
        raise ValueError(item)
    return item


def _ends_the_fork(item: int) -> int:
    if os.getpid() != HERE:
        os._exit(1)
    return item


def _cannot_be_sent(item: int) -> Callable[[], int]:
    return lambda: item


@pytest.mark.parametrize("work", [_raises_in_the_fork, _ends_the_fork])
def test_what_fails_in_the_fork_alone_is_done_here(work: Callable[[int], int]) -> None:
    assert map_in_turns(work, range(6)) == list(range(6))


def test_what_cannot_be_sent_is_made_here() -> None:
    assert [each() for each in map_in_turns(_cannot_be_sent, range(6))] == list(range(6))


def test_an_error_is_raised_here() -> None:
    with pytest.raises(ValueError, match="5"):
        map_in_turns(_raises_at_five, range(8))


def test_where_there_can_be_no_fork_all_is_done_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fork", Mock(side_effect=BlockingIOError))
    assert map_in_turns(lambda item: item, range(6)) == list(range(6))


def test_messages_come_one_by_one_and_end() -> None:
    with forked(lambda: iter([1, [2], "end"])) as messages:
        assert list(messages) == [1, [2], "end"]


def test_a_fork_that_is_not_listened_to_is_ended() -> None:
    # Other tests of this process may have left children of their own.
    before = set(psutil.Process().children())
    with forked(lambda: [b"x" * (1 << 20)] * 100) as messages:
        assert len(next(messages)) == 1 << 20
        assert len(set(psutil.Process().children()) - before) == 1
    assert set(psutil.Process().children()) <= before


def test_a_fork_that_fails_is_told_when_it_is_asked() -> None:
    failing = forked(lambda: iter([1, _raises_in_the_fork(2)]))
    with failing as messages, pytest.raises(ForkFailedError):
        next(messages)
