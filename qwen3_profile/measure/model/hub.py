"""Finds a model's files: in a directory, the local cache or the hub; or says why there are none.

The hub's client waits for half a minute and more when there is no network; one question with a
deadline comes first, so that a machine without a hub goes on at once.
"""

from __future__ import annotations

import json
import os
import queue
import threading
from dataclasses import dataclass
from pathlib import Path

from qwen3_profile.errors import ModelError

HUB_PATIENCE_S = 3.0

_CONFIG_FILE = "config.json"
_WEIGHTS_FILE = "model.safetensors"
_INDEX_FILE = "model.safetensors.index.json"


@dataclass(frozen=True, slots=True)
class Source:
    """Where a model's files are.

    place: "directory", "cache", "hub", or "nowhere".
    location: the directory's path or the hub name.
    has_weights: weights in safetensors files are there, not only the config.
    reason: why there are no weights; empty where there are.
    """

    place: str
    location: str
    has_weights: bool
    reason: str = ""


# Who cannot reach the hub may reach another one.
_MIRROR = "HF_ENDPOINT names a mirror, and a folder downloaded from ModelScope can be --model-name"


def is_directory(name: str) -> bool:
    """Whether `name` means a local model directory rather than a name on the hub.

    Raises:
        ModelError: it can only be a path, and holds no model.
    """
    path = Path(name).expanduser()
    if (path / _CONFIG_FILE).is_file():
        return True
    if path.is_absolute() or name.startswith(("./", "../", "~")) or name in (".", ".."):
        what = f"has no {_CONFIG_FILE}" if path.is_dir() else "is not a directory"
        raise ModelError(name, what, "give a directory with a Qwen3 config, or a hub name")
    return False


def locate(name: str, ask_hub: bool) -> Source:
    """Looks for a model's files: as a directory, in the local cache, and on the hub.

    Args:
        name: a directory or a hub name.
        ask_hub: whether the network may be used; never with HF_HUB_OFFLINE=1.

    Raises:
        ModelError: the name is neither a directory nor a possible hub name.
    """
    if is_directory(name):
        return _in_directory(Path(name).expanduser())
    cached = _in_cache(name)
    if cached.has_weights or not ask_hub:
        return cached
    reason = "HF_HUB_OFFLINE is set" if _offline() else _why_hub_fails(name)
    if not reason:
        return Source("hub", name, has_weights=True)
    return Source(cached.place, name, has_weights=False, reason=f"{cached.reason} and {reason}")


def find_file(name: str, file: str, ask_hub: bool) -> tuple[Path | None, str]:
    """One file of a model: where it is, or None and why it is not here.

    Args:
        name, ask_hub: as of `locate`. file: its name in the model's folder.
    """
    if is_directory(name):
        path = Path(name).expanduser() / file
        return (path, "") if path.is_file() else (None, f"there is no {file} in {path.parent}")
    cached = _cached_file(name, file)
    if cached is not None:
        return Path(cached), ""
    reason = f"{file} is not in the local cache"
    if not ask_hub:
        return None, reason
    why = "HF_HUB_OFFLINE is set" if _offline() else _why_hub_fails(name)
    return (None, f"{reason} and {why}") if why else _from_hub(name, file)


def _from_hub(name: str, file: str) -> tuple[Path | None, str]:
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(name, file)), ""
    except Exception as error:  # of requests or of httpx, by the client's version
        return None, f"the hub does not give {file} ({type(error).__name__})"


def _in_directory(path: Path) -> Source:
    has_weights = any(path.glob("*.safetensors"))
    reason = "" if has_weights else f"there are no *.safetensors files in {path}"
    return Source("directory", str(path), has_weights, reason)


def _in_cache(name: str) -> Source:
    config = _cached_file(name, _CONFIG_FILE)
    if config is None:
        return Source("nowhere", name, has_weights=False, reason="it is not in the local cache")
    if _cached_file(name, _WEIGHTS_FILE) or _all_shards_cached(name):
        return Source("cache", name, has_weights=True)
    return Source("cache", name, False, "its weights are not (all) in the local cache")


def _all_shards_cached(name: str) -> bool:
    """Whether a download of several files came to its end."""
    index = _cached_file(name, _INDEX_FILE)
    if index is None:
        return False
    try:
        shards = set(json.loads(Path(index).read_bytes())["weight_map"].values())
    except (OSError, ValueError, KeyError, AttributeError):
        return False
    return all(_cached_file(name, shard) for shard in shards)


def _cached_file(name: str, file: str) -> str | None:
    from huggingface_hub import try_to_load_from_cache

    try:
        path = try_to_load_from_cache(name, file)
    except ValueError as error:
        what = "is neither a directory nor a name that a model hub could have"
        raise ModelError(name, what, "give one such as Qwen/Qwen3-0.6B") from error
    # A third answer, an object, means that the hub is known not to have this file.
    return path if isinstance(path, str) else None


def _offline() -> bool:
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE) or os.environ.get("TRANSFORMERS_OFFLINE") == "1"


def _why_hub_fails(name: str) -> str:
    """Empty if the hub has the model, or else why not, within a few seconds.

    The question is asked in a thread because looking up a host has no deadline of its own.
    """
    answer: queue.SimpleQueue[str] = queue.SimpleQueue()
    ask = threading.Thread(target=lambda: answer.put(_ask_hub(name)), daemon=True)
    ask.start()
    try:
        return answer.get(timeout=HUB_PATIENCE_S)
    except queue.Empty:
        return f"the hub does not answer within {HUB_PATIENCE_S:g} s"


def _ask_hub(name: str) -> str:
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HfHubHTTPError

    api = HfApi(endpoint=constants.ENDPOINT)
    try:
        files = api.model_info(name, timeout=HUB_PATIENCE_S).siblings or []
    except HfHubHTTPError as error:
        return f"the hub does not give it (HTTP status {error.response.status_code})"
    except Exception as error:  # of requests or of httpx, by the client's version
        place = constants.ENDPOINT
        return f"the hub at {place} cannot be reached ({type(error).__name__}; {_MIRROR})"
    if not any(file.rfilename.endswith(".safetensors") for file in files):
        return "the hub has no *.safetensors files of it"
    return ""
