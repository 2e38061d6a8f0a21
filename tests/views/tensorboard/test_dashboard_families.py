"""The dashboard's own sums on traces of many programs and devices: they are the ledger's.

The classes behind the Operator and the Module view are asked directly; `test_tensorboard.py` asks
over HTTP. The recorded traces are not part of the repository; where they are missing, only those
that lie in it are tested.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from make.kineto import with_children
from make.paths import DATA, SHARED

from qwen3_profile.attribution.attribute import Attribution, attribute
from qwen3_profile.attribution.build_scopes import build_scopes, select_labels
from qwen3_profile.attribution.selection import select
from qwen3_profile.trace import Category, Trace, read_trace
from qwen3_profile.views.tensorboard.viewer_trace import normalised_trace

RunProfileData = pytest.importorskip("torch_tb_profiler.profiler.data").RunProfileData
aggegate_module_view = pytest.importorskip(
    "torch_tb_profiler.profiler.module_op"
).aggegate_module_view

# Seconds each, and of families that another file is of.
SIBLINGS = {
    "hta_a100_diff_control", "param_2080ti_linear", "tl_vllm_decode_full_capture",
    # other ranks
    "param_v100x8_dlrm_r1", "qa_h100_transformer_a1", "torchrec_v100x4_qcomm_r1",
    "torchrec_v100x4_qcomm_r2", "torchrec_v100x4_qcomm_r3",
}  # fmt: skip
# Of our own, what the traces of the repository are not: another model, compiled code.
OWN = (
    "qwen3-0.6b_4layers_compiled_b2_l256",
    "qwen3-0.6b_4layers_compiled_reduce-overhead_b1_l64",
    "qwen3-0.6b_prefill_b8_l2048",
    "qwen3-8b_decode_b8_ctx512",
)
# Without an op on the host the dashboard has no step, and does not load it: Kineto's own sample of
# events alone.
UNLOADED = {"kineto_h100_after_fix"}
# The profiler stopped inside its modules, which all end at that moment. In the dashboard's floats
# some end later than those around them, and these it drops.
CUT_OFF = {"nanovllm_4080_decode_gpu_0", "nanovllm_4080_forward_50"}
LARGE = 1_200_000


pytestmark = pytest.mark.filterwarnings("ignore")  # numpy finds fault with the dashboard


def name_of(path: Path) -> str:
    return path.name.removesuffix(".json.gz")


ALL = [
    pytest.param(path, id=name_of(path), marks=[pytest.mark.slow] * (path.stat().st_size > LARGE))
    for path in (
        *sorted(DATA.glob("qwen3*.json.gz")),
        *sorted(SHARED.glob("*.json.gz")),
        *(path for path in sorted(SHARED.glob("own/*.json.gz")) if name_of(path) in OWN),
    )
    if name_of(path) not in SIBLINGS | UNLOADED
]


def by_scope(trace: Trace, selected: np.ndarray) -> Attribution:
    return attribute(trace, build_scopes(trace, selected, name_gaps=False))


def sums(found: Attribution, values: np.ndarray) -> Counter[str]:
    """What belongs to scopes, by their names."""
    by_name: Counter[str] = Counter()
    names = found.scopes.names
    for name, value in zip(found.scopes.name.tolist(), values.tolist(), strict=True):
        by_name[names[name].removeprefix("nn.Module: ")] += value
    return by_name


def by_op(trace: Trace) -> Attribution:
    return by_scope(trace, (trace.host.category == Category.CPU_OP) | select_labels(trace))


def own(found: Attribution) -> np.ndarray:
    """Which device events were launched inside a scope, on the scope's own thread."""
    return (found.owner >= 0) & ~found.cross_thread


def launched(found: Attribution, which: np.ndarray) -> np.ndarray:
    """The device time of each scope's own launches."""
    total = np.zeros(len(found.scopes), np.int64)
    np.add.at(total, found.owner[which], found.trace.device.dur_ns[which])
    return total


@pytest.fixture(autouse=True)
def quiet() -> Any:
    """The dashboard logs each of its steps."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def slack_ns(trace: Trace, device_ns: int) -> float:
    """Two floats for each device event; of times since a base of days they are a quarter ns off."""
    return min(len(trace.device), device_ns / 1000) + 2


@pytest.mark.parametrize("path", ALL)
def test_views_have_the_ledgers_device_time(path: Path) -> None:
    trace = read_trace(path)
    if not len(trace.device):
        pytest.skip("no device events in it")
    shown = RunProfileData.from_json("w", "1", json.loads(normalised_trace([path])))
    check_operators(trace, shown)
    if name_of(path) not in CUT_OFF:
        check_modules(trace, shown)


def check_operators(trace: Trace, shown: Any) -> None:
    ops = by_op(trace)
    wanted = sums(ops, launched(ops, own(ops)))
    found = Counter({op.name: op.self_device_duration * 1000 for op in shown.op_list_groupby_name})
    total = sum(wanted.values())
    assert sum(found.values()) == pytest.approx(total, abs=slack_ns(trace, total))
    if all(start % 1000 == 0 for start in trace.host.start_ns.tolist()):
        return  # in whole microseconds an op and the op inside it often are one range
    for name in wanted | found:
        assert found[name] == pytest.approx(wanted[name], abs=slack_ns(trace, total)), name


def check_modules(trace: Trace, shown: Any) -> None:
    """Labels are ops and modules at once; of what a module launched outside of any op, as Triton's
    kernels are in other programs, the dashboard cannot know the module.
    """
    wanted: Counter[str] = Counter()
    for selected in (select_labels(trace), select(trace, "modules")):
        found_in = by_scope(trace, selected)
        in_op = own(by_op(trace)) & own(found_in)
        wanted.update(sums(found_in, with_children(found_in.scopes, launched(found_in, in_op))))
    found: Counter[str] = Counter()
    rows = list(aggegate_module_view(shown.tid2tree, shown.events) or ())
    seen = set()
    while rows:
        row = rows.pop()
        rows += row.children
        if (row.name, row.id) not in seen:  # the same module stands in each tree that has it
            seen.add((row.name, row.id))
            found[row.name] += row.device_duration * 1000
    for name in wanted | found:
        assert found[name] == pytest.approx(wanted[name], abs=slack_ns(trace, wanted[name])), name
