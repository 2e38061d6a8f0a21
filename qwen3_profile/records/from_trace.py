"""The timing records of a trace that came without its run."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from qwen3_profile.config import CUDA_GRAPH
from qwen3_profile.passes.reading import Reading
from qwen3_profile.records.record import RunFacts, TimingRecord, record_of
from qwen3_profile.run_folder.layout import trace_stem
from qwen3_profile.system.files import path_text


def records_of(reading: Reading, rank: int | None = None) -> tuple[TimingRecord, ...]:
    """A record of each forward pass of a trace that came without its run.

    Each model of the trace is a config of its own, and each of its passes a run.

    Args:
        rank: of the process that wrote it, where its file does not say so.
    """
    if not reading.passes:
        return ()
    name, info = path_text(reading.path.name), reading.info
    facts = RunFacts(
        run=trace_stem(name),
        trace=name,
        device=reading.device,
        rank=info.rank if rank is None else rank,
        world_size=info.world_size,
        execution=CUDA_GRAPH if reading.source == "replay" else None,
    )
    # Traces of the same name are common; the time of the first pass tells them apart.
    unique = f"{name}@{info.base_time_ns + reading.passes[0].start_ns}"
    runs: Counter[int] = Counter()
    found = []
    for times, origin in zip(reading.passes, reading.origins, strict=True):
        mine = replace(facts, model_class=origin.model_class)
        if origin.process is not None:
            mine = replace(mine, process=origin.process, rank=origin.rank, world_size=None)
        at = (origin.model, runs[origin.model])
        one = record_of(unique, *at, times, reading.findings, mine)
        found.append(replace(one, phase_source=origin.phase_source))
        runs[origin.model] += 1
    return tuple(found)
