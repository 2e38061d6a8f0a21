"""Damage done to the events of a trace: a file and a seed in, another file that is JSON out."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

Event = dict[str, Any]

FIELDS = ("ph", "cat", "name", "pid", "tid", "ts", "dur", "args")
CATEGORIES = (
    "cpu_op", "user_annotation", "python_function", "cuda_runtime", "cuda_driver", "kernel",
    "gpu_memcpy", "gpu_memset", "gpu_user_annotation", "Kernel", "Runtime", "Operator", "novel",
)  # fmt: skip
NAMES = (
    "prefill", "decode", "layer.0", "layer.0.attn", "layer.0.attn.q_proj", "ProfilerStep#7",
    "ProfilerStep#" + "9" * 30, "nccl:all_reduce", "nn.Module: Qwen3DecoderLayer_0", "", "\x1b[2J",
    "cudaLaunchKernel", "cudaGraphLaunch", "hipGraphLaunch", "cudaStreamBeginCapture", "x" * 300,
)  # fmt: skip
NUMBERS = (
    0, 1, -1, 0.001, 0.0005, 1e-9, 17, 46.02, 90_000, 4e12, 1.7e15, 4.6e15, 9.3e15, 2**53, 2**63,
    -(2**63), 1e18, 10**30,
)  # fmt: skip
ODD = (None, True, "", "1", [], {}, [1], {"correlation": 1})


def mutate_events(data: bytes, seed: int) -> bytes | None:
    """`data` with a few events changed, or None where it is no trace."""
    try:
        document = json.loads(data)
        events = document if isinstance(document, list) else document["traceEvents"]
        if not all(isinstance(event, dict) for event in events):
            return None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    chance = random.Random(seed)
    for _ in range(chance.randint(1, 4)):
        chance.choice(MUTATIONS)(events, chance)
    return json.dumps(document).encode()


def drop_field(events: list[Event], chance: random.Random) -> None:
    if events:
        event = chance.choice(events)
        event.pop(chance.choice(sorted(event) or [""]), None)


def set_time(events: list[Event], chance: random.Random) -> None:
    if events:
        chance.choice(events)[chance.choice(("ts", "dur"))] = chance.choice(NUMBERS)


def shift_time(events: list[Event], chance: random.Random) -> None:
    if events:
        event, key = chance.choice(events), chance.choice(("ts", "dur"))
        if isinstance(event.get(key), int | float):
            event[key] += chance.choice((-1, -0.001, 0.001, 1, 30, 1000))


def set_word(events: list[Event], chance: random.Random) -> None:
    if events:
        key, words = chance.choice((("cat", CATEGORIES), ("name", NAMES)))
        chance.choice(events)[key] = chance.choice(words)


def set_odd(events: list[Event], chance: random.Random) -> None:
    if events:
        chance.choice(events)[chance.choice(FIELDS)] = chance.choice(ODD)


def set_place(events: list[Event], chance: random.Random) -> None:
    if len(events) > 1:
        one, other = chance.sample(events, 2)
        for key in ("pid", "tid"):
            if key in other:
                one[key] = other[key]


def duplicate_id(events: list[Event], chance: random.Random) -> None:
    """One event gets the correlation id of another."""
    linked = [e for e in events if isinstance(e.get("args"), dict) and "correlation" in e["args"]]
    if len(linked) > 1:
        one, other = chance.sample(linked, 2)
        one["args"] = {**one["args"], "correlation": other["args"]["correlation"]}


def repeat(events: list[Event], chance: random.Random) -> None:
    if events:
        events.insert(chance.randrange(len(events)), dict(chance.choice(events)))


def lose(events: list[Event], chance: random.Random) -> None:
    if events:
        del events[chance.randrange(len(events))]


def reorder(events: list[Event], chance: random.Random) -> None:
    chance.shuffle(events)


MUTATIONS: tuple[Callable[[list[Event], random.Random], None], ...] = (
    drop_field, set_time, shift_time, set_word, set_odd, set_place, duplicate_id, repeat, lose,
    reorder,
)  # fmt: skip
