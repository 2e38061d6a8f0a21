"""A run's folder: no two runs have the same one, and `run.json` is read back as it was written."""

from __future__ import annotations

import multiprocessing
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from make.samples import run

from qwen3_profile.errors import EXIT_BAD_INPUT, OutputError, TraceError
from qwen3_profile.run_folder.claim import claim_folder, has_traces
from qwen3_profile.run_folder.layout import RAW_FOLDER, RUN_FILE
from qwen3_profile.run_folder.run_json import DevicePass, read_run, write_run

# --- claiming -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        pytest.param([], "run1", id="the first"),
        pytest.param(["run1", "run2"], "run3", id="the next"),
        pytest.param(["run1", "run9"], "run10", id="after the highest, by number"),
        pytest.param(["run9", "run10"], "run11", id="ten is more than nine"),
        pytest.param(["run2"], "run3", id="a hole stays one: an older run may come back"),
        pytest.param(["mine", "run", "runs", "run-4", "run3x"], "run1", id="other names"),
        pytest.param(["run\u00b2", "run\u0667"], "run1", id="digits that are not ASCII"),
        pytest.param([".run7.replaced.1"], "run1", id="one set aside"),
    ],
)
def test_the_next_free_name(tmp_path: Path, there: list[str], expected: str) -> None:
    for name in there:
        (tmp_path / name).mkdir()
    claim = claim_folder(tmp_path, None, force=False)
    assert claim.folder == tmp_path / expected
    assert claim.folder.is_dir()
    assert claim.place == claim.folder


def test_a_file_takes_a_name_too(tmp_path: Path) -> None:
    (tmp_path / "run1").touch()
    assert claim_folder(tmp_path, None, force=False).folder.name == "run2"


def test_the_folder_of_runs_is_made(tmp_path: Path) -> None:
    claim = claim_folder(tmp_path / "a" / "b", "mine", force=False)
    assert claim.folder == tmp_path / "a" / "b" / "mine"
    assert claim.folder.is_dir()


def _claim(folder: Path, start: Any, found: Any) -> None:
    start.wait()
    for _ in range(5):
        found.put(claim_folder(folder, None, force=False).folder.name)


def test_processes_that_claim_at_once_get_different_folders(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    start, found = context.Barrier(4), context.Queue()
    workers = [context.Process(target=_claim, args=(tmp_path, start, found)) for _ in range(4)]
    for worker in workers:
        worker.start()
    names = [found.get(timeout=60) for _ in range(20)]
    for worker in workers:
        worker.join(60)
    assert sorted(names, key=lambda name: int(name[3:])) == [f"run{n}" for n in range(1, 21)]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("a/b", id="a path"),
        pytest.param("../x", id="a path upwards"),
        pytest.param("..", id="the parent"),
        pytest.param(".", id="the folder itself"),
        pytest.param("/tmp", id="an absolute path"),
        pytest.param("x/", id="a slash at the end"),
    ],
)
@pytest.mark.parametrize("force", [False, True])
def test_a_name_that_is_none_is_refused(tmp_path: Path, name: str, force: bool) -> None:
    folder = tmp_path / "traces"
    with pytest.raises(OutputError, match=r"--run-name.*is not a folder's name"):
        claim_folder(folder, name, force=force)
    assert list(tmp_path.rglob("*")) in ([], [folder])


def earlier_run(trace_dir: Path) -> Path:
    folder = trace_dir / "mine"
    folder.mkdir(parents=True)
    write_run(folder, run())
    (folder / "old").touch()
    return folder


def test_a_taken_name_is_refused(tmp_path: Path) -> None:
    folder = earlier_run(tmp_path)
    with pytest.raises(OutputError, match=r"already there.*--force") as caught:
        claim_folder(tmp_path, "mine", force=False)
    assert caught.value.exit_code == EXIT_BAD_INPUT
    assert (folder / "old").exists()


def test_even_force_replaces_only_a_run_of_ours(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    with pytest.raises(OutputError, match="is not a run of ours"):
        claim_folder(tmp_path, "mine", force=True)
    assert (tmp_path / "mine" / "thesis.tex").exists()


def test_a_run_replaced_by_one_with_results_is_gone(tmp_path: Path) -> None:
    folder = earlier_run(tmp_path)
    forgotten: list[str] = []
    claim = claim_folder(tmp_path, "mine", force=True, forget=forgotten.append)
    assert list(claim.folder.iterdir()) == []
    assert (folder / "old").exists()
    (claim.folder / "new").touch()
    claim.commit()
    assert forgotten == [run().id]
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == [
        "mine", "mine/new",
    ]  # fmt: skip


def test_a_run_stays_where_the_one_to_replace_it_has_no_results(tmp_path: Path) -> None:
    folder = earlier_run(tmp_path)
    claim = claim_folder(tmp_path, "mine", force=True)
    (claim.folder / "new").touch()
    claim.roll_back()
    assert list(tmp_path.iterdir()) == [folder]
    assert {path.name for path in folder.iterdir()} == {RUN_FILE, "old"}
    assert read_run(folder) == run()


def test_a_run_that_is_being_made_is_not_replaced(tmp_path: Path) -> None:
    making = claim_folder(tmp_path, "mine", force=False)
    write_run(making.folder, run())
    with pytest.raises(OutputError, match="still being made"):
        claim_folder(tmp_path, "mine", force=True)
    making.commit()
    claim_folder(tmp_path, "mine", force=True).roll_back()
    assert read_run(tmp_path / "mine") == run()


@pytest.mark.parametrize(
    ("kind", "traces", "there", "left"),
    [
        pytest.param("new", True, True, ["mine", "run1"], id="killed with traces"),
        pytest.param("new", False, True, ["mine"], id="killed without any"),
        pytest.param("replaced", True, False, ["mine"], id="between the renames"),
        pytest.param("replaced", True, True, ["mine", "run1"], id="of an older version"),
        pytest.param("dropped", True, True, ["mine"], id="while it was deleted"),
    ],
)
def test_what_a_kill_left_is_put_right(
    tmp_path: Path, kind: str, traces: bool, there: bool, left: list[str]
) -> None:
    if there:
        earlier_run(tmp_path)
    hidden = tmp_path / f".mine.{kind}.77"
    (hidden / "raw").mkdir(parents=True)
    if traces:
        (hidden / "raw" / "a.json.gz").touch()
        write_run(hidden, run())
    forgotten: list[str] = []
    claim_folder(tmp_path, "next", force=False, forget=forgotten.append).roll_back()
    assert sorted(path.name for path in tmp_path.iterdir()) == left
    assert forgotten == ([run().id] if kind == "dropped" else [])
    # Wherever it is shown, it is called what its folder is.
    shown = [name for name in left if not (there and name == "mine")]
    assert [read_run(tmp_path / name).name for name in shown] == shown


def killed_at_its_begin(folder: Path) -> None:
    folder.mkdir()
    (folder / f".{RUN_FILE}.k2x_9a").touch()


def test_what_a_kill_left_at_the_begin_of_a_run_is_in_nobodys_way(tmp_path: Path) -> None:
    killed_at_its_begin(tmp_path / ".mine.new.77")
    killed_at_its_begin(tmp_path / "mine")
    claim = claim_folder(tmp_path, "mine", force=False)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    assert claim.folder == claim.place == tmp_path / "mine"
    assert list(claim.folder.iterdir()) == []
    with pytest.raises(OutputError, match="still being made"):
        claim_folder(tmp_path, "mine", force=False)
    claim.roll_back()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    """Its name could be one of ours."""
    (tmp_path / ".thesis.new.7").mkdir()
    (tmp_path / ".thesis.new.7/chapter").touch()
    claim_folder(tmp_path, "next", force=False).roll_back()
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == [
        ".thesis.new.7", ".thesis.new.7/chapter",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("succeeded", "left"),
    [pytest.param(True, ["run1"], id="results"), pytest.param(False, [], id="none")],
)
def test_a_new_run_stays_only_with_results(
    tmp_path: Path, succeeded: bool, left: list[str]
) -> None:
    claim = claim_folder(tmp_path, None, force=False)
    (claim.commit if succeeded else claim.roll_back)()
    assert [path.name for path in tmp_path.iterdir()] == left


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"file.*cannot be written"):
        claim_folder(tmp_path / "file", None, force=False)
    with pytest.raises(OutputError, match="cannot be written"):
        claim_folder(tmp_path, "x" * 300, force=False)


# --- run.json -----------------------------------------------------------------------------------


def test_a_run_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_run(tmp_path, run())
    assert read_run(tmp_path) == run()
    assert [path.name for path in tmp_path.iterdir()] == [RUN_FILE]


def test_a_run_of_the_first_schema_is_read(tmp_path: Path) -> None:
    """It knows of no passes but bare and traced ones."""
    values = msgspec.to_builtins(run()) | {"schema_version": 1}
    for name in ("clock_ns", "clock", "device"):
        del values["configs"][0]["measurements"][0][name]
    (tmp_path / RUN_FILE).write_bytes(msgspec.json.encode(values))
    assert read_run(tmp_path) == replace(run(), schema_version=1)


def test_what_was_measured_beside_a_traced_pass_is_kept(tmp_path: Path) -> None:
    (config,) = run().configs
    device = DevicePass(50_000, 1_700_000_000_000_000_000, "raw/d.json.gz", ("a message",), "loud")
    watched = replace(config.measurements[0], clock_ns=45_000, clock="raw/c.gz", device=device)
    whole = replace(run(), configs=(replace(config, measurements=(watched,)),))
    write_run(tmp_path, whole)
    assert read_run(tmp_path) == whole


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        pytest.param([], False, id="no folder"),
        pytest.param([".bs1.run0.json.gz.tmp"], False, id="one half written"),
        pytest.param(["bs1.run0.kineto.json.gz"], True, id="a whole one"),
    ],
)
def test_whether_a_run_has_traces(tmp_path: Path, there: list[str], expected: bool) -> None:
    for name in there:
        (tmp_path / RAW_FOLDER).mkdir(exist_ok=True)
        (tmp_path / RAW_FOLDER / name).touch()
    assert has_traces(tmp_path) is expected


def changed(**changes: object) -> bytes:
    values = msgspec.to_builtins(run()) | changes
    return msgspec.json.encode({key: value for key, value in values.items() if value != "drop"})


def with_batch_size(value: object) -> bytes:
    configs = msgspec.to_builtins(run())["configs"]
    configs[0]["config"]["batch_size"] = value
    return changed(configs=configs)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        pytest.param(b"", "is not a run.json of ours", id="empty"),
        pytest.param(b"hello", "is not a run.json of ours", id="not JSON"),
        pytest.param(b"\xff\xfe", "is not a run.json of ours", id="bytes"),
        pytest.param(b"[]", "is not a run.json of ours", id="a list"),
        pytest.param(b"{}", "is not a run.json of ours", id="no schema"),
        pytest.param(changed()[:-20], "is not a run.json of ours", id="cut off"),
        pytest.param(changed(model="drop"), "model", id="a field is missing"),
        pytest.param(changed(seed="x"), "seed", id="a field of the wrong type"),
        pytest.param(with_batch_size("2"), "batch_size", id="a config of the wrong type"),
        pytest.param(
            with_batch_size(0),
            "`int` >= 1 - at `$.configs[0].config.batch_size`",
            id="a config out of range",
        ),
        pytest.param(changed(schema_version=3), "newer qwen3_profile", id="a newer schema"),
        pytest.param(
            b'{"schema_version": 99, "shape": "unknown"}', "(schema 99", id="of another shape"
        ),
    ],
)
def test_a_bad_run_file_is_told_in_one_line(tmp_path: Path, data: bytes, told: str) -> None:
    (tmp_path / RUN_FILE).write_bytes(data)
    with pytest.raises(TraceError) as caught:
        read_run(tmp_path)
    assert caught.value.exit_code == EXIT_BAD_INPUT
    line = str(caught.value)
    assert str(tmp_path / RUN_FILE) in line
    assert told in line
    assert "\n" not in line


def test_a_folder_without_a_run(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"run\.json: cannot be read: No such file"):
        read_run(tmp_path)
