"""A pass of its own in which torch's profiler records each block of memory; nobody times it."""

from __future__ import annotations

from typing import Any

import torch

from qwen3_profile.measure.config_files import TraceSlot
from qwen3_profile.measure.devices import free_memory_bytes
from qwen3_profile.measure.memory_events import read_events
from qwen3_profile.measure.pass_kinds import PassSeries
from qwen3_profile.measure.profiler import Recorder
from qwen3_profile.measure.profiler_log import kept_log
from qwen3_profile.run_folder.memory_events import MemoryPass


def take_memory(
    recorder: Recorder, model: Any, series: PassSeries, slot: TraceSlot, position: int
) -> MemoryPass:
    """Runs the next pass of a series whose model is labelled, and records its memory."""
    device, facts = recorder.device, dict[str, int | None]()

    def forward() -> None:
        _watch_peak(device)
        facts["capacity_bytes"] = _capacity(device)
        series.forward()
        recorder.synchronize()
        facts["allocator_peak_bytes"] = _peak(device)

    with kept_log([]):  # what Kineto says is kept by the session itself
        recorder.traced(forward, series.lead_in, series.phase, slot.step, slot.path, memory=True)
    facts["weights_bytes"] = weights_bytes(model)
    return read_events(slot.path, position, device, facts)


def weights_bytes(model: Any) -> int:
    """What the parameters and buffers of a model take, each storage once."""
    storages = {
        tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
        for tensor in (*model.parameters(), *model.buffers())
        # Packed weights may have no storage of their own.
        if type(tensor.data) is torch.Tensor
    }
    return sum(storages.values())


def _watch_peak(device: torch.device) -> None:
    """From here on the allocator, if it does such, watches for its peak."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def _peak(device: torch.device) -> int | None:
    return int(torch.cuda.max_memory_allocated(device)) if device.type == "cuda" else None


def _capacity(device: torch.device) -> int | None:
    """What torch could hold: what it does, and what is free."""
    free = free_memory_bytes(device)
    held = torch.cuda.memory_reserved(device) if device.type == "cuda" else 0
    return None if free is None else free + int(held)
