"""When Python may look for garbage."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from qwen3_profile.system.collector import frozen_heap, keep_all_objects


@pytest.fixture
def unfrozen() -> Iterator[None]:
    """The heap as a command finds it; the tests themselves run on a frozen one."""
    gc.unfreeze()
    yield
    gc.freeze()


def are_frozen(before: int) -> bool:
    """Whether those objects still are; another thread may have freed a few of them meanwhile."""
    return before - 1000 < gc.get_freeze_count() <= before


def test_what_is_there_before_is_spared_the_collections(unfrozen: None) -> None:
    assert gc.get_freeze_count() == 0
    with frozen_heap():
        before = gc.get_freeze_count()
        assert before > 0
        with frozen_heap():
            assert are_frozen(before)
        # An inner block leaves the outer one's alone.
        assert are_frozen(before)
    assert gc.get_freeze_count() == 0


def test_the_heap_thaws_when_a_pass_raises(unfrozen: None) -> None:
    with pytest.raises(ValueError, match="pass"), frozen_heap():
        raise ValueError("pass")
    assert gc.get_freeze_count() == 0


@pytest.mark.parametrize("was_on", [True, False])
def test_what_a_block_keeps_is_old_at_its_end(unfrozen: None, was_on: bool) -> None:
    (gc.enable if was_on else gc.disable)()
    try:
        with keep_all_objects():
            assert not gc.isenabled()
            kept: list[object] = []
        assert gc.isenabled() is was_on
    finally:
        gc.enable()
    assert gc.get_freeze_count() == 0
    assert any(each is kept for each in gc.get_objects(generation=2))


def test_a_block_that_keeps_its_objects_leaves_frozen_ones_frozen(unfrozen: None) -> None:
    with frozen_heap():
        before = gc.get_freeze_count()
        with keep_all_objects():
            pass
        assert are_frozen(before)


def test_a_few_frozen_objects_are_no_frozen_heap(unfrozen: None) -> None:
    """Python 3.12 starts with some."""
    gc.collect()
    here = len(gc.get_objects())
    gc.freeze()
    more = [[] for _ in range(2 * here)]
    with frozen_heap():
        assert gc.get_freeze_count() > len(more)
    assert gc.get_freeze_count() == 0
