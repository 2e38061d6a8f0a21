"""Files in JSON, YAML or TOML as plain values; no key may stand in one object twice."""

from __future__ import annotations

import errno
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from qwen3_profile.errors import ConfigError

# Of what people write by hand, and of prompts: beyond it a file is another one, or never ends.
_MOST_CHARACTERS = 1 << 26


@dataclass(frozen=True, slots=True)
class KeyTwice:
    """Stands for an object that has `key` twice, of which a parser would keep the last."""

    key: str


def read_document(path: Path) -> Any:
    """The value in a file; JSON unless its suffix says YAML or TOML.

    Raises:
        ConfigError: it cannot be read, or is not of its format.
    """
    name, parse = _FORMATS.get(path.suffix.lower(), ("JSON", _from_json))
    try:
        return parse(read_text(path))
    except OSError as error:
        raise ConfigError(str(path), f"cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(str(path), f"is not {name}: {error}") from error


def read_text(path: Path) -> str:
    """The text of a file or a pipe in UTF-8.

    Raises:
        OSError: it cannot be read, or is far too long.
        UnicodeDecodeError: it is no text.
    """
    with open(path, encoding="utf-8-sig") as file:
        text = file.read(_MOST_CHARACTERS + 1)
    if len(text) > _MOST_CHARACTERS:
        raise OSError(errno.EFBIG, f"it is longer than {_MOST_CHARACTERS >> 20} MB")
    return text


def _from_json(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_unique)


def _from_toml(text: str) -> Any:
    # tomli is what the standard library has from Python 3.11 on.
    return import_module("tomllib" if sys.version_info >= (3, 11) else "tomli").loads(text)


def _from_yaml(text: str) -> Any:
    import yaml

    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> Any:
            keys = [self.construct_object(key, deep=True) for key, _ in node.value]
            twice = [key for at, key in enumerate(keys) if key in keys[:at]]
            if twice:
                raise ValueError(f"the key {twice[0]!r} stands twice in one object")
            return super().construct_mapping(node, deep)

    try:
        return yaml.load(text, Loader)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error


_FORMATS: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    ".toml": ("TOML", _from_toml),
    ".yaml": ("YAML", _from_yaml),
    ".yml": ("YAML", _from_yaml),
}


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any] | KeyTwice:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    keys = [key for key, _ in pairs]
    return KeyTwice(next(key for key in keys if keys.count(key) > 1))
