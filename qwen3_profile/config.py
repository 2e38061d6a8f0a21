"""What a run is asked to do, in records that check themselves."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_type_hints

import msgspec
from msgspec import Meta

from qwen3_profile.errors import ConfigError, closest

DEFAULT_MODEL = "Qwen/Qwen3-0.6B"
DType = Literal["float32", "float16", "bfloat16"]
Weights = Literal["auto", "pretrained", "random"]
Cache = Literal["dynamic", "static"]
# In memory, by torchao.
Quantize = Literal["int8", "int4", "fp8"]
# Over several ranks: one model split by transformers' own plan, or a whole one on each.
Parallel = Literal["tp", "ep", "dp"]
Inputs = Literal["random", "ragged", "prompt"]
# How a forward pass gets to the device: op by op, compiled by torch, or as one CUDA graph.
Execution = Literal["eager", "compiled", "cuda_graph"]
# Of torch.compile; the first changes nothing, and all but that one replay CUDA graphs on a GPU.
CompileMode = Literal["default", "reduce-overhead", "max-autotune"]
CompileScope = Literal["model", "layer"]
DTYPES: tuple[DType, ...] = get_args(DType)
QUANTIZE: tuple[Quantize, ...] = get_args(Quantize)
WEIGHTS, CACHES = get_args(Weights), get_args(Cache)
PARALLELS: tuple[Parallel, ...] = get_args(Parallel)
TENSOR_PARALLEL, EXPERT_PARALLEL, REPLICAS = PARALLELS
# Is known, so that it can be said why it is not measured.
PIPELINE = "pp"
# Those in which ranks share one model.
SHARED = (TENSOR_PARALLEL, EXPERT_PARALLEL)
EXECUTIONS: tuple[Execution, ...] = get_args(Execution)
EAGER, COMPILED, CUDA_GRAPH = EXECUTIONS
COMPILE_MODES, COMPILE_SCOPES = get_args(CompileMode), get_args(CompileScope)

# Of several ranks, for one warm-up or pass.
RANK_TIMEOUT_S = 600
# As the name of the records' file: they are printed to stdout.
STDOUT = "-"
# Far above anything that runs, so that a slip of the keyboard is told before memory runs out.
_MAX_COUNT = 1 << 20
Count = Annotated[int, Meta(ge=0, le=_MAX_COUNT)]
Positive = Annotated[int, Meta(ge=1, le=_MAX_COUNT)]
Seed = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
_ONE_EACH = "give --parallel dp, or leave it out"
# One name, and no list of them.
Name = Annotated[str, Meta(min_length=1, pattern="^[^,]*$")]


@dataclass(frozen=True, slots=True)
class RunConfig:
    """One row of the benchmark: what is measured, and how often.

    batch_size: sequences per forward pass.
    input_len: tokens per sequence.
    dtype: of weights and activations.
    num_runs: measured runs; each is one bare and one traced forward pass.
    warmup_runs: forward passes before the first measured one.
    attn_implementation: a name that transformers knows, or None for its own choice.
    decode_steps: tokens per sequence that follow each prefill, one forward pass each.
    cache: "dynamic" or "static", the KV cache's kind.
    trace_steps: how many of the decode steps are traced, spread over all of them.
    inputs: where the token ids are from: "random", all of input_len; "ragged", random ones of
        random lengths up to input_len, padded on the left; "prompt", the lines of a file.
    experts_implementation: of a mixture of experts, a name that transformers knows, or None for
        its own choice.
    backward: measure training steps without their optimizer, forward and backward of a loss, in
        place of prefills.
    execution: one of `EXECUTIONS`. One config has one; the command line makes a config of each
        that it is asked for, on the same weights and inputs.
    compile_mode, compile_scope: of a compiled execution one of `COMPILE_MODES`, and whether the
        model is compiled as a whole or layer by layer, one of `COMPILE_SCOPES`.
    memory: record what a pass allocates, part by part, in one more pass.
    energy: run each phase over and over for seconds, and ask the GPU's driver what that took.

    Raises:
        ConfigError: a value is of the wrong type or out of range.
    """

    batch_size: Positive = 1
    input_len: Positive = 128
    dtype: DType = "bfloat16"
    num_runs: Positive = 3
    warmup_runs: Count = 1
    attn_implementation: Name | None = None
    decode_steps: Count = 0
    cache: Cache = "dynamic"
    trace_steps: Positive = 3
    inputs: Inputs = "random"
    experts_implementation: Name | None = None
    backward: bool = False
    execution: Execution = EAGER
    compile_mode: CompileMode = COMPILE_MODES[0]
    compile_scope: CompileScope = COMPILE_SCOPES[0]
    memory: bool = False
    energy: bool = False

    def __post_init__(self) -> None:
        _check_types(self)
        for error in self._conflicts():
            raise error

    def _conflicts(self) -> Iterator[ConfigError]:
        """What of it does not go together."""
        apart, static = "leave one of them out", "give --cache static"
        grows = self.decode_steps and self.cache != "static"
        if self.backward:
            if self.decode_steps:
                yield ConfigError("backward", "does not go with decode_steps", apart)
            if self.cache != "dynamic":
                what = f"uses no {self.cache} cache, nor any"
                yield ConfigError("backward", what, "leave one out")
            if self.input_len < 2:
                yield ConfigError("backward", "needs 2 tokens, to predict one", "raise input_len")
        if self.execution == CUDA_GRAPH:
            if self.backward:
                yield ConfigError(CUDA_GRAPH, "captures no backward", apart)
            if grows:
                what = "replays a decode step on the same tensors, and a dynamic cache grows"
                yield ConfigError(CUDA_GRAPH, what, static)
        if self.execution == COMPILED:
            if self.backward:
                yield ConfigError("compile", "measures no backward", apart)
            if grows:
                what = "compiles a decode step once, and a dynamic cache grows with each"
                yield ConfigError("compile", what, static)
            return
        for key, default in (
            ("compile_mode", COMPILE_MODES[0]),
            ("compile_scope", COMPILE_SCOPES[0]),
        ):
            if getattr(self, key) != default:
                do = f"set execution to {COMPILED}"
                yield ConfigError(key, f"goes with a {COMPILED} execution", do)

    @property
    def first_phase(self) -> Literal["prefill", "train_step"]:
        """What is measured first, and alone where there are no decode steps."""
        return "train_step" if self.backward else "prefill"

    @property
    def worker(self) -> str:
        """The name of this config's files, such as `bs2_len256_bfloat16`; the phase follows it."""
        words = [f"bs{self.batch_size}", f"len{self.input_len}", self.dtype]
        if self.attn_implementation is not None:
            words.append(self.attn_implementation)
        if self.experts_implementation is not None:
            words.append(f"{self.experts_implementation}-experts")
        if self.cache != "dynamic":
            words.append(self.cache)
        if self.inputs != "random":
            words.append(self.inputs)
        if self.execution != EAGER:
            words.append(self.execution)
        if self.compile_mode != COMPILE_MODES[0]:
            words.append(self.compile_mode)
        if self.compile_scope != COMPILE_SCOPES[0]:
            words.append(f"by-{self.compile_scope}")
        return "_".join("".join(c if c.isalnum() or c in "-_" else "-" for c in w) for w in words)

    @property
    def traced_positions(self) -> tuple[int, ...]:
        """Which decode steps are traced: the first, the last, and others evenly between them."""
        last, wanted = self.decode_steps - 1, min(self.trace_steps, self.decode_steps)
        if wanted <= 1:
            return (last // 2,) if wanted else ()
        return tuple(round(i * last / (wanted - 1)) for i in range(wanted))


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """Which model, with which weights, where.

    name: a hub name or a local directory, as the user wrote it.
    weights: "auto", "pretrained" or "random".
    num_layers: profile the first N layers only; None for all.
    device: a torch device such as "cuda:1"; None where the user left the choice to us.
    seed: of the token ids, of random weights and of random adapters.
    quantize: how its Linears are quantised once it is loaded; None for not at all.
    adapters: folders that peft has saved adapters in; all are put round it, and are active.
    lora_rank: of one more adapter, of random weights, round every Linear; None for none.
    merge_adapters: whether they are added to the weights.
    parallel: how several ranks share the work; None for a process that is alone.
    """

    name: str = DEFAULT_MODEL
    weights: Weights = "auto"
    num_layers: Positive | None = None
    device: str | None = None
    seed: Seed = 0
    quantize: Quantize | None = None
    adapters: tuple[str, ...] = ()
    lora_rank: Positive | None = None
    merge_adapters: bool = False
    parallel: Parallel | None = None

    @property
    def has_adapters(self) -> bool:
        return bool(self.adapters) or self.lora_rank is not None

    def __post_init__(self) -> None:
        if not self.name:
            raise ConfigError("--model-name", "is empty", f"give a name such as {DEFAULT_MODEL}")
        if self.merge_adapters and not self.has_adapters:
            do = "give --adapter or --lora-rank"
            raise ConfigError("--merge-adapters", "has no adapters to merge", do)
        if self.parallel in SHARED and (self.quantize or self.has_adapters):
            flag = "--quantize" if self.quantize else "--adapter, --lora-rank"
            raise ConfigError(flag, "does not go with a model that ranks share", _ONE_EACH)
        try:
            _check_types(self)
        except ConfigError as error:
            flag = "--" + error.where.replace("_", "-")
            raise ConfigError(flag, error.what, error.do) from error


@dataclass(frozen=True, slots=True)
class Invocation:
    """Everything that one command line asks for.

    prompts: texts, one for each sequence of every config; empty where inputs are drawn.
    entries: where a file says each config, such as "c.json: configs[1]"; empty without a file.
    free_dtypes: whether nobody asked for the dtype of a config, one for each; empty where all were
        asked for.
    ceilings: whether it is measured what the device does at most.
    nvtx: run with the labels as NVTX ranges for another profiler, and trace and record nothing.
    num_processes: in how many fresh processes it all runs, one after the other.
    rank_timeout_s: of several ranks, how long one waits for another.
    """

    model: ModelRequest
    configs: tuple[RunConfig, ...]
    output_dir: Path
    output_file: str
    trace_dir: Path
    run_name: str | None
    force: bool
    prompts: tuple[str, ...] = ()
    entries: tuple[str, ...] = ()
    free_dtypes: tuple[bool, ...] = ()
    ceilings: bool = True
    nvtx: bool = False
    num_processes: int = 1
    rank_timeout_s: int = RANK_TIMEOUT_S

    def __post_init__(self) -> None:
        if self.prints_records and self.num_processes > 1:
            what = "- does not go with --num-processes"
            raise ConfigError("--output-file", what, "give a file's name")
        if self.model.parallel and self.num_processes > 1:
            raise ConfigError("--num-processes", "does not go with several ranks", "leave it out")
        if self.model.parallel and any(config.energy for config in self.configs):
            raise ConfigError("--energy", "does not go with several ranks", "leave it out")
        for config in self.configs if self.model.parallel in SHARED else ():
            if config.backward or config.execution == CUDA_GRAPH:
                flag = "--cuda-graph" if config.execution == CUDA_GRAPH else "--backward"
                what = "is not measured of a model that ranks share"
                raise ConfigError(flag, what, _ONE_EACH)

    @property
    def prints_records(self) -> bool:
        """Whether the records go to stdout, in place of a file."""
        return self.output_file == STDOUT

    @property
    def records_path(self) -> Path:
        return self.output_dir / self.output_file


def suggest(word: str, choices: Iterable[str]) -> str:
    """`did you mean X? there is X, Y, Z`: the nearest of `choices`, and all of them."""
    known = list(choices)
    return f"{closest(word, known)} there is {', '.join(known)}".lstrip()


_JSON_TYPES: Mapping[type, str] = {
    type(None): "null", bool: "true or false", int: "a number", float: "a fraction",
    str: "a string", list: "a list",
}  # fmt: skip


def json_type(value: object) -> str:
    """What a value is called in a JSON file."""
    return _JSON_TYPES.get(type(value), "an object")


def _check_types(record: RunConfig | ModelRequest) -> None:
    kind: Any = type(record)
    for key, hint in _types(kind).items():
        value = getattr(record, key)
        try:
            msgspec.convert(value, hint)
        except msgspec.ValidationError as error:
            raise ConfigError(key, *_refusal(value, hint)) from error


@cache
def _types(record: Hashable) -> dict[str, Any]:
    return get_type_hints(record, include_extras=True)


def _refusal(value: object, hint: Any) -> tuple[str, ...]:
    """Why a value is none of its type, and what to do."""
    import msgspec.inspect as types  # only where something is wrong

    found = types.type_info(hint)
    wanted = found.types[0] if isinstance(found, types.UnionType) else found
    is_type = f"is {json_type(value)}"
    if isinstance(wanted, types.LiteralType):
        choices = ", ".join(get_args(hint))
        if isinstance(value, str):
            return (f"{value!r} is not one of {choices}",)
        return is_type, f"give one of {choices}"
    if isinstance(wanted, types.IntType):
        if type(value) is int:
            return f"{value} is out of range", f"take {wanted.ge} to {wanted.le}"
        return is_type, "give a whole number"
    if isinstance(wanted, types.BoolType):
        return is_type, "give true or false"
    if isinstance(value, str) and value:
        return f"{value!r} is a list", "give one name; a file of configs takes an entry for each"
    return f"{value!r} is not a name", "leave it out"
