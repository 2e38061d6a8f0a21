"""A call of one's own model in, its bare times and raw traces out, as the main job has them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.autograd import profiler as autograd_profiler

from qwen3_profile.config import DTYPES, DType, RunConfig
from qwen3_profile.errors import ConfigError, ModelError, RunError, in_words
from qwen3_profile.labels import fold_layers
from qwen3_profile.measure import instrument
from qwen3_profile.measure.count_bytes import count_pass
from qwen3_profile.measure.environment import read_environment
from qwen3_profile.measure.executions.model_call import Call, Phase
from qwen3_profile.measure.instrument import Instrumentation
from qwen3_profile.measure.model import other_decoders as families
from qwen3_profile.measure.model import transformers_compat as library
from qwen3_profile.measure.model.structure import find_decoder
from qwen3_profile.measure.profiler import Recorder, frozen_heap
from qwen3_profile.run_folder.bytes_moved import write_traffic
from qwen3_profile.run_folder.layout import RAW_FOLDER
from qwen3_profile.run_folder.model_shape import Shape
from qwen3_profile.run_folder.run_json import (
    SCHEMA_VERSION,
    ConfigResult,
    Measurement,
    ModelFacts,
    Run,
)

# What a record says of weights that are neither ours nor read by us.
_GIVEN = "given"


def record_call(call: Call, phase: Phase, num_runs: int, warmup_runs: int, folder: Path) -> Run:
    """Warms up, then takes a bare and a traced pass per measured run; traces go into `folder`.

    Raises:
        ModelError, ConfigError, RunError: as `api.trace_forward` says.
    """
    _check_module(call.model)
    if autograd_profiler._is_profiler_enabled:
        raise RunError("trace_forward", "another profiler is at work", "end its session first")
    find_decoder(call.model)
    device = _device_of(call.model)
    config = _config(call, phase, num_runs, warmup_runs)
    started = datetime.now(timezone.utc)
    measuring = _Measuring(call, config, phase, Recorder(device), folder)
    with frozen_heap():
        result = measuring.result()
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
        use_cache=measuring.has_cache,
        inference_mode=call.inference_mode,
        warnings=(),
        configs=(result,),
    )


@dataclass(slots=True)
class _Measuring:
    """The passes of one call; `has_cache` is whether the last bare one gave a KV cache back."""

    call: Call
    config: RunConfig
    phase: Phase
    recorder: Recorder
    folder: Path
    has_cache: bool = False

    def result(self) -> ConfigResult:
        for _ in range(self.config.warmup_runs):
            self._lead_in()
        measured = [self._run(index) for index in range(self.config.num_runs)]
        measurements = tuple(measurement for measurement, _ in measured)
        found = measured[-1][1]
        is_decode = self.phase == "decode"
        traffic, uncounted = self._traffic()
        lengths = (self.config.input_len,) * self.config.batch_size
        return ConfigResult(
            index=0,
            config=self.config,
            worker=f"{self.config.worker}_{self.phase}",
            phase=self.phase,
            status="done",
            error="",
            attn_implementation=_attention_of(self.call.model),
            unlabelled=found.missing,
            trace="",
            measurements=measurements,
            step_times_ns=tuple((each.bare_ns,) for each in measurements) if is_decode else (),
            replaced=found.replaced,
            labels=fold_layers(self._expected(found), found.num_layers),
            lengths=lengths if is_decode else self.call.lengths(),
            traffic=traffic,
            uncounted=uncounted,
        )

    def _traffic(self) -> tuple[str, str]:
        """The file of what a pass moves, or why that was not counted."""
        if _is_compiled(self.call.model):
            return "", "the model is compiled, and its kernels are no operators"
        name = f"{self.config.worker}_{self.phase}.traffic.json"
        try:
            with instrument.labelled(self.call.model):
                found = count_pass(self.call.prepared())
        except Exception as error:  # as in `capture`: this costs the bytes alone
            return "", in_words(error)
        write_traffic(self.folder / name, {0: found})
        return name, ""

    def _run(self, index: int) -> tuple[Measurement, Instrumentation]:
        started = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        self.recorder.settle(self._lead_in)
        bare_ns = self._bare()
        trace = f"{RAW_FOLDER}/{self.config.worker}_{self.phase}.run{index}.kineto.json.gz"
        with instrument.labelled(self.call.model) as found:
            forward, path = self.call.prepared(), self.folder / trace
            traced = self.recorder.traced(forward, self._lead_in, self.phase, index, path)
        measurement = Measurement(
            run_index=index,
            started=started,
            bare_ns=bare_ns,
            profiled_ns=traced.profiled_ns,
            step=index,
            trace=trace,
            profiler_messages=traced.messages,
        )
        return measurement, found

    def _bare(self) -> int:
        forward = self.call.prepared()
        # Kept beyond the clock, so that freeing it is not measured.
        outputs: list[object] = []
        bare_ns = self.recorder.timed(lambda: outputs.append(forward()))
        self.has_cache = getattr(outputs[0], "past_key_values", None) is not None
        return bare_ns

    def _lead_in(self) -> None:
        self.call.prepared()()

    def _expected(self, found: Instrumentation) -> list[str]:
        """What each pass must write; a call without a KV cache updates none."""
        return [name for name in found.expected if self.has_cache or ".kv_cache" not in name]


def _config(call: Call, phase: Phase, num_runs: int, warmup_runs: int) -> RunConfig:
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


def _is_compiled(model: nn.Module) -> bool:
    """Whether torch.compile has been asked to compile it, as a whole or in a part."""
    return hasattr(model, "_orig_mod") or any(
        getattr(module, "_compiled_call_impl", None) is not None for module in model.modules()
    )


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
    counted = families.count(model, config)
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
    )


def _shape(config: Any) -> Shape | None:
    try:
        return library.shape_of(config)
    except AttributeError:
        return None
