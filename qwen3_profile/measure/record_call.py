"""One call of a user's own model, measured as a run of one config."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.autograd import profiler as autograd_profiler

from qwen3_profile.config import DTYPES, DType, RunConfig
from qwen3_profile.errors import ConfigError, ModelError, RunError
from qwen3_profile.measure.ceilings import ceilings_of
from qwen3_profile.measure.config_files import ConfigFiles
from qwen3_profile.measure.environment import read_environment
from qwen3_profile.measure.executions.model_call import Call
from qwen3_profile.measure.executions.user_model import UserModelExecution
from qwen3_profile.measure.measurement import MeasurementLoop, unmeasured
from qwen3_profile.measure.model import other_decoders, transformers_compat
from qwen3_profile.measure.model.loaded_facts import weight_facts
from qwen3_profile.measure.model.structure import find_decoder
from qwen3_profile.measure.profiler import Recorder
from qwen3_profile.measure.ranges import CallPhase
from qwen3_profile.run_folder.model_shape import Shape
from qwen3_profile.run_folder.run_json import SCHEMA_VERSION, ConfigResult, ModelFacts, Run
from qwen3_profile.system.collector import frozen_heap

# What a record says of weights that are neither ours nor read by us.
_GIVEN = "given"


def record_call(
    call: Call,
    phase: CallPhase,
    num_runs: int,
    warmup_runs: int,
    folder: Path,
    *,
    memory: bool = False,
    energy: bool = False,
    ceilings: bool = False,
) -> Run:
    """Measures a call; traces go into `folder`.

    Raises:
        ModelError, ConfigError, RunError: as `api.trace_forward` says.
    """
    _check_module(call.model)
    if autograd_profiler._is_profiler_enabled:
        raise RunError("trace_forward", "another profiler is active", "end its session first")
    find_decoder(call.model)
    device = _device_of(call.model)
    asked = _config(call, phase, num_runs, warmup_runs)
    config = replace(asked, memory=memory, energy=energy)
    found = ceilings_of(device, [config.dtype]) if ceilings else ()
    started = datetime.now(timezone.utc)
    execution = UserModelExecution(call, config, phase)
    with frozen_heap():
        results = _measured(execution, device, folder)
    kept = call.kwargs.get("logits_to_keep", 0)
    return Run(
        schema_version=SCHEMA_VERSION,
        id=started.strftime("%Y%m%dT%H%M%S.%fZ"),
        name="trace_forward",
        started=started.isoformat(timespec="milliseconds"),
        argv=(),
        environment=read_environment(device),
        model=_facts(call.model),
        requested_device=None,
        device=str(device),
        seed=None,
        logits_to_keep=kept if isinstance(kept, int) else len(kept),
        use_cache=execution.has_cache,
        inference_mode=call.inference_mode,
        warnings=(),
        configs=results,
        ceilings=found,
    )


def _measured(
    execution: UserModelExecution, device: torch.device, folder: Path
) -> tuple[ConfigResult, ...]:
    config = execution.config
    files = ConfigFiles(folder, config.worker)
    recorder = Recorder(device)
    recorder.detach_others(execution.warm_up)
    loop = MeasurementLoop(execution, recorder, files, lambda _: None, execution.model)
    loop.measure()
    result = unmeasured(0, config, config.worker)
    attn = _attention_of(execution.model)
    return loop.results(replace(result, attn_implementation=attn, lengths=execution.lengths))


def _config(call: Call, phase: CallPhase, num_runs: int, warmup_runs: int) -> RunConfig:
    batch_size, tokens = call.shape
    is_decode = phase == "decode"
    return RunConfig(
        batch_size=batch_size,
        # Of a decode, as everywhere, the tokens before its first step.
        input_len=max(1, call.cached_len) if is_decode else tokens,
        dtype=_dtype_of(call.model),
        num_runs=num_runs,
        warmup_runs=warmup_runs,
        decode_steps=1 if is_decode else 0,
    )


def _check_module(model: object) -> None:
    if not isinstance(model, nn.Module):
        do = "pass the model and what it is called with; for generate, label the model instead"
        raise ModelError(type(model).__name__, "is no torch.nn.Module", do)


def _device_of(model: nn.Module) -> torch.device:
    devices = {str(p.device): p.device for p in model.parameters()}
    if len(devices) != 1 or "meta" in devices:
        where = ", ".join(sorted(devices)) or "no device"
        raise ModelError(type(model).__name__, f"is on {where}", "move it to one device")
    (device,) = devices.values()
    return device


def _dtype_of(model: nn.Module) -> DType:
    """The dtype of most weights."""
    counts: dict[str, int] = {}
    for parameter in model.parameters():
        # Of packed weights it is not what is computed in.
        if parameter.element_size() == 1:
            continue
        name = str(parameter.dtype).removeprefix("torch.")
        counts[name] = counts.get(name, 0) + parameter.numel()
    most = max(counts, key=lambda name: counts[name])
    for dtype in DTYPES:
        if dtype == most:
            return dtype
    what = f"has weights of {most}, not of {', '.join(DTYPES)}"
    raise ConfigError(type(model).__name__, what, "convert it with model.to(dtype)")


def _attention_of(model: nn.Module) -> str:
    return str(getattr(getattr(model, "config", None), "_attn_implementation", None) or "")


def _facts(model: nn.Module) -> ModelFacts:
    config = getattr(model, "config", None)
    layers = len(find_decoder(model).layers)
    counted = other_decoders.count(model, config)
    name = getattr(config, "_name_or_path", "") or type(model).__name__
    embedding = next((m for m in model.modules() if isinstance(m, nn.Embedding)), None)
    return ModelFacts(
        requested_name=name,
        name=name,
        weights=_GIVEN,
        weights_source=type(model).__name__,
        num_layers=layers,
        model_layers=layers,
        moe_layers=counted.moe_layers,
        hidden_size=getattr(config, "hidden_size", None)
        or (embedding.embedding_dim if embedding is not None else 0),
        parameters=counted.parameters,
        shape=_shape(config),
        packed=weight_facts(model),
    )


def _shape(config: Any) -> Shape | None:
    try:
        return transformers_compat.shape_of(config)
    except AttributeError:
        return None
