"""Mutation campaign on `run.json`: what is changed is refused in a line, or gives sane figures.

    python fuzz/mutate_run.py --mutants 900 --seed 0 tests/data/runs/h200-2layers

Each mutant has one value changed: another number, another type, a list or object with something
lost, repeated or put elsewhere, something where there was nothing, a path out of the folder; or it
is cut off, or nested deep. It is
exported, shown in a report and looked for by the tab. A mutant survives if one of these raises what
is no error of ours, or one of several lines; if a record has a figure that cannot be; or if a file
outside of the run's folder was opened. It is printed with what makes it again; the exit code is 1.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import os
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from qwen3_profile.errors import ProfileError  # noqa: E402
from qwen3_profile.records.load import load  # noqa: E402
from qwen3_profile.views.report.build import build_report  # noqa: E402
from qwen3_profile.views.tensorboard.tab_runs import LogDir  # noqa: E402

REFUSED, SANE, SURVIVED = "refused", "sane", "survived"
_FEW = ROOT / "tests/data/runs/h200-2layers"
# More tokens a second than any machine has made; what is only a difference may be less than none.
_MOST_PER_SECOND = 1e10
_DIFFERENCES = ("saved", "removed")

Document = dict[str, Any]
Place = tuple[Any, Any]  # of a value: what holds it, and its key or index there
Change = Callable[[Document, random.Random], object]


def places(value: Any) -> Iterator[Place]:
    """Every value of a document, each with what holds it."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, each in list(items):
        yield value, key
        if isinstance(each, dict | list):
            yield from places(each)


def _some(document: Document, chance: random.Random, kinds: Any) -> Place:
    found = [(holder, key) for holder, key in places(document) if type(holder[key]) in kinds]
    return chance.choice(found)


_ANY = (int, float, str, bool, type(None), dict, list)
_NUMBERS = (0, -1, 1, -6_400_000_000, 7, 10**18, 2**63, 10**30, 1e308, -0.5, 0.5)
_ODD = (None, True, "", "1", [], {}, [[]], "x" * 100_000, "\x1b[2J", -1, 0.5)
_FILLS = (
    "x",
    "layers.0.attn",
    "raw/x.json.gz",
    "run.json",
    "../x",
    0,
    1,
    2,
    0.5,
    [1],
    [[1]],
    ["x"],
)
_PATHS = ("../outside.json.gz", "/etc/hostname", "raw/../../outside.json.gz", "raw", ".", "\0",
          "raw/missing.json.gz", "run.json")  # fmt: skip


def number(document: Document, chance: random.Random) -> None:
    holder, key = _some(document, chance, (int, float))
    holder[key] = chance.choice(_NUMBERS)


def digit(document: Document, chance: random.Random) -> None:
    holder, key = _some(document, chance, (int, float))
    holder[key] = -holder[key] if chance.random() < 0.3 else holder[key] * chance.choice((10, 1000))


def odd(document: Document, chance: random.Random) -> None:
    holder, key = _some(document, chance, _ANY)
    holder[key] = chance.choice(_ODD)


def lose(document: Document, chance: random.Random) -> None:
    holder, key = _some(document, chance, _ANY)
    del holder[key]


def repeat(document: Document, chance: random.Random) -> None:
    holder, key = _some(document, chance, (list,))
    if holder[key]:
        holder[key].append(copy.deepcopy(chance.choice(holder[key])))


def shuffle(document: Document, chance: random.Random) -> None:
    holder, key = _some(document, chance, (list,))
    chance.shuffle(holder[key])


def elsewhere(document: Document, chance: random.Random) -> None:
    """A value takes the place of another of its type."""
    holder, key = _some(document, chance, _ANY)
    other, there = _some(document, chance, (type(holder[key]),))
    holder[key] = copy.deepcopy(other[there])


def fill(document: Document, chance: random.Random) -> None:
    """What this run has nothing of has something, as that of another run has."""
    found = [(h, k) for h, k in places(document) if h[k] is None or h[k] == "" or h[k] == []]
    holder, key = chance.choice(found)
    value = chance.choice(_FILLS)
    holder[key] = [value] if holder[key] == [] else value


def path(document: Document, chance: random.Random) -> None:
    found = [(h, k) for h, k in places(document) if isinstance(h[k], str) and "/" in h[k]]
    holder, key = chance.choice(found)
    holder[key] = chance.choice(_PATHS)


KINDS: dict[str, Change] = {
    each.__name__: each
    for each in (number, digit, odd, lose, repeat, shuffle, elsewhere, fill, path)
}
_TEXTS = {"cut", "nested", "bytes"}


def mutant(text: str, kind: str, seed: int) -> bytes:
    chance = random.Random(seed)
    if kind == "cut":
        return text[: chance.randrange(len(text))].encode()
    if kind == "nested":
        depth, brackets = chance.choice((900, 100_000)), chance.choice(("[]", ('{"a":', "}")))
        spot = chance.choice([i for i, c in enumerate(text) if c == ":"]) + 1
        return (
            text[:spot] + brackets[0] * depth + "1" + brackets[1] * depth + text[spot:]
        ).encode()
    if kind == "bytes":
        data = bytearray(text.encode())
        data[chance.randrange(len(data))] = chance.randrange(256)
        return bytes(data)
    document = json.loads(text)
    KINDS[kind](document, chance)
    return json.dumps(document).encode()


def judge(folder: Path, opened: list[str]) -> tuple[str, str]:
    """What becomes of a mutant, and why it is said to survive."""
    opened.clear()
    try:
        LogDir(str(folder.parent)).runs()
    except Exception as error:
        return SURVIVED, f"the tab: {type(error).__name__}: {error}"
    try:
        loaded = load(folder)
        records = [r.to_json() for group in loaded.groups for r in group]
        build_report(folder, loaded)
    except ProfileError as error:
        line = str(error)
        return (REFUSED, "") if line.isprintable() else (SURVIVED, "refused in several lines")
    except Exception as error:
        return SURVIVED, f"{type(error).__name__}: {error}"
    for name in opened:
        return SURVIVED, f"opened {name}"
    wrong = next((w for record in records for w in impossible(record)), "")
    return (SURVIVED, wrong) if wrong else (SANE, "")


def impossible(value: Any, name: str = "") -> Iterator[str]:
    """The figures of a record that cannot be."""
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else ((name, each) for each in value)
        for key, each in items:
            if key not in _DIFFERENCES:
                yield from impossible(each, f"{name}.{key}" if isinstance(value, dict) else name)
    elif isinstance(value, int | float) and not _can_be(name.rpartition(".")[2], value):
        yield f"{name} is {value}"


def _can_be(name: str, value: float) -> bool:
    if name in ("total_time", "profiled_time", "disturbance") and not value:
        return False
    return 0 <= value < (_MOST_PER_SECOND if name == "tokens_per_second" else math.inf)


def campaign(
    run: Path, mutants: int, seed: int, kind: str | None = None
) -> tuple[dict[str, Counter[str]], list[str]]:
    """Counts by kind, and a line for each survivor."""
    kinds = [kind] if kind else [*KINDS, *sorted(_TEXTS)]
    counts: dict[str, Counter[str]] = {kind: Counter() for kind in kinds}
    survivors = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "traces" / "run"
        shutil.copytree(run, folder)
        trace = next((run / "raw").glob("*.kineto.json.gz"))
        shutil.copy(trace, folder.parent / "outside.json.gz")
        opened = _watch_outside(folder)
        text = (run / "run.json").read_text()
        for number_ in range(seed, seed + mutants):
            kind = kinds[number_ % len(kinds)]
            (folder / "run.json").write_bytes(mutant(text, kind, number_))
            verdict, why = judge(folder, opened)
            counts[kind][verdict] += 1
            if why:
                survivors.append(f"--kind {kind} --mutants 1 --seed {number_}: {why[:300]}")
    return counts, survivors


def _watch_outside(folder: Path) -> list[str]:
    """What is opened of that which mutants name outside of the folder, from now on."""
    opened: list[str] = []

    def watch(event: str, args: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(args[0], str | Path):
            name = os.path.realpath(args[0])
            if name == "/etc/hostname" or name == str(folder.parent / "outside.json.gz"):
                opened.append(name)

    sys.addaudithook(watch)
    return opened


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, nargs="?", default=_FEW, help="a run's folder")
    parser.add_argument("--mutants", type=int, default=110, help="default: %(default)s")
    parser.add_argument("--kind", choices=[*KINDS, *sorted(_TEXTS)], help="default: each in turn")
    parser.add_argument("--seed", type=int, default=0, help="of the first mutant (default: 0)")
    args = parser.parse_args(argv)
    counts, survivors = campaign(args.run, args.mutants, args.seed, args.kind)
    columns = (REFUSED, SANE, SURVIVED)
    print("".join(f"{cell:>12}" for cell in ("kind", *columns)))
    for kind, each in counts.items():
        print("".join(f"{cell:>12}" for cell in (kind, *(each[column] for column in columns))))
    print("\n".join(survivors))
    return 1 if survivors else 0


if __name__ == "__main__":
    raise SystemExit(main())
