"""A loaded model and a config in, bare times and raw traces on disk out."""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Final

import torch
from torch.profiler import ProfilerActivity, profile

from qwen3_profile import instrument
from qwen3_profile.config import RunConfig
from qwen3_profile.errors import ProfileError, RunError, one_line
from qwen3_profile.kineto_log import kept_log
from qwen3_profile.memory import check_room, is_out_of_memory, out_of_memory
from qwen3_profile.models import LoadedModel, make_inputs, prefill, set_attention
from qwen3_profile.rawtrace import export_trace
from qwen3_profile.runs import RAW_FOLDER, ConfigResult, Measurement

PHASE: Final = "prefill"


@dataclass(frozen=True, slots=True)
class Capture:
    """Runs one config on one model, and keeps what was measured when something goes wrong.

    folder: the run's folder; traces go into `raw/` under it.
    advance: called after each forward pass.
    """

    loaded: LoadedModel
    device: torch.device
    seed: int
    folder: Path
    advance: Callable[[], None]

    def run(self, index: int, config: RunConfig, worker: str) -> ConfigResult:
        """Warms up, then takes a bare and a traced forward pass per measured run.

        Returns:
            The result, with status "failed" or "interrupted" and the measurements so far where
            it did not come to its end.
        """
        result = unmeasured(index, config, worker)
        try:
            attn = set_attention(self.loaded, config.attn_implementation)
            result = replace(result, attn_implementation=attn)
            loaded = self.loaded
            check_room(loaded.facts.shape, config, attn, loaded.model.dtype, self.device)
            for measurement, unlabelled in self._measure(config, worker):
                measurements = (*result.measurements, measurement)
                result = replace(result, unlabelled=unlabelled, measurements=measurements)
        except KeyboardInterrupt:
            done = f"after {len(result.measurements)} of {config.num_runs} runs"
            interrupted = f"config {config.worker}: interrupted {done}"
            return replace(result, status="interrupted", error=interrupted)
        # The model's code is the library's, and may raise anything.
        except Exception as error:
            told = self._run_error(config, result.attn_implementation, error)
            return replace(result, status="failed", error=str(told))
        return result

    def _measure(
        self, config: RunConfig, worker: str
    ) -> Iterator[tuple[Measurement, tuple[str, ...]]]:
        """Yields each measured run as it ends, with the parts that could not be labelled."""
        model = self.loaded.model
        vocab_size = self.loaded.facts.shape.vocab_size
        inputs = make_inputs(
            vocab_size, config.batch_size, config.input_len, self.seed, self.device
        )

        def forward() -> None:
            prefill(model, inputs)

        for _ in range(config.warmup_runs):
            forward()
            self.advance()
        for run_index in range(config.num_runs):
            started = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
            bare_ns = self._timed(forward)
            self.advance()
            trace = f"{RAW_FOLDER}/{worker}.run{run_index}.kineto.json.gz"
            with instrument.labelled(model) as labels:
                profiled_ns, messages = self._traced(forward, run_index, self.folder / trace)
            self.advance()
            measurement = Measurement(
                run_index=run_index,
                started=started,
                bare_ns=bare_ns,
                profiled_ns=profiled_ns,
                step=run_index,
                trace=trace,
                profiler_messages=messages,
            )
            yield measurement, labels.missing

    def _timed(self, forward: Callable[[], None]) -> int:
        """Wall-clock of one forward pass in ns, with the device idle before and after."""
        with _no_collections():
            self._synchronize()
            start = time.perf_counter_ns()
            forward()
            self._synchronize()
            return time.perf_counter_ns() - start

    def _traced(
        self, forward: Callable[[], None], step: int, path: Path
    ) -> tuple[int, tuple[str, ...]]:
        """The same under profiler and labels; the trace goes to `path`.

        Returns:
            The wall-clock in ns, and what the profiler complained of.
        """
        profiler = profile(activities=_activities(self.device))
        messages: list[str] = []
        with self._session(profiler, forward, messages), _no_collections():
            self._synchronize()
            start = time.perf_counter_ns()
            with instrument.step(step):
                with instrument.phase(PHASE):
                    forward()
                self._synchronize()
                elapsed = time.perf_counter_ns() - start
        export_trace(profiler, path)
        return elapsed, tuple(messages)

    @contextlib.contextmanager
    def _session(
        self, profiler: profile, forward: Callable[[], None], messages: list[str]
    ) -> Iterator[None]:
        """One session of the profiler; it is stopped whatever happens."""
        with kept_log(messages):
            profiler.prepare_trace()
        try:
            try:
                if self.device.type != "cpu":
                    # Until its buffers are there CUPTI delays launches: this pass is not recorded.
                    forward()
            finally:
                with kept_log(messages):
                    profiler.start_trace()
            yield
        finally:
            with kept_log(messages):
                profiler.stop_trace()

    def _synchronize(self) -> None:
        if self.device.type != "cpu":
            torch.get_device_module(self.device).synchronize(self.device)

    def _run_error(self, config: RunConfig, attention: str, error: Exception) -> RunError:
        if isinstance(error, RunError):
            return error
        if isinstance(error, ProfileError):
            return RunError(f"config {config.worker}: {error.where}", error.what, error.do)
        if is_out_of_memory(error):
            return out_of_memory(config, attention, self.device, error)
        what = f"{type(error).__name__}: {one_line(str(error))[:300]}"
        return RunError(f"config {config.worker}", what)


def unmeasured(index: int, config: RunConfig, worker: str) -> ConfigResult:
    """The result of a config before its first measured run."""
    return ConfigResult(
        index=index,
        config=config,
        worker=worker,
        phase=PHASE,
        status="done",
        error="",
        attn_implementation="",
        unlabelled=(),
        trace="",
        measurements=(),
    )


def _activities(device: torch.device) -> list[ProfilerActivity]:
    """The CPU's activity, and the device's where torch can record it."""
    name = {"cuda": "CUDA", "xpu": "XPU", "mtia": "MTIA", "hpu": "HPU"}.get(device.type)
    wanted = getattr(ProfilerActivity, name, None) if name else None
    supported = torch.profiler.supported_activities()  # type: ignore[no-untyped-call]
    if wanted is None or wanted not in supported:
        return [ProfilerActivity.CPU]
    return [ProfilerActivity.CPU, wanted]


@contextlib.contextmanager
def _no_collections() -> Iterator[None]:
    """Keeps the garbage collector out of a measurement, as timeit does."""
    gc.collect()
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
