"""The fast reading of Kineto's own layouts against the general reading of the same text.

Both give the same columns, or both refuse.
"""

from __future__ import annotations

import gc
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from make.kineto import write
from make.kineto_texts import (
    LAYOUTS,
    TEXTS,
    TRAINED,
    assert_read_alike,
    check_same,
    document_of,
    letters,
    outcome,
    text_of,
)
from make.mutation import mutate_events
from make.paths import DATA, SHARED

from qwen3_profile.trace import Trace, read_trace, reader
from qwen3_profile.trace.json_events import Event

# --- whole files --------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [pytest.param(text, id=name) for name, text in TEXTS.items()])
def test_what_kineto_writes_is_read_fast_and_alike(text: str, tmp_path: Path) -> None:
    watched = check_same(write(tmp_path / "t.json", text.encode()))
    assert (watched.read, watched.left) == (1, 0)


@pytest.mark.parametrize("text", [pytest.param(text, id=name) for name, text in TEXTS.items()])
def test_no_event_of_kineto_is_left_to_the_general_reading(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[int] = []
    before = reader.read_events

    def read(events: list[Event], *args: Any) -> Any:
        left.append(len(events))
        return before(events, *args)

    monkeypatch.setattr(reader, "read_events", read)
    read_trace(write(tmp_path / "t.json", text.encode()))
    # The last event of a file has no comma behind it.
    assert left == [1]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_file_of_many_chunks(layout: str, tmp_path: Path) -> None:
    text = text_of(layout, steps=4, layers=24)
    watched = check_same(write(tmp_path / "t.json.gz", text.encode()))
    assert watched.read > 3
    assert watched.left == 0


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=path.name)
        for path in sorted(
            [*DATA.glob("*.json.gz"), *SHARED.glob("*.gz"), *SHARED.glob("own/*.gz")]
        )
    ],
)
def test_every_trace_is_read_alike(path: Path) -> None:
    assert_read_alike(path)


def test_what_was_read_with_is_gone_without_a_search_for_garbage(tmp_path: Path) -> None:
    """A command looks for none: 300 exports in one process took a gigabyte and more."""
    path = write(tmp_path / "t.json", next(iter(TEXTS.values())).encode())
    read_trace(path)
    gc.collect()
    gc.disable()
    try:
        read_trace(path)
        assert gc.collect() < 20
    finally:
        gc.enable()


# --- events of any kind in both layouts -----------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
def test_events_of_every_kind_are_read_alike(layout: str, tmp_path: Path) -> None:
    path = write(tmp_path / "t.json", document_of(TRAINED, layout))
    check_same(path)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), layout=st.sampled_from(LAYOUTS))
def test_events_changed_at_will_are_read_alike(seed: int, layout: str, tmp_path: Path) -> None:
    changed = mutate_events(json.dumps(TRAINED).encode(), seed)
    assert changed is not None
    path = write(tmp_path / "t.json", document_of(json.loads(changed), layout))
    assert_read_alike(path)


# --- bytes --------------------------------------------------------------------------------------


_BYTES = st.one_of(st.sampled_from(b'"{},:. \n\\0189-eX'), st.integers(0, 255))


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(sorted(TEXTS)),
    # Some events are enough, and each of them is likelier to be hit.
    size=st.integers(3000, 9000),
    flips=st.lists(st.tuples(st.integers(0, 9000), _BYTES), min_size=1, max_size=2),
)
def test_flipped_bytes_are_read_alike(
    name: str, size: int, flips: list[tuple[int, int]], tmp_path: Path
) -> None:
    whole = TEXTS[name].encode()
    sound = whole[: whole.rfind(b"\n  },\n", 0, size)] + b'\n  },\n  {\n    "ph": "i"\n  }\n]}'
    text = bytearray(sound)
    for at, byte in flips:
        text[at % len(text)] = byte
    path = write(tmp_path / "t.json", bytes(text))
    fast, _ = outcome(path, fast=True)
    general, _ = outcome(path, fast=False)
    if isinstance(fast, Trace) and isinstance(general, Trace):
        assert letters(fast) == letters(general)
    else:
        assert isinstance(fast, str), general
        assert isinstance(general, str), fast


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param('"name": "embed_tokens"', '"name": "embed "tokens"', id="a bare quote"),
        pytest.param('"cat": "kernel"', '"cat": "novel"', id="a category that nobody knows"),
        pytest.param('"dur": ', '"dur": -', id="a negative duration"),
        pytest.param('"ts": 4', '"ts": 04', id="a leading zero"),
        pytest.param('"ts": 4587', '"ts": 9994587', id="beyond 64 bits"),
        pytest.param('"correlation": ', '"correlation": 1', id="another id"),
        pytest.param('"correlation": 5978628', '"correlation": "5978628"', id="an id as text"),
        pytest.param('"correlation": ', '"correlate": ', id="no id"),
        pytest.param('"pid": 4242', '"pid": true', id="an odd pid"),
        pytest.param('"tid": 7', '"tid": "stream 7"', id="a tid as text"),
        pytest.param("\n    }\n  },", '\n    }, "name": "n"\n  },', id="a name behind the args"),
        pytest.param('"ph": "X"', '"ph": "B"', id="another phase"),
        pytest.param('      "External id"', '        "External id"', id="more space in args"),
    ],
)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_surprises_is_left_to_the_general_reading(
    layout: str, before: str, after: str, tmp_path: Path
) -> None:
    text = TEXTS[f"{layout}, GPU"]
    assert before in text
    path = write(tmp_path / "t.json", text.replace(before, after, 1).encode())
    assert_read_alike(path)
