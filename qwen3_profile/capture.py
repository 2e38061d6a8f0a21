"""A loaded model and a config in, bare times and raw traces on disk out."""

from __future__ import annotations

import contextlib
import gc
import gzip
import shutil
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
from qwen3_profile.files import output_error
from qwen3_profile.kineto_log import kept_log
from qwen3_profile.models import LoadedModel, make_inputs, prefill, set_attention
from qwen3_profile.runs import RAW_FOLDER, ConfigResult, Measurement

PHASE: Final = "prefill"
_GIB = 1 << 30


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
        result = ConfigResult(
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
        try:
            attn = set_attention(self.loaded, config.attn_implementation)
            result = replace(result, attn_implementation=attn)
            for measurement, unlabelled in self._measure(config, worker):
                measurements = (*result.measurements, measurement)
                result = replace(result, unlabelled=unlabelled, measurements=measurements)
        except KeyboardInterrupt:
            return replace(result, status="interrupted", error="interrupted")
        except ProfileError as error:
            return replace(result, status="failed", error=str(error))
        except (RuntimeError, ValueError, ImportError, MemoryError) as error:
            return replace(result, status="failed", error=str(self._run_error(config, error)))
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
        _export(profiler, path)
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

    def _run_error(self, config: RunConfig, error: Exception) -> RunError:
        where = f"config {config.worker}"
        if not _is_out_of_memory(error):
            return RunError(where, f"{type(error).__name__}: {one_line(str(error))[:300]}")
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        return RunError(
            where,
            f"out of memory on {self.device}{_memory_figures(self.device)}",
            f"lower batch_size ({config.batch_size}) or input_len ({config.input_len}), "
            "or give --num-layers",
        )


def _activities(device: torch.device) -> list[ProfilerActivity]:
    """The CPU's activity, and the device's where torch can record it."""
    name = {"cuda": "CUDA", "xpu": "XPU", "mtia": "MTIA", "hpu": "HPU"}.get(device.type)
    wanted = getattr(ProfilerActivity, name, None) if name else None
    supported = torch.profiler.supported_activities()  # type: ignore[no-untyped-call]
    if wanted is None or wanted not in supported:
        return [ProfilerActivity.CPU]
    return [ProfilerActivity.CPU, wanted]


def _export(profiler: profile, path: Path) -> None:
    """Writes the trace, gzipped, whole or not at all."""
    plain = path.with_name(f".{path.name}.json")
    packed = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(exist_ok=True)
        profiler.export_chrome_trace(str(plain))
        with open(plain, "rb") as source, gzip.open(packed, "wb", compresslevel=6) as target:
            shutil.copyfileobj(source, target, 1 << 20)
        packed.replace(path)
    except OSError as error:
        raise RunError(str(path), *output_error(path, error).args[1:]) from error
    finally:
        for leftover in (plain, packed):
            with contextlib.suppress(OSError):
                leftover.unlink(missing_ok=True)


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


def _is_out_of_memory(error: Exception) -> bool:
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    # The CPU's allocator raises a bare RuntimeError.
    text = str(error)
    return "can't allocate memory" in text or "not enough memory" in text


def _memory_figures(device: torch.device) -> str:
    if device.type != "cuda":
        return ""
    free, total = torch.cuda.mem_get_info(device)
    return f" ({free / _GIB:.1f} of {total / _GIB:.1f} GiB free)"
