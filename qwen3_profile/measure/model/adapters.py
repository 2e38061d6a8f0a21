"""Puts adapters of peft round a model's Linears, and says which a model has."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from qwen3_profile.config import ModelRequest
from qwen3_profile.errors import ModelError, in_words
from qwen3_profile.run_folder.model_weights import Adapter

_CONFIG_FILE = "adapter_config.json"
_RANDOM = "random"
# As is usual: what an adapter adds is scaled by alpha / rank.
_ALPHA_PER_RANK = 2


def check_adapters(request: ModelRequest) -> None:
    """Refuses a folder that holds no adapter, before anything slow happens.

    Raises:
        ModelError: it has no config of peft.
    """
    for folder in request.adapters:
        if not (Path(folder).expanduser() / _CONFIG_FILE).is_file():
            what = f"holds no {_CONFIG_FILE}"
            raise ModelError(f"--adapter {folder}", what, "give a folder that peft has saved")


def add_adapters(model: Any, request: ModelRequest) -> Any:
    """The model with the adapters that are asked for, all of them active; its class stays its own.

    Raises:
        ModelError: peft is not there, or refuses one.
    """
    if not request.adapters and request.lora_rank is None:
        return model
    flag = "--adapter" if request.adapters else "--lora-rank"
    try:
        import peft
    except ModuleNotFoundError as error:
        raise ModelError(flag, f"needs {error.name}", f"pip install {error.name}") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of merging, which is not what is measured
            wrapped = _wrapped(peft, model, request)
            if request.merge_adapters:
                wrapped.merge_adapter()
    # What a folder, or a model, has wrong may end anywhere in peft.
    except Exception as error:
        raise ModelError(flag, f"cannot be put round this model: {in_words(error)}") from error
    for parameter in wrapped.parameters():
        parameter.requires_grad_(False)
    return wrapped.get_base_model().eval()


def _wrapped(peft: Any, model: Any, request: ModelRequest) -> Any:
    folders = [Path(folder).expanduser() for folder in request.adapters]
    names = _names(folders)
    wrapped: Any = None
    for folder, name in zip(folders, names, strict=True):
        if wrapped is None:
            wrapped = peft.PeftModel.from_pretrained(model, folder, adapter_name=name)
        else:
            wrapped.load_adapter(folder, adapter_name=name)
    if request.lora_rank is not None:
        wrapped = _with_random(peft, model, wrapped, request.lora_rank, request.seed)
        names.append(_RANDOM)
    wrapped.base_model.set_adapter(names)
    return wrapped


def _with_random(peft: Any, model: Any, wrapped: Any, rank: int, seed: int) -> Any:
    config = peft.LoraConfig(
        r=rank,
        lora_alpha=_ALPHA_PER_RANK * rank,
        target_modules="all-linear",
        init_lora_weights=False,
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if wrapped is None:
            return peft.get_peft_model(model, config, adapter_name=_RANDOM)
        wrapped.add_adapter(_RANDOM, config)
    return wrapped


def _names(folders: Sequence[Path]) -> list[str]:
    """What each is called: as its folder, as far as a name of a module may be so."""
    found: list[str] = []
    for at, folder in enumerate(folders):
        name = "".join(c if c.isalnum() or c in "-_" else "_" for c in folder.resolve().name)
        found.append(name if name and name not in (*found, _RANDOM) else f"{name}_{at}")
    return found


def adapters_of(model: nn.Module) -> tuple[Adapter, ...]:
    """The adapters that a model has, whoever put them there."""
    layers = {name: module for name, module in model.named_modules() if _is_adapted(module)}
    names = dict.fromkeys(name for module in layers.values() for name in module.r)
    return tuple(_adapter(name, layers) for name in names)


def _adapter(name: str, layers: dict[str, Any]) -> Adapter:
    mine = {path: module for path, module in layers.items() if name in module.r}
    return Adapter(
        name=name,
        rank=max(module.r[name] for module in mine.values()),
        parameters=sum(each.numel() for module in mine.values() for each in _held(module, name)),
        parts=tuple(dict.fromkeys(path.rpartition(".")[2] for path in mine)),
        active=any(name in module.active_adapters for module in mine.values())
        and not any(module.disable_adapters for module in mine.values()),
        merged=any(name in module.merged_adapters for module in mine.values()),
    )


def _held(module: Any, name: str) -> Iterator[nn.Parameter]:
    """The parameters that a layer has of one adapter."""
    for kind in module.adapter_layer_names:
        held = getattr(module, kind, {})
        if name in held:
            each = held[name]
            yield from each.parameters() if isinstance(each, nn.Module) else (each,)


def _is_adapted(module: nn.Module) -> bool:
    names = ("base_layer", "r", "adapter_layer_names", "active_adapters")
    return all(hasattr(module, name) for name in names)
