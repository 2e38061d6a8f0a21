"""What a run is asked to do: records that check themselves, from flags or from a JSON file."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from qwen3_profile.errors import ConfigError, closest

DEFAULT_MODEL = "Qwen/Qwen3-0.6B"
DTYPES = ("float32", "float16", "bfloat16")
WEIGHTS = ("auto", "pretrained", "random")
CACHES = ("dynamic", "static")
# What a file of prompts decides, and no flag or entry beside it.
PROMPT_KEYS = ("batch_size", "input_len", "inputs")
INPUTS = ("random", "ragged", "prompt")
# How a forward pass gets to the device: op by op, compiled by torch, or as one CUDA graph.
EAGER, COMPILED, CUDA_GRAPH = "eager", "compiled", "cuda_graph"
EXECUTIONS = (EAGER, COMPILED, CUDA_GRAPH)
# Of torch.compile; the first changes nothing, and all but that one replay CUDA graphs on a GPU.
COMPILE_MODES = ("default", "reduce-overhead", "max-autotune")
COMPILE_SCOPES = ("model", "layer")
_LEAST = {
    "batch_size": 1,
    "input_len": 1,
    "num_runs": 1,
    "warmup_runs": 0,
    "decode_steps": 0,
    "trace_steps": 1,
}
_CHOICES = {
    "cache": CACHES,
    "inputs": INPUTS,
    "dtype": DTYPES,
    "execution": EXECUTIONS,
    "compile_mode": COMPILE_MODES,
    "compile_scope": COMPILE_SCOPES,
}

# Far above anything that runs, so that a slip of the keyboard is told before memory runs out.
_MAX_COUNT = 1 << 20


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

    Raises:
        ConfigError: a value is of the wrong type or out of range.
    """

    batch_size: int = 1
    input_len: int = 128
    dtype: str = "bfloat16"
    num_runs: int = 3
    warmup_runs: int = 1
    attn_implementation: str | None = None
    decode_steps: int = 0
    cache: str = "dynamic"
    trace_steps: int = 3
    inputs: str = "random"
    experts_implementation: str | None = None
    backward: bool = False
    execution: str = EAGER
    compile_mode: str = COMPILE_MODES[0]
    compile_scope: str = COMPILE_SCOPES[0]

    def __post_init__(self) -> None:
        for key, least in _LEAST.items():
            _check_count(key, getattr(self, key), least)
        for key, choices in _CHOICES.items():
            _check_choice(key, getattr(self, key), choices)
        self._check_backward()
        self._check_cuda_graph()
        self._check_compiled()
        _check_name("attn_implementation", self.attn_implementation)
        _check_name("experts_implementation", self.experts_implementation)

    def _check_backward(self) -> None:
        if not isinstance(self.backward, bool):
            raise ConfigError("backward", f"is {_json_type(self.backward)}", "give true or false")
        if self.backward and self.decode_steps:
            raise ConfigError("backward", "does not go with decode_steps", "leave one of them out")
        if self.backward and self.cache != "dynamic":
            raise ConfigError("backward", f"uses no {self.cache} cache, nor any", "leave one out")
        if self.backward and self.input_len < 2:
            raise ConfigError("backward", "needs 2 tokens, to foretell one", "raise input_len")

    def _check_cuda_graph(self) -> None:
        if self.execution != CUDA_GRAPH:
            return
        if self.backward:
            raise ConfigError(CUDA_GRAPH, "captures no backward", "leave one of them out")
        if self.decode_steps and self.cache != "static":
            raise ConfigError(
                CUDA_GRAPH,
                f"replays a decode step on the same tensors, and a {self.cache} cache grows",
                "give --cache static",
            )

    def _check_compiled(self) -> None:
        if self.execution != COMPILED:
            for key in ("compile_mode", "compile_scope"):
                if getattr(self, key) != _CHOICES[key][0]:
                    do = f"set execution to {COMPILED}"
                    raise ConfigError(key, f"goes with a {COMPILED} execution", do)
            return
        if self.backward:
            raise ConfigError("compile", "measures no backward", "leave one of them out")
        if self.decode_steps and self.cache != "static":
            raise ConfigError(
                "compile",
                f"compiles a decode step once, and a {self.cache} cache grows with each",
                "give --cache static",
            )

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
    seed: of the token ids and of random weights.
    """

    name: str = DEFAULT_MODEL
    weights: str = "auto"
    num_layers: int | None = None
    device: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.name:
            raise ConfigError("--model-name", "is empty", f"give a name such as {DEFAULT_MODEL}")
        _check_choice("--weights", self.weights, WEIGHTS)
        if self.num_layers is not None:
            _check_count("--num-layers", self.num_layers, 1)
        if not 0 <= self.seed < 1 << 63:
            raise ConfigError("--seed", f"{self.seed} is out of range", "take 0 to 2**63 - 1")


@dataclass(frozen=True, slots=True)
class Invocation:
    """Everything that one command line asks for.

    prompts: texts, one for each sequence of every config; empty where inputs are drawn.
    entries: where a file says each config, such as "c.json: configs[1]"; empty without a file.
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

    @property
    def records_path(self) -> Path:
        return self.output_dir / self.output_file


def read_prompts(path: Path) -> tuple[str, ...]:
    """The prompts of a text file in UTF-8, one a line; lines of nothing but space are none.

    Raises:
        ConfigError: the file cannot be read, is no text, or holds no prompt.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except OSError as error:
        raise ConfigError(str(path), f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(str(path), f"is not text in UTF-8: {error}") from error
    prompts = tuple(line.strip() for line in lines if line.strip())
    if not prompts:
        raise ConfigError(str(path), "holds no prompt", "write one prompt a line")
    return prompts


def read_configs(
    path: Path, defaults: RunConfig, *, prompts: bool = False
) -> tuple[RunConfig, ...]:
    """The configs of a JSON file such as `{"configs": [{"batch_size": 1, "input_len": 128}]}`.

    Args:
        path: the file.
        defaults: gives the values that an entry leaves out.
        prompts: whether a file of prompts decides `PROMPT_KEYS`; without one no entry may ask
            for its inputs.

    Raises:
        ConfigError: the file cannot be read, or an entry is wrong; names file, index and key.
    """
    entries = _read_entries(path)
    configs: list[RunConfig] = []
    for index, entry in enumerate(entries):
        where = f"{path}: configs[{index}]"
        config = _read_entry(where, entry, defaults)
        _check_inputs(where, entry, prompts)
        if config in configs:
            first = configs.index(config)
            raise ConfigError(
                f"{path}: configs[{index}]", f"is the same as configs[{first}]", "leave one out"
            )
        configs.append(config)
    return tuple(configs)


def suggest(word: str, choices: Iterable[str]) -> str:
    """`did you mean X? there is X, Y, Z`: the nearest of `choices`, and all of them."""
    known = list(choices)
    return f"{closest(word, known)} there is {', '.join(known)}".lstrip()


def _read_entries(path: Path) -> list[Any]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        document = json.loads(text, object_pairs_hook=_unique_keys)
    except OSError as error:
        raise ConfigError(str(path), f"cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(str(path), f"is not JSON: {error}") from error
    _check_unique(str(path), document)
    if not isinstance(document, dict) or not isinstance(document.get("configs"), list):
        raise ConfigError(str(path), 'has no list "configs"', 'write {"configs": [{...}, ...]}')
    unknown = sorted(set(document) - {"configs"})
    if unknown:
        raise ConfigError(str(path), f"unknown key {unknown[0]!r} beside configs", "leave it out")
    if not document["configs"]:
        raise ConfigError(f"{path}: configs", "is empty", "give at least one entry")
    entries: list[Any] = document["configs"]
    return entries


def _read_entry(where: str, entry: object, defaults: RunConfig) -> RunConfig:
    _check_unique(where, entry)
    if not isinstance(entry, dict):
        raise ConfigError(where, f"is {_json_type(entry)}", 'write {"batch_size": ...}')
    known = [field.name for field in dataclasses.fields(RunConfig)]
    for key in entry:
        if key not in known:
            hint = closest(key, known) or f"the keys are {', '.join(known)}"
            raise ConfigError(f"{where}.{key}", "is not a known key", hint)
    try:
        return dataclasses.replace(defaults, **entry)
    except ConfigError as error:
        raise ConfigError(f"{where}.{error.where}", error.what, error.do) from error


def _check_inputs(where: str, entry: Mapping[str, Any], prompts: bool) -> None:
    twice = [key for key in PROMPT_KEYS if prompts and key in entry]
    if twice:
        raise ConfigError(
            f"{where}.{twice[0]}", "is decided by the file of --prompt", "leave it out"
        )
    if not prompts and entry.get("inputs") == "prompt":
        raise ConfigError(f"{where}.inputs", "is prompt, and there is none", "give --prompt FILE")


def _check_count(key: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigError(key, f"is {_json_type(value)}", "give a whole number")
    if not least <= value <= _MAX_COUNT:
        raise ConfigError(key, f"{value} is out of range", f"take {least} to {_MAX_COUNT}")


def _check_choice(key: str, value: object, choices: tuple[str, ...]) -> None:
    if not isinstance(value, str):
        raise ConfigError(key, f"is {_json_type(value)}", f"give one of {', '.join(choices)}")
    if value not in choices:
        raise ConfigError(key, f"{value!r} is not one of {', '.join(choices)}")


def _check_name(key: str, value: object) -> None:
    if value is None:
        return
    if not isinstance(value, str) or not value:
        raise ConfigError(key, f"{value!r} is not a name", "leave it out")
    if "," in value:
        do = "give one name; a file of configs takes an entry for each"
        raise ConfigError(key, f"{value!r} is a list", do)


def _json_type(value: object) -> str:
    names: Mapping[type, str] = {
        type(None): "null", bool: "true or false", int: "a number", float: "a fraction",
        str: "a string", list: "a list", dict: "an object", _KeyTwice: "an object",
    }  # fmt: skip
    return names.get(type(value), type(value).__name__)


@dataclass(frozen=True, slots=True)
class _KeyTwice:
    """Stands for a JSON object that has `key` twice, of which Python would keep the last."""

    key: str


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any] | _KeyTwice:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    keys = [key for key, _ in pairs]
    return _KeyTwice(next(key for key in keys if keys.count(key) > 1))


def _check_unique(where: str, value: object) -> None:
    if isinstance(value, _KeyTwice):
        raise ConfigError(where, f"has the key {value.key!r} twice", "leave one out")
