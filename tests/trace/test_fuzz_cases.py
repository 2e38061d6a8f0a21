"""Inputs that once broke the reader, the ledger or its check, found by fuzzing and by reading."""

from __future__ import annotations

from pathlib import Path

import pytest
from make.fuzz_cases import check_bytes, seeds
from make.mutation import mutate_events
from make.paths import DATA

from qwen3_profile import export

FOLDER = DATA / "fuzz"

# What becomes of each: the line of a refusal, or the device time in ns.
OUTCOMES: dict[str, str | int] = {
    "annotation_of_the_device_without_a_name": 30,
    "args_are_a_number_and_not_utf8": 30015,
    "args_are_not_utf8": 20,
    "base_time_beyond_64_bits": 20,
    "clocks_centuries_apart": "days apart: their clocks disagree",
    "control_characters_after_idle_time": 20,
    "control_characters_in_a_crossing_name": "is not JSON",
    "control_characters_in_a_device_name": "is not JSON",
    "durations_beyond_64_bits": "add up to more than a century",
    "ids_as_text_and_number": 30,
    "list_cut_off": "is cut off",
    "no_such_category": 0,
    "odd_pid": 'has true as its "pid"',
    "step_number_of_5000_digits": 20,
}


def test_every_case_has_its_outcome() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == set(OUTCOMES)


@pytest.mark.parametrize("name", OUTCOMES)
def test_a_case_is_refused_or_read_rightly(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, expected = FOLDER / f"{name}.json", OUTCOMES[name]
    found = check_bytes(path.read_bytes())
    code = export.main([str(path), "--ledger", str(tmp_path / "ledger.json")])
    if isinstance(expected, str):
        assert code in (2, 3)
        (line,) = capsys.readouterr().err.splitlines()
        assert expected in line
    else:
        assert code == 0
        assert found is not None
        assert found.times.device_ns == expected


@pytest.mark.parametrize("name", seeds())
def test_what_fuzzing_starts_from_holds(name: str) -> None:
    data = seeds()[name]
    check_bytes(data)
    for seed in range(60):
        changed = mutate_events(data, seed)
        if changed is not None:
            check_bytes(changed)
