"""What the tests share: two-layer models on disk, and both command lines run in this process."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from make.commands import DENSE, SPARSE, Commands, Done
from make.frozen import freeze_all

# Before torch is imported. Models of two layers gain nothing by threads, and two processes of tests
# would fight for the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Whatever the locale of the machine, the tests read English.
os.environ["LC_ALL"] = "C.UTF-8"

# readline, which pytest imports, tells the processes of tests of a terminal that is not there.
for _name in ("COLUMNS", "LINES"):
    os.environ.pop(_name, None)

# A shell that starts the tests in the background leaves these ignored, and so does nohup: all
# commands that the tests start would inherit that, and could not be interrupted.
for _signal, _usual in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGHUP, signal.SIG_DFL),
):
    if signal.getsignal(_signal) is signal.SIG_IGN:
        signal.signal(_signal, _usual)

# What a test writes need not outlast a loss of power, and to wait for the disk takes milliseconds.
os.fsync = lambda _: None

# A loaded machine may take long over one example, which is no fault of it. Where a change is judged
# it is the change that has to fail, not the luck of that hour: the examples are the same each time.
settings.register_profile(
    "here",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize="CI" in os.environ,
)
settings.load_profile("here")


def _write_model(folder: Path, config: dict[str, Any]) -> Path:
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="session")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Commands:
    """On a dense model of two layers."""
    return Commands(_write_model(tmp_path_factory.mktemp("dense"), DENSE))


@pytest.fixture(scope="session")
def sparse_commands(tmp_path_factory: pytest.TempPathFactory) -> Commands:
    """On a mixture of experts of two layers."""
    return Commands(_write_model(tmp_path_factory.mktemp("sparse"), SPARSE))


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, commands: Commands) -> Done:
    """Two configs of two runs each in traces/run1; not to be changed by a test."""
    cwd = tmp_path_factory.mktemp("finished")
    entries = [{"batch_size": 2}, {"input_len": 5, "dtype": "float32"}]
    (cwd / "configs.json").write_text(json.dumps({"configs": entries}))
    return commands.profile(cwd, "--configs", "configs.json", "--num-runs", 2)


def pytest_collection_finish() -> None:
    """What the test modules have imported stays, so that no collection need look through it."""
    freeze_all()


def pytest_configure(config: pytest.Config) -> None:
    """Files run in the order of the tests, and not those of the most tests first."""
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begins with the files of slow tests, lest one of them runs alone at the end, and skips what
    needs CUDA where there is none.
    """
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))
