"""The labels of a run as NVTX ranges, which nsys records; no session of torch's profiler beside it,
for two cannot watch one device.

Only the measured passes lie between cudaProfilerStart and cudaProfilerStop, so that nsys with
`--capture-range=cudaProfilerApi` leaves out loading and warm-up.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch.cuda import nvtx

from qwen3_profile.config import EAGER, Invocation, RunConfig
from qwen3_profile.errors import ConfigError
from qwen3_profile.measure.executions import Execution
from qwen3_profile.measure.model.inputs import config_inputs
from qwen3_profile.measure.model.load import set_attention, set_experts
from qwen3_profile.measure.pass_kinds import BARE, PassSeries
from qwen3_profile.measure.profiler import Recorder
from qwen3_profile.measure.ranges import redirect_ranges
from qwen3_profile.measure.run_config import execution_of
from qwen3_profile.measure.session import Prepared

_FLAG = "--nvtx"


@dataclass(frozen=True, slots=True)
class NvtxPass:
    """One pass with ranges: of which config, phase and run, and its wall-clock in ns."""

    worker: str
    phase: str
    run_index: int
    wall_ns: int


def check_nvtx(invocation: Invocation) -> None:
    """Refuses what has no ranges to record.

    Raises:
        ConfigError: this torch has no NVTX; or passes are compiled or graphs, whose labels do not
            exist while they run; or configs have several dtypes.
    """
    try:
        nvtx.mark("qwen3_profile")  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        do = "install one that is built with CUDA, or leave it out"
        raise ConfigError(_FLAG, f"torch {torch.__version__} is built without NVTX", do) from error
    if any(config.execution != EAGER for config in invocation.configs):
        what = "labels eager passes only: in compiled ones and graphs no label exists"
        raise ConfigError(_FLAG, what, "leave out --compile, --cuda-graph and --executions")
    if len({config.dtype for config in invocation.configs}) > 1:
        raise ConfigError(_FLAG, "takes one dtype", "run once for each")


def nvtx_passes(invocation: Invocation, prepared: Prepared) -> Iterator[NvtxPass]:
    """Runs each config with its labels as ranges."""
    for config in prepared.configs:
        recorder = Recorder(prepared.device)
        execution = _execution(config, invocation, prepared, recorder)
        # Nothing is compiled, so no files are written.
        with execution.prepared(None):  # type: ignore[arg-type]
            for _ in range(config.warmup_runs):
                execution.warm_up()
            with execution.labelled(), _captured(prepared.device):
                for run_index in range(config.num_runs):
                    yield from _run(execution, recorder, run_index)


def _execution(
    config: RunConfig, invocation: Invocation, prepared: Prepared, recorder: Recorder
) -> Execution:
    loaded = prepared.loaded
    set_attention(loaded, config.attn_implementation)
    set_experts(loaded, config.experts_implementation)
    vocab_size, seed = loaded.facts.shape.vocab_size, invocation.model.seed
    inputs = config_inputs(config, vocab_size, seed, prepared.device, prepared.prompts)
    return execution_of(loaded.model, inputs, config, recorder)


def _run(execution: Execution, recorder: Recorder, run_index: int) -> Iterator[NvtxPass]:
    with closing(execution.passes(BARE)) as passes:
        for series in passes:
            for _ in range(series.steps):
                wall_ns = recorder.timed(partial(_forward, series))
                yield NvtxPass(execution.config.worker, series.phase, run_index, wall_ns)


def _forward(series: PassSeries) -> None:
    with redirect_ranges(_range), _range(series.phase):
        series.forward()


@contextmanager
def _range(name: str) -> Iterator[None]:
    nvtx.range_push(name)  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        nvtx.range_pop()  # type: ignore[no-untyped-call]


@contextmanager
def _captured(device: torch.device) -> Iterator[None]:
    """What nsys is to record."""
    if device.type != "cuda":
        yield
        return
    torch.cuda.profiler.start()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        torch.cuda.profiler.stop()  # type: ignore[no-untyped-call]
