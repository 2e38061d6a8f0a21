"""Records in long form: every time of every pass, once."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from make.commands import Commands
from make.paths import ROOT
from make.samples import decode_record, record

from qwen3_profile.errors import OutputError
from qwen3_profile.records.load import load
from qwen3_profile.records.long_form import COLUMNS, long_columns, save_parquet, to_arrow, to_pandas
from qwen3_profile.run_folder.sm_clock import SmClock

H200 = ROOT / "traces" / "h200"
DECODE = decode_record(leaves_ns={0: 100, 2: 100}, step_times_ns=(5, 7, 6))


def test_every_time_of_a_pass_has_a_row() -> None:
    one = record()
    table = to_pandas([one])
    assert tuple(table.columns) == COLUMNS
    assert table[table.quantity == "total_time"].value.tolist() == [4e-5]
    cuda = table[table.quantity == "cuda"]
    whole = cuda[cuda.layer.isna() & (cuda.part == "")]
    assert whole.value.tolist() == [one.times.forward.total.device_ns / 1e9]
    q_proj = cuda[(cuda.layer == 1) & (cuda.part == "attn/q_proj")]
    assert q_proj.value.tolist() == [1e-7]
    # Layers, and what lies outside of them, are all of it.
    outside = cuda[cuda.layer.isna() & (cuda.part != "")]
    layers = cuda[cuda.layer.notna() & (cuda.part == "")]
    assert layers.value.sum() + outside.value.sum() == pytest.approx(whole.value.sum())


def test_the_clock_of_a_run_has_its_rows() -> None:
    one = replace(record(), sm_clock=SmClock(bare=(1980, 1970), device=(1755,)))
    table = to_pandas([one, record(index=1)])
    clock = table[table.unit == "MHz"]
    assert dict(zip(clock.quantity, clock.value, strict=True)) == {
        "sm_clock_bare": 1975, "sm_clock_device": 1755,
    }  # fmt: skip


def test_a_decode_has_every_bare_step_and_the_traced_ones() -> None:
    table = to_pandas([DECODE])
    bare = table[table.quantity == "total_time"]
    assert bare.step.tolist() == [0, 1, 2]
    assert bare.value.tolist() == pytest.approx([5e-9, 7e-9, 6e-9])
    traced = table[(table.quantity == "cpu") & (table.part == "") & table.layer.isna()]
    assert traced.step.tolist() == [0, 2]


def test_pandas_and_arrow_say_the_same() -> None:
    pytest.importorskip("pyarrow")
    records = [each for group in load(H200).groups for each in group]
    assert to_arrow(records).to_pydict() == long_columns(records)
    assert to_pandas(records).value.tolist() == long_columns(records)["value"]
    assert all(not values for values in long_columns([]).values())


def test_parquet_is_merged_by_id(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    file = tmp_path / "r.parquet"
    save_parquet(file, [record(), record(index=1)])
    once = parquet.read_table(file).num_rows
    save_parquet(file, [record(total_ns=99_000)])
    table = parquet.read_table(file).to_pandas()
    assert len(table) == once
    bare = table[table.quantity == "total_time"].set_index("pass").value
    assert bare.to_dict() == {1: 4e-5, 0: 9.9e-5}


@pytest.mark.parametrize("text", [b"PAR1", b"nothing of the kind"])
def test_what_is_no_file_of_ours_stays(tmp_path: Path, text: bytes) -> None:
    pytest.importorskip("pyarrow")
    file = tmp_path / "r.parquet"
    file.write_bytes(text)
    with pytest.raises(OutputError, match=r"r.parquet: is not Parquet"):
        save_parquet(file, [record()])
    assert file.read_bytes() == text


def test_an_export_writes_it(commands: Commands, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    done = commands.export(tmp_path, H200, "--format", "parquet")
    assert (done.code, done.err) == (0, "")
    found = parquet.read_table(tmp_path / "timing_results" / "timing_records.parquet")
    assert set(found["phase"].to_pylist()) == {"prefill", "decode"}


def test_the_notebook_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyarrow")
    monkeypatch.chdir(ROOT)
    cells = json.loads((ROOT / "examples" / "records.ipynb").read_text())["cells"]
    known: dict[str, Any] = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), known)
    assert known["share"].index[0].startswith(("attn/", "ffn/"))
    assert len(known["wide"]) == 28
