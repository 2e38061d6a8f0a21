"""Mutation campaign: what of a trace is changed is refused, told, or read rightly.

    python fuzz/mutate.py --mutants 3000 --seed 0 traces/*.json.gz

Each mutant of a whole trace must end in one of three ways: it is refused in one line; a finding
that the whole file has not tells of it; or the sums are those of the plain reading of its text
(`plain_reading.py`, which shares no code with the package), and that reading finds no two facts of
the file that disagree and did not before. Anything else survives: it is printed with what makes it
again, and the exit code is 1.

A text that says a thing once cannot contradict itself: a duration with another digit, an event
dropped together with all that names it, or a label moved within its thread are read as they stand,
and counted as right.
"""

from __future__ import annotations

import argparse
import gzip
import os
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(Path(__file__).resolve().parent)]
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from mutants import KINDS, Pieces, pieces_of  # noqa: E402
from plain_reading import PlainReading  # noqa: E402

from qwen3_profile.attribution.findings import refuse_damage  # noqa: E402
from qwen3_profile.attribution.selection import read_asked_for  # noqa: E402
from qwen3_profile.errors import ProfileError  # noqa: E402
from qwen3_profile.records.ledger import Ledger, make_long_ledger  # noqa: E402

REFUSED, TOLD, RIGHT, SURVIVED = "refused", "told", "right", "survived"
_FEW = ("qwen3-30b-a3b_2layers_prefill_b2_l256.json.gz", "cases/contradictions/0_good.json")


@dataclass(frozen=True)
class Original:
    """A whole trace, and what is known of it."""

    path: Path
    pieces: Pieces
    findings: frozenset[tuple[str, int]]
    contradictions: Counter[str]


@dataclass(frozen=True)
class Outcome:
    """What became of a mutant, and why it is said to survive."""

    verdict: str
    why: str = ""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("traces", type=Path, nargs="*", help="default: small ones of tests/data")
    parser.add_argument("--mutants", type=int, default=300, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="of the first mutant (default: 0)")
    args = parser.parse_args(argv)
    traces = args.traces or [ROOT / "tests" / "data" / name for name in _FEW]
    counts, survivors = campaign(traces, args.mutants, args.seed)
    print(table(counts))
    for line in survivors:
        print(line)
    return 1 if survivors else 0


def campaign(
    traces: Sequence[Path], mutants: int, seed: int
) -> tuple[dict[str, Counter[str]], list[str]]:
    """Counts by kind, and a line for each survivor."""
    counts: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}
    survivors = []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "mutant.json"
        originals = [read_original(path, file) for path in traces]
        for number in range(seed, seed + mutants):
            kind = list(KINDS)[number % len(KINDS)]
            original = originals[number // len(KINDS) % len(originals)]
            text = mutant(original, kind, number)
            if text is None:
                counts[kind]["none"] += 1
                continue
            outcome = judge(text, original, file)
            counts[kind][outcome.verdict] += 1
            if outcome.verdict == SURVIVED:
                again = f"--mutants 1 --seed {number}"
                survivors.append(f"{kind}: {original.path.name}, {again}: {outcome.why}")
    return counts, survivors


def mutant(original: Original, kind: str, seed: int) -> str | None:
    """The text of a mutant; None where the trace has nothing that could be changed so."""
    try:
        return KINDS[kind](original.pieces, random.Random(seed))
    except LookupError:
        return None


def read_original(path: Path, file: Path) -> Original:
    data = path.read_bytes()
    text = (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode(errors="replace")
    pieces = pieces_of(text)
    file.write_text(pieces.text(), encoding="utf-8")
    ledger = read(file)
    plain = PlainReading(pieces.text())
    assert sums_of(ledger, plain) == plain.label_ns(), f"{path}: read otherwise than plainly"
    return Original(path, pieces, told_by(ledger), plain.contradictions())


def read(file: Path) -> Ledger:
    """As the export does."""
    ledger = make_long_ledger(read_asked_for(file), "labels")
    refuse_damage(str(file), ledger.findings)
    return ledger


def told_by(ledger: Ledger) -> frozenset[tuple[str, int]]:
    return frozenset((finding.code, finding.count) for finding in ledger.findings)


def judge(text: str, original: Original, file: Path) -> Outcome:
    """What becomes of a mutant."""
    file.write_text(text, encoding="utf-8")
    try:
        ledger = read(file)
    except ProfileError as error:
        is_line = str(error).isprintable()
        return Outcome(REFUSED) if is_line else Outcome(SURVIVED, "refused in several lines")
    except Exception as error:
        return Outcome(SURVIVED, f"{type(error).__name__}: {error}")
    if told_by(ledger) - original.findings:
        return Outcome(TOLD)
    try:
        plain = PlainReading(text)
    except (ValueError, TypeError, KeyError, ArithmeticError) as error:
        return Outcome(SURVIVED, f"plainly it cannot be read: {error!r}")
    if sums_of(ledger, plain) != plain.label_ns():
        return Outcome(SURVIVED, "other sums than plainly read")
    if ledger.times.device_ns != plain.device_ns():
        return Outcome(SURVIVED, "another sum of device time than plainly read")
    new = plain.contradictions() - original.contradictions
    if new:
        return Outcome(SURVIVED, f"the file contradicts itself: {dict(new)}")
    return Outcome(RIGHT)


def sums_of(ledger: Ledger, plain: PlainReading) -> dict[str, int]:
    """Device time by label; rows between labels belong to the label around them."""
    names = {label["name"] for label in plain.labels}
    found: Counter[str] = Counter()
    for path, part in ledger.rows:
        name = next((each for each in reversed(path) if each in names), None)
        if part.own.device_ns and name is not None:
            found[name] += part.own.device_ns
    return dict(found)


def table(counts: dict[str, Counter[str]]) -> str:
    columns = (REFUSED, TOLD, RIGHT, SURVIVED, "none")
    rows = [("kind", *columns)]
    rows += [(kind, *(str(each[column]) for column in columns)) for kind, each in counts.items()]
    sums = [str(sum(each[column] for each in counts.values())) for column in columns]
    rows.append(("all", *sums))
    return "\n".join(f"{row[0]:22}" + "".join(f"{cell:>10}" for cell in row[1:]) for row in rows)


if __name__ == "__main__":
    raise SystemExit(main())
