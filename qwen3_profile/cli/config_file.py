"""Files that a command line names: configs in JSON, and prompts."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qwen3_profile.config import RunConfig, json_type
from qwen3_profile.errors import ConfigError, closest

# What a file of prompts decides, and no flag or entry besides it.
_PROMPT_KEYS = ("batch_size", "input_len", "inputs")


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
        prompts: whether a file of prompts decides batch_size, input_len and inputs; without one no
            entry may ask for its inputs.

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


def entries_that_set(path: Path, key: str) -> frozenset[int]:
    """The indices of the entries of a file, as `read_configs` takes it, that have this key."""
    return frozenset(index for index, entry in enumerate(_read_entries(path)) if key in entry)


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
        raise ConfigError(where, f"is {json_type(entry)}", 'write {"batch_size": ...}')
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
    twice = [key for key in _PROMPT_KEYS if prompts and key in entry]
    if twice:
        raise ConfigError(
            f"{where}.{twice[0]}", "is decided by the file of --prompt", "leave it out"
        )
    if not prompts and entry.get("inputs") == "prompt":
        raise ConfigError(f"{where}.inputs", "is prompt, and there is none", "give --prompt FILE")


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
