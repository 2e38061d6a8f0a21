"""What an invocation asks for, run config by config. torch is imported from here on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

import torch

from qwen3_profile.config import COMPILED, CUDA_GRAPH, DType, Invocation, ModelRequest, RunConfig
from qwen3_profile.errors import ConfigError, ModelError, RunError
from qwen3_profile.measure.ceilings import ceilings_of
from qwen3_profile.measure.devices import is_emulated, resolve_device, slow_dtype
from qwen3_profile.measure.environment import read_environment
from qwen3_profile.measure.inductor.hooks import check_inductor
from qwen3_profile.measure.measurement import unmeasured
from qwen3_profile.measure.model.attention import check_attention_name
from qwen3_profile.measure.model.experts import check_experts_name
from qwen3_profile.measure.model.load import LoadedModel, load_model
from qwen3_profile.measure.model.memory import release_unused
from qwen3_profile.measure.model.prompts import encode_prompts
from qwen3_profile.measure.model.quantise import import_quietly
from qwen3_profile.measure.pass_kinds import kinds_on
from qwen3_profile.measure.profiler import Recorder
from qwen3_profile.measure.rank_group import Ranks, rank_device
from qwen3_profile.measure.run_config import RunContext, execution_class, run_config
from qwen3_profile.run_folder.ceilings import Ceilings
from qwen3_profile.run_folder.run_json import SCHEMA_VERSION, ConfigResult, ModelFacts, Run
from qwen3_profile.system.collector import frozen_heap
from qwen3_profile.system.launched import Launched

# What every CPU has instructions for.
_NATIVE: DType = "float32"
# What only transformers knows: the key of a config, and who refuses a name that is none.
_NAMES = {"attn_implementation": check_attention_name, "experts_implementation": check_experts_name}


@dataclass(frozen=True, slots=True)
class Prepared:
    """A device that is there and a model that is loaded on it; nothing has run yet.

    configs: with the batch size and the length of the prompts, where there are prompts.
    prompts: their token ids.
    replaced_dtypes: for each config the default dtype, where the CPU only emulates it and nobody
        asked for it, else "".
    ceilings: what the device does at most, in each dtype of the configs.
    ranks: the processes that measure together; None where this one is alone.
    """

    loaded: LoadedModel
    device: torch.device
    warnings: tuple[str, ...]
    configs: tuple[RunConfig, ...]
    prompts: tuple[tuple[int, ...], ...] = ()
    replaced_dtypes: tuple[str, ...] = ()
    ceilings: tuple[Ceilings, ...] = ()
    ranks: Ranks | None = None


def prepare(
    invocation: Invocation,
    process: Launched | None = None,
    step: Callable[[str], None] = lambda _: None,
) -> Prepared:
    """Finds the device and loads the model of the first config.

    Args:
        process: which of several this one is; they are joined.
        step: is told of each step that begins: the model and, last, the ceilings.

    Raises:
        ConfigError: the device is not there.
        ModelError: the model is not known, not there, or too large; or it has no tokenizer, and
            there are prompts.
    """
    step("model")
    import_quietly()
    asked = invocation.model.device
    device = resolve_device(asked if process is None else rank_device(process, asked))
    _check_training(invocation)
    _check_names(invocation)
    _check_device(invocation.configs, device.device)
    prompts, configs = _encoded(invocation)
    configs, replaced, line = _fitting_dtypes(configs, invocation.free_dtypes, device.device)
    ranks = None
    if process is not None:
        ranks = Ranks(process, device.device, invocation.rank_timeout_s)
    loaded = load_model(invocation.model, configs[0].dtype, None, device.device)
    _check_experts(invocation.configs, loaded)
    slow = (slow_dtype(device.device, dtype) for dtype in {c.dtype: 0 for c in configs})
    warnings = (device.fallback, line, *slow, *loaded.warnings)
    told = tuple(line for line in warnings if line)
    asks = invocation.ceilings and (process is None or not process.rank)
    dtypes = [config.dtype for config in configs] if asks else []
    step("ceilings")
    ceilings = ceilings_of(device.device, dtypes)
    return Prepared(loaded, device.device, told, configs, prompts, replaced, ceilings, ranks)


def _fitting_dtypes(
    configs: tuple[RunConfig, ...], free: Sequence[bool], device: torch.device
) -> tuple[tuple[RunConfig, ...], tuple[str, ...], str]:
    """float32 where nobody asked for a dtype, and the CPU has no instructions for the default.

    Returns:
        The configs; for each the dtype that was replaced, or ""; and a warning line, or "".
    """
    replaced = tuple(
        config.dtype if is_free and is_emulated(device, config.dtype) else ""
        for config, is_free in zip(configs, free or [False] * len(configs), strict=True)
    )
    if not any(replaced):
        return configs, replaced, ""
    default = next(filter(None, replaced))
    fitting = tuple(
        replace(config, dtype=_NATIVE) if was else config
        for config, was in zip(configs, replaced, strict=True)
    )
    line = (
        f"this CPU has no {default} instructions and would emulate them: running in {_NATIVE}; "
        f"--dtype {default} asks for it all the same"
    )
    return fitting, replaced, line


def _encoded(
    invocation: Invocation,
) -> tuple[tuple[tuple[int, ...], ...], tuple[RunConfig, ...]]:
    """The prompts' token ids, and the configs with the sizes that these give them."""
    if not invocation.prompts:
        return (), invocation.configs
    prompts = encode_prompts(invocation.model, invocation.prompts)
    longest = max(map(len, prompts))  # what a config cannot do with so few it says itself
    return prompts, tuple(
        replace(config, batch_size=len(prompts), input_len=longest) for config in invocation.configs
    )


def _check_names(invocation: Invocation) -> None:
    """Refuses a slip in a name now, and not after the configs before it."""
    entries = invocation.entries or ("",) * len(invocation.configs)
    for config, entry in zip(invocation.configs, entries, strict=True):
        for key, check in _NAMES.items():
            name = getattr(config, key)
            try:
                if name is not None:
                    check(name)
            except ModelError as error:
                where = f"{entry}.{key}" if entry else error.where
                raise ModelError(where, error.what, error.do) from error


def _check_training(invocation: Invocation) -> None:
    request = invocation.model
    if not any(config.backward for config in invocation.configs):
        return
    if request.quantize is not None and not request.has_adapters:
        what = "leaves nothing to train: packed weights have no gradients"
        raise ConfigError("--quantize", what, "give --lora-rank or --adapter, or no --backward")
    if request.merge_adapters:
        raise ConfigError("--merge-adapters", "leaves no adapter to train", "leave it out")


def _check_device(configs: Sequence[RunConfig], device: torch.device) -> None:
    graphs = any(config.execution == CUDA_GRAPH for config in configs)
    if graphs and (device.type != "cuda" or not hasattr(torch.cuda, "CUDAGraph")):
        raise ConfigError(
            "--cuda-graph",
            f"needs a CUDA device, and this is {device}",
            "leave it out, or give --device cuda",
        )
    if any(config.execution == COMPILED for config in configs):
        check_inductor(device)


def _check_experts(configs: Sequence[RunConfig], loaded: LoadedModel) -> None:
    asked = any(config.experts_implementation is not None for config in configs)
    if asked and not loaded.default_experts:
        what = f"{loaded.name} has no mixture of experts"
        raise ModelError("--experts-implementation", what, "leave it out")


def start_run(invocation: Invocation, prepared: Prepared, folder: Path, argv: Sequence[str]) -> Run:
    """What `run.json` says before the first config."""
    started = datetime.now(timezone.utc)
    return Run(
        schema_version=SCHEMA_VERSION,
        id=started.strftime("%Y%m%dT%H%M%S.%fZ"),
        name=folder.name,
        started=started.isoformat(timespec="milliseconds"),
        # Bytes that are no text, as a file's name may have, cannot be written as JSON.
        argv=tuple(word.encode(errors="backslashreplace").decode() for word in argv),
        environment=read_environment(prepared.device),
        model=_model_facts(prepared.loaded),
        requested_device=invocation.model.device,
        device=str(prepared.device),
        seed=invocation.model.seed,
        logits_to_keep=1,
        use_cache=True,
        inference_mode=True,
        warnings=prepared.warnings,
        configs=(),
        ceilings=prepared.ceilings,
        ranks=1 if prepared.ranks is None else prepared.ranks.size,
        parallel=invocation.model.parallel or "",
    )


def run_configs(
    invocation: Invocation, prepared: Prepared, folder: Path, step: Callable[[str], None]
) -> Iterator[ConfigResult]:
    """Runs the configs one after the other; a failed one does not stop the others.

    Those of one dtype run together, in their order, so that each model is loaded once.
    Ends early, after an interrupted result, where the user interrupts.

    Args:
        step: is told of each step that begins; there are `steps_of(prepared)` of them.
    """
    models = _Models(invocation.model, prepared.loaded)
    workers: set[str] = set()
    for index, config in _by_dtype(prepared.configs):
        worker = _unique(config.worker, index, workers)
        try:
            loaded = models.of_dtype(config.dtype)
        except ModelError as error:
            told = RunError(f"config {config.worker}: {error.where}", error.what, error.do)
            failed = unmeasured(index, config, worker)
            yield replace(failed, status="failed", error=told.english)
            continue
        seed, prompts = invocation.model.seed, prepared.prompts
        context = RunContext(loaded, prepared.device, seed, folder, prompts, prepared.ranks)
        with frozen_heap():
            results = run_config(context, index, config, worker, _named(worker, step))
        was = prepared.replaced_dtypes[index]
        yield from (replace(result, dtype_in_place_of=was) for result in results)
        is_apart = prepared.ranks is not None and prepared.ranks.is_apart
        if results[-1].status == "interrupted" or is_apart:
            return


def _by_dtype(configs: Sequence[RunConfig]) -> list[tuple[int, RunConfig]]:
    """(index, config), those of the first dtype first; else in their order."""
    dtypes = list(dict.fromkeys(config.dtype for config in configs))
    return sorted(enumerate(configs), key=lambda pair: dtypes.index(pair[1].dtype))


def add_result(run: Run, result: ConfigResult) -> Run:
    """`run` with one phase of one config, in place of an earlier result of the same."""
    others = tuple(
        each for each in run.configs if (each.index, each.phase) != (result.index, result.phase)
    )
    return replace(run, configs=(*others, result))


class _Models:
    """Holds one model at a time: two copies may not fit."""

    def __init__(self, request: ModelRequest, loaded: LoadedModel) -> None:
        self._request = request
        self._device = loaded.device
        self._loaded: LoadedModel | None = loaded

    def of_dtype(self, dtype: str) -> LoadedModel:
        """The model with weights of `dtype`; loaded again where the last one had others.

        Raises:
            ModelError: it cannot be loaded so.
        """
        if self._loaded is None or self._loaded.dtype != dtype:
            if self._loaded is not None:
                _forget_weights(self._loaded.model)
                release_unused(self._device)
            self._loaded = None
            self._loaded = load_model(self._request, dtype, None, self._device)
        return self._loaded


def _forget_weights(model: torch.nn.Module) -> None:
    # Weights that are packed may refuse to be moved.
    for module in model.modules():
        module._parameters.clear()
        module._buffers.clear()


def _named(worker: str, step: Callable[[str], None]) -> Callable[[str], None]:
    return lambda what: step(f"{worker}: {what}")


def plan_of(prepared: Prepared) -> tuple[int, tuple[str, ...]]:
    """How many forward passes the configs take, with their warm-ups; and the kinds of these."""
    kinds = [_kinds(config, prepared.device) for config in prepared.configs]
    passes = sum(
        config.warmup_runs + len(each) * config.num_runs
        for config, each in zip(prepared.configs, kinds, strict=True)
    )
    return passes, tuple(dict.fromkeys(name for each in kinds for name in each))


def steps_of(prepared: Prepared) -> int:
    """How many steps `run_configs` tells of: the passes, and two to four more of each config."""
    more = sum(2 + config.memory + config.energy for config in prepared.configs)
    return plan_of(prepared)[0] + more


def _kinds(config: RunConfig, device: torch.device) -> list[str]:
    return [kind.name for kind in kinds_on(execution_class(config).kinds, Recorder(device))]


def _unique(worker: str, index: int, taken: set[str]) -> str:
    """Two configs may differ in nothing that their worker's name tells."""
    name = worker if worker not in taken else f"{worker}_{index}"
    taken.add(name)
    return name


def _model_facts(loaded: LoadedModel) -> ModelFacts:
    facts = loaded.facts
    return ModelFacts(
        requested_name=loaded.requested_name,
        name=loaded.name,
        weights=loaded.weights,
        weights_source=loaded.weights_source,
        num_layers=facts.shape.num_hidden_layers,
        model_layers=facts.published_layers,
        moe_layers=facts.moe_layers,
        hidden_size=facts.shape.hidden_size,
        parameters=facts.parameter_count,
        shape=facts.shape,
        packed=facts.weights,
    )
