"""Files that a command line names: configs, and prompts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qwen3_profile.cli.documents import KeyTwice, read_document, read_text
from qwen3_profile.cli.run_flags import aliases, dtype_called
from qwen3_profile.config import RunConfig, json_type
from qwen3_profile.errors import ConfigError, closest

# Where a run is written, and how often it is run; of all that holds for it, what the command line
# may say otherwise.
PLACES = ("output_dir", "output_file", "trace_dir", "run_name", "num_processes")
# What holds for a whole run and not for one config of it, by the name of its flag.
RUN_KEYS = (
    "model_name", "weights", "num_layers", "device", "seed", "quantize", "adapter", "lora_rank",
    "merge_adapters", "parallel", "rank_timeout", "prompt", "no_ceilings", "nvtx", "force", *PLACES,
)  # fmt: skip
_CONFIG_KEYS = tuple(field.name for field in dataclasses.fields(RunConfig))
# What a file of prompts decides, and no flag or entry besides it.
_PROMPT_KEYS = ("batch_size", "input_len", "inputs")


def read_prompts(path: Path) -> tuple[str, ...]:
    """The prompts of a text file in UTF-8, one a line; lines of nothing but space are none.

    Raises:
        ConfigError: the file cannot be read, is no text, or holds no prompt.
    """
    try:
        lines = read_text(path).split("\n")
    except OSError as error:
        raise ConfigError(str(path), f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(str(path), f"is not text in UTF-8: {error}") from error
    prompts = tuple(line.strip() for line in lines if line.strip())
    if not prompts:
        raise ConfigError(str(path), "holds no prompt", "write one prompt a line")
    return prompts


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """A file such as `{"configs": [{"batch_size": 1, "input_len": 128}]}`, or the list alone.

    settings: what holds for the whole run, by the name of its flag: `{"model_name": ...}`. It
        stands beside `configs`, or in its entries, which then agree.
    entries: what is measured, one object each.
    """

    path: Path
    settings: dict[str, Any]
    entries: tuple[Any, ...]

    def configs(self, defaults: RunConfig, *, prompts: bool = False) -> tuple[RunConfig, ...]:
        """The config of each entry.

        Args:
            defaults: gives the values that an entry leaves out.
            prompts: whether a file of prompts decides batch_size, input_len and inputs; without
                one no entry may ask for its inputs.

        Raises:
            ConfigError: an entry is wrong; names file, index and key.
        """
        found: list[RunConfig] = []
        for index, entry in enumerate(self.entries):
            where = f"{self.path}: configs[{index}]"
            config = _read_entry(where, entry, defaults)
            _check_inputs(where, entry, prompts)
            if config in found:
                what = f"is the same as configs[{found.index(config)}]"
                raise ConfigError(where, what, "leave one out")
            found.append(config)
        return tuple(found)

    def that_set(self, key: str) -> frozenset[int]:
        """The indices of the entries that have this key."""
        return frozenset(index for index, entry in enumerate(self.entries) if key in entry)


def read_config_file(path: Path) -> ConfigFile:
    """Reads a file of configs in JSON, YAML or TOML, told by its suffix.

    Raises:
        ConfigError: it cannot be read, or is no list of entries.
    """
    document = read_document(path)
    _check_unique(str(path), document)
    if isinstance(document, list):
        document = {"configs": document}
    if not isinstance(document, dict) or not isinstance(document.get("configs"), list):
        raise ConfigError(str(path), 'has no list "configs"', 'write {"configs": [{...}, ...]}')
    document = _by_our_names(str(path), document)
    entries = [
        _by_our_names(f"{path}: configs[{index}]", entry)
        for index, entry in enumerate(document.pop("configs"))
    ]
    for key in document:
        if key not in RUN_KEYS:
            in_entry = "set it in each entry, or by its flag" if key in _CONFIG_KEYS else ""
            hint = in_entry or closest(key, RUN_KEYS) or "leave it out"
            raise ConfigError(str(path), f"unknown key {key!r} beside configs", hint)
    if not entries:
        raise ConfigError(f"{path}: configs", "is empty", "give at least one entry")
    return ConfigFile(path, document | _common(path, entries), tuple(map(_of_config, entries)))


def _by_our_names(where: str, entry: Any) -> Any:
    """The same with our own keys and dtypes in place of those that other programs have."""
    if not isinstance(entry, dict):
        return entry
    for key, ours in aliases().items():
        if key in entry and ours in entry:
            raise ConfigError(f"{where}.{key}", f"is {ours}, which is there, too", "leave one out")
    found = {aliases().get(key, key): value for key, value in entry.items()}
    if isinstance(found.get("dtype"), str):
        found["dtype"] = dtype_called(found["dtype"])
    return found


def _common(path: Path, entries: list[Any]) -> dict[str, Any]:
    """What the entries say of the whole run, in which all of them have to agree."""
    found = [{key: entry[key] for key in RUN_KEYS if key in entry} for entry in _objects(entries)]
    for index, each in enumerate(found):
        if each != found[0]:
            key = next(key for key in RUN_KEYS if each.get(key) != found[0].get(key))
            do = "one run has one model; make a file for each, or set it beside configs"
            raise ConfigError(f"{path}: configs[{index}].{key}", "differs from configs[0]", do)
    return found[0] if found else {}


def _objects(entries: list[Any]) -> list[dict[str, Any]]:
    return [entry if isinstance(entry, dict) else {} for entry in entries]


def _of_config(entry: Any) -> Any:
    if not isinstance(entry, dict):
        return entry
    return {key: value for key, value in entry.items() if key not in RUN_KEYS}


def _read_entry(where: str, entry: object, defaults: RunConfig) -> RunConfig:
    _check_unique(where, entry)
    if not isinstance(entry, dict):
        raise ConfigError(where, f"is {json_type(entry)}", 'write {"batch_size": ...}')
    for key in entry:
        if key not in _CONFIG_KEYS:
            hint = closest(key, _CONFIG_KEYS) or f"the keys are {', '.join(_CONFIG_KEYS)}"
            raise ConfigError(f"{where}.{key}", "is not a known key", hint)
    try:
        return dataclasses.replace(defaults, **entry)
    except ConfigError as error:
        raise ConfigError(f"{where}.{error.where}", error.what, error.do) from error


def _check_inputs(where: str, entry: Mapping[str, Any], prompts: bool) -> None:
    twice = [key for key in _PROMPT_KEYS if prompts and key in entry]
    if twice:
        raise ConfigError(
            f"{where}.{twice[0]}", "is decided by the file of --prompt", "leave it out"
        )
    if not prompts and entry.get("inputs") == "prompt":
        raise ConfigError(f"{where}.inputs", "is prompt, and there is none", "give --prompt FILE")


def _check_unique(where: str, value: object) -> None:
    if isinstance(value, KeyTwice):
        raise ConfigError(where, f"has the key {value.key!r} twice", "leave one out")
