"""How a model runs its attention: the implementations by name, and the one that it uses next.

What is not installed here is never fetched from a hub.
"""

from __future__ import annotations

from typing import Any

import torch

from qwen3_profile.config import suggest
from qwen3_profile.errors import ModelError
from qwen3_profile.measure.model.transformers_compat import explained

_FLAG = "--attn-implementation"


def known_attention_names() -> list[str]:
    """The attention implementations that this transformers knows, installed here or not."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    # The paged ones belong to a server with a cache of its own.
    names = (name for name in ALL_ATTENTION_FUNCTIONS.valid_keys() if "paged" not in name)
    return ["eager", *sorted(names)]


def attention_names() -> list[str]:
    """Those of them that this machine can load."""
    from transformers import utils

    def installed(name: str) -> bool:
        # Without the package, some versions would fetch a kernel from a hub: never here.
        if not name.startswith("flash_attention_"):
            return True
        test = getattr(utils, f"is_flash_attn_{name.rpartition('_')[2]}_available", None)
        return test is not None and bool(test())

    return [name for name in known_attention_names() if installed(name)]


def check_attention_name(name: str) -> None:
    """Refuses a name that transformers does not know, before anything is loaded.

    Raises:
        ModelError: with the nearest name that it does know.
    """
    known = known_attention_names()
    if name not in known:
        raise ModelError(_FLAG, f"{name} is not known", suggest(name, known))


def set_attention(model: Any, name: str) -> None:
    """Makes `model` use the attention implementation `name` from its next forward on.

    Raises:
        ModelError: it is not known, not installed, or cannot work with this model.
    """
    check_attention_name(name)
    offered = attention_names()
    if name not in offered:
        raise ModelError(_FLAG, f"{name} is not installed", f"there is {', '.join(offered)}")
    if name.startswith("flash_attention_") and not _flash_can_run(model):
        what = f"{name} needs a GPU and float16 or bfloat16, not {model.dtype} on {model.device}"
        raise ModelError(_FLAG, what, "take sdpa")
    with explained(_FLAG, f"{name} cannot be used"):
        if hasattr(model, "set_attn_implementation"):  # from 4.53 on
            model.set_attn_implementation(name)
        else:
            model.config._attn_implementation = name


def attention_of(model: Any) -> str:
    """The name of the attention implementation that `model` uses."""
    return str(model.config._attn_implementation)


def _flash_can_run(model: Any) -> bool:
    return model.device.type != "cpu" and model.dtype in (torch.float16, torch.bfloat16)
