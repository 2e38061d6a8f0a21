"""Measures what a device does at most: products of matrices in a dtype, and copies.

Data are random: a product of zeros draws less power and runs at a higher clock. Each figure is the
median of several blocks of calls, timed by the device's own clock where it has one. A GPU at its
power limit lowers its clock within tenths of a second, so after a warm-up the shapes take turns,
a block of each: all are measured at the clock that it holds under such work, not one after the
other at clocks that fall.
"""

from __future__ import annotations

import contextlib
import math
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone

import torch
from torch.nn import functional

from qwen3_profile.errors import OutputError
from qwen3_profile.measure.devices import free_memory_bytes
from qwen3_profile.measure.environment import ask_driver, cpu_name
from qwen3_profile.measure.gpu_state import gpu_state
from qwen3_profile.measure.model.memory import release_unused
from qwen3_profile.measure.sm_clock import SmClockReader
from qwen3_profile.run_folder.ceilings import (
    GPU,
    Ceilings,
    ProductRate,
    keep,
    kept_file,
    read_kept,
)

# (rows, into, out): square, and wide and flat ones as models have them.
_GPU_PRODUCTS = ((8192, 8192, 8192), (16384, 8192, 1280), (4096, 4096, 12288))
_CPU_PRODUCTS = ((128, 256, 256), (256, 1024, 1024), (512, 1024, 1024), (1024, 1024, 2048))
# Far more than any cache holds.
_GPU_BUFFER_BYTES, _CPU_BUFFER_BYTES = 1 << 30, 1 << 28
# Of what is free, so much is taken at most, in all.
_SHARE_OF_FREE = 4
_WARM_UP_S, _BLOCK_S, _BLOCKS = 0.2, 0.02, 10
# Where a call takes long there are fewer blocks, or the shape is left out.
_FEWEST_BLOCKS, _GPU_MOST_S, _CPU_MOST_S = 3, 1.0, 0.4
_LAUNCHES = 200


def ceilings_of(device: torch.device, dtypes: Sequence[str]) -> tuple[Ceilings, ...]:
    """Of each dtype what is kept, or what is measured now, and then kept for a day.

    Those of a CPU are measured at each start: what else runs on it decides what it does at most. So
    are those of a GPU that another process has open.

    Args:
        device: a CUDA device or the CPU; of others nothing is known.
    """
    if device.type not in ("cuda", "cpu"):
        return ()
    dtypes = tuple(dict.fromkeys(dtypes))
    if device.type == "cpu":
        return tuple(measure(device, dtype) for dtype in dtypes)
    driver, torch_version = ask_driver(device)[0], str(torch.__version__)
    kept = list(read_kept(kept_file()))
    found = []
    for dtype in dtypes:
        key = (device_id(device), driver, torch_version, dtype)
        mine = next((each for each in kept if each.is_of(*key)), None)
        if mine is None:
            mine = measure(device, dtype)
            if not _is_shared(device):
                kept.append(mine)
            # A place that cannot be written to costs a second at the next start, no more.
            with contextlib.suppress(OutputError):
                keep(kept_file(), kept)
        found.append(mine)
    return tuple(found)


def _is_shared(device: torch.device) -> bool:
    state = gpu_state(device, 0)
    return bool(state and state.others)


def device_id(device: torch.device) -> str:
    """The UUID of a GPU, which is a part's own where it is divided; of a CPU what computes."""
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        return f"{GPU}{getattr(properties, 'uuid', properties.name)}"
    return f"{cpu_name()}, {torch.get_num_threads()} threads, {platform.node()}"


def measure(device: torch.device, dtype: str) -> Ceilings:
    """Takes a second or two, and memory that is free again afterwards."""
    timer = _Timer(device)
    driver, before, _ = ask_driver(device)
    with torch.inference_mode():
        products = _products(timer, getattr(torch, dtype))
        copy, read = _memory(timer)
        launch_ns = _launch_ns(timer)
    release_unused(device)
    after = ask_driver(device)[1]
    return Ceilings(
        device=device_id(device),
        driver=driver,
        torch=str(torch.__version__),
        dtype=dtype,
        measured=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        products=products,
        copy_bytes_per_s=copy,
        read_bytes_per_s=read,
        launch_ns=launch_ns,
        sm_clock_mhz=tuple(mhz for mhz in (before, after) if mhz is not None),
    )


@dataclass(slots=True)
class _Timed:
    """A call that is timed in so many blocks of so many calls: of each block the seconds of one
    call, and a GPU's clock meanwhile, where the driver tells.
    """

    call: Callable[[], object]
    blocks: int
    calls: int
    seconds: list[float] = field(default_factory=list)
    clocks_mhz: list[int] = field(default_factory=list)

    @property
    def median_s(self) -> float:
        return statistics.median(self.seconds)

    @property
    def sm_clock_mhz(self) -> int | None:
        return round(statistics.median(self.clocks_mhz)) if self.clocks_mhz else None


class _Timer:
    """Times calls on one device, and draws data there."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.is_gpu = device.type == "cuda"
        free = free_memory_bytes(device)
        self.most_bytes = (1 << 62) if free is None else free // _SHARE_OF_FREE
        self._clock = SmClockReader(device)
        # The user's own random numbers stay what they are.
        self._generator = torch.Generator(device).manual_seed(0)

    def random(self, *shape: int, dtype: torch.dtype) -> torch.Tensor:
        found = torch.empty(shape, dtype=dtype, device=self.device)
        return found.normal_(generator=self._generator)

    def seconds(self, call: Callable[[], object]) -> float:
        """Of one call, the median over blocks of calls, however long they take."""
        (timed,) = self.in_turn([call], at_any_cost=True)
        return timed.median_s

    def in_turn(
        self, calls: Sequence[Callable[[], object]], *, at_any_cost: bool = False
    ) -> list[_Timed]:
        """Times blocks of each call, which take turns; none of a call that would take too long.

        Args:
            at_any_cost: however long they take, as there is no smaller call to ask instead.
        """
        found = [self._warmed_up(call, at_any_cost) for call in calls]
        for turn in range(_BLOCKS):
            for each in found:
                if turn < each.blocks:
                    each.seconds.append(self._block(each.call, each.calls) / each.calls)
                    each.clocks_mhz += self._clock.take()
        return found

    def _warmed_up(self, call: Callable[[], object], at_any_cost: bool) -> _Timed:
        call()
        once = self._block(call, 1)
        self._clock.take()
        most_s = _GPU_MOST_S if self.is_gpu else _CPU_MOST_S
        blocks = min(_BLOCKS, int(most_s / max(once, 1e-9)))
        if blocks < _FEWEST_BLOCKS and not at_any_cost:
            return _Timed(call, 0, 0)
        for _ in range(int(_WARM_UP_S / max(once, 1e-6)) if self.is_gpu else 1):
            call()
        return _Timed(call, max(blocks, _FEWEST_BLOCKS), max(1, int(_BLOCK_S / max(once, 1e-7))))

    def _block(self, call: Callable[[], object], calls: int) -> float:
        if not self.is_gpu:
            start = time.perf_counter()
            for _ in range(calls):
                call()
            return time.perf_counter() - start
        stream = torch.cuda.current_stream(self.device)
        start_event, end_event = _event(), _event()
        start_event.record(stream)
        for _ in range(calls):
            call()
        end_event.record(stream)
        self._clock.read()  # while the device works
        end_event.synchronize()
        return float(start_event.elapsed_time(end_event)) / 1e3


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]


def _products(timer: _Timer, dtype: torch.dtype) -> tuple[ProductRate, ...]:
    """Of each shape that fits beside those before it and is done in time."""
    shapes, calls, taken = [], [], 0
    for rows, into, out in _GPU_PRODUCTS if timer.is_gpu else _CPU_PRODUCTS:
        more = (rows * into + into * out + rows * out) * dtype.itemsize
        if taken + more < timer.most_bytes:
            shapes.append((rows, into, out))
            calls.append(_product(timer, rows, into, out, dtype))
            taken += more
    return tuple(
        ProductRate(*shape, 2 * math.prod(shape) / timed.median_s, timed.sm_clock_mhz)
        for shape, timed in zip(shapes, timer.in_turn(calls), strict=True)
        if timed.seconds
    )


def _product(
    timer: _Timer, rows: int, into: int, out: int, dtype: torch.dtype
) -> Callable[[], object]:
    # The layout in which a model has its weights.
    x, weight = timer.random(rows, into, dtype=dtype), timer.random(out, into, dtype=dtype)
    return lambda: functional.linear(x, weight)


def _memory(timer: _Timer) -> tuple[float, float]:
    """Bytes per second of a copy, read and written, and of a sum, which only reads."""
    wanted = _GPU_BUFFER_BYTES if timer.is_gpu else _CPU_BUFFER_BYTES
    size = min(wanted, timer.most_bytes // 2)
    # Repeated, for drawing it all would take longer than copying it.
    source = timer.random(size // 64, dtype=torch.float32).repeat(16)
    target = torch.empty_like(source)
    copied = timer.seconds(lambda: target.copy_(source))
    return 2 * size / copied, size / timer.seconds(lambda: source.sum())


def _launch_ns(timer: _Timer) -> float:
    """The time of a kernel on one element among others like it, launched as one graph, so that no
    launch delays it; of a CPU that of an operator.
    """
    one = torch.zeros(1, device=timer.device)

    def adds() -> None:
        for _ in range(_LAUNCHES):
            one.add_(1)

    return timer.seconds(_captured(adds, timer.device) if timer.is_gpu else adds) / _LAUNCHES * 1e9


def _captured(call: Callable[[], None], device: torch.device) -> Callable[[], object]:
    graph = torch.cuda.CUDAGraph()
    side = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(side):
        call()
    torch.cuda.current_stream(device).wait_stream(side)
    with torch.cuda.graph(graph):
        call()
    return graph.replay
