"""The configs and models of transformers, and where 4.51 to 5.x differ in them.

What differs by version: how a checkpoint's dtype is asked for, where the rotary base is kept, and
how the drawing of first values is skipped; and what `attention`, `kv_cache` and `experts` know.

transformers is imported by the functions, not by this module: it takes seconds, in which the
caller does other work.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch

from qwen3_profile.errors import ModelError, ProfileError
from qwen3_profile.measure.model import hybrid_shapes, other_decoders, published_shapes
from qwen3_profile.measure.model.hub import Source
from qwen3_profile.run_folder.model_shape import Shape

# model_type in config.json -> the folder of its classes, what their names begin with, and what that
# of the config ends in. All others are in `other_decoders`.
_CLASSES = {
    "qwen3": ("qwen3", "Qwen3", ""),
    "qwen3_moe": ("qwen3_moe", "Qwen3Moe", ""),
    "qwen3_next": ("qwen3_next", "Qwen3Next", ""),
    "qwen3_5_text": ("qwen3_5", "Qwen3_5", "Text"),
    "qwen3_5_moe_text": ("qwen3_5_moe", "Qwen3_5Moe", "Text"),
}
# What a transformers that has them is at least.
_SINCE = {
    "qwen3_next": "4.57",
    "qwen3_5_text": "5.2",
    "qwen3_5_moe_text": "5.2",
    "qwen4_exp_text": "5.17",
}
# Of a model that sees and hears: model_type of its text tower -> the decoder that it is.
_TOWERS = {"qwen3_vl_text": "qwen3", "qwen3_vl_moe_text": "qwen3_moe",
           "qwen3_omni_moe_text": "qwen3_moe"}  # fmt: skip
# Such a decoder's config says that it is one, for its weights have other names in the checkpoint.
_IS_TOWER = "is_text_tower"
_TOWER_NAMES = {
    r"^(model\.language_model|thinker\.model)\.": "model.",
    r"^thinker\.lm_head\.": "lm_head.",
}
_OF_THE_WHOLE = ("tie_word_embeddings", "quantization_config")
# In config.json: how many layers there are, and what has an entry for each of them.
_NUMBERS_OF_LAYERS = ("num_hidden_layers", "num_layers", "n_layers", "n_layer")
_MOST_LAYERS = 10_000
_MOST_CHARACTERS = 1 << 24
_LISTS_OF_LAYERS = ("layer_types", "mlp_layer_types", "no_rope_layers")


def import_without_extras() -> None:
    """Imports transformers as if scipy and scikit-learn were not installed.

    It would import both, for the losses of detectors and for assisted generation, which takes two
    seconds. It looks once whether they are there: for a process that runs forward passes alone.
    """
    hidden = [name for name in ("scipy", "sklearn") if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None: not to be found
    try:
        from transformers.utils import is_scipy_available, is_sklearn_available

        is_scipy_available()
        is_sklearn_available()
    finally:
        for name in hidden:
            del sys.modules[name]


def published_config(shape: Shape, dtype: torch.dtype) -> Any:
    """The transformers config of a published shape.

    Every field is given: the defaults of these classes are those of no published model. The
    form is that of the published config.json files, which all versions read.
    """
    values: dict[str, Any] = {
        "model_type": "qwen3_moe" if shape.experts else "qwen3",
        "attention_bias": shape.attention_bias,
        "attention_dropout": 0.0,
        "head_dim": shape.head_dim,
        "hidden_act": "silu",
        "hidden_size": shape.hidden_size,
        "initializer_range": 0.02,
        "intermediate_size": shape.intermediate_size,
        "max_position_embeddings": shape.max_position_embeddings,
        "num_attention_heads": shape.num_attention_heads,
        "num_hidden_layers": shape.num_hidden_layers,
        "num_key_value_heads": shape.num_key_value_heads,
        "rms_norm_eps": shape.rms_norm_eps,
        "rope_scaling": None,
        "rope_theta": shape.rope_theta,
        "sliding_window": None,
        "tie_word_embeddings": shape.tie_word_embeddings,
        "use_cache": True,
        "use_sliding_window": False,
        "vocab_size": shape.vocab_size,
    }
    if shape.experts is not None:
        values |= {
            "decoder_sparse_step": shape.experts.decoder_sparse_step,
            "mlp_only_layers": list(shape.experts.mlp_only_layers),
            "moe_intermediate_size": shape.experts.moe_intermediate_size,
            "norm_topk_prob": shape.experts.norm_topk_prob,
            "num_experts": shape.experts.num_experts,
            "num_experts_per_tok": shape.experts.num_experts_per_tok,
            "output_router_logits": False,
        }
    if shape.linear is not None:
        values |= hybrid_shapes.hybrid_values(shape)
    model_type = values["model_type"]
    stem = _CLASSES[model_type][1] if model_type in _CLASSES else "Qwen4Exp"
    values["architectures"] = [f"{stem}ForCausalLM"]
    return _config("published shape", values, dtype)


def read_config(source: Source, num_layers: int | None, dtype: torch.dtype) -> tuple[Any, int]:
    """The config of a model directory, or of a model in the cache or on the hub.

    Args:
        source: where it is.
        num_layers: keep the first so many layers; None for all.
        dtype: of the weights to be.

    Returns:
        The config, cut, and the number of layers that the model has.

    Raises:
        ModelError: it cannot be read, is no decoder of transformers, or has fewer layers.
    """
    values = _config_values(source)
    with explained(source.location, "has a config with a value of the wrong type"):
        whole = shape_of(_config(source.location, values, dtype))
        published_shapes.parameter_count(whole)
    cut = published_shapes.cut(source.location, whole, num_layers).num_hidden_layers
    values["num_hidden_layers"] = cut
    for key in _LISTS_OF_LAYERS:
        if isinstance(values.get(key), list):
            values[key] = values[key][:cut]
    return _config(source.location, values, dtype), whole.num_hidden_layers


def is_quantised(config: Any) -> bool:
    """Whether a config is that of a checkpoint of packed weights."""
    return getattr(config, "quantization_config", None) is not None


def is_qwen3(config: Any) -> bool:
    """Whether the arithmetic of `published_shapes` holds for a model of this config."""
    return config.model_type in _CLASSES


def shape_of(config: Any) -> Shape:
    """The shape that a transformers config describes; of another than Qwen3 only its sizes."""
    if not is_qwen3(config):
        return other_decoders.shape_of(config)
    # transformers 5 keeps the rotary base among other things; 4 had it by itself.
    rope = getattr(config, "rope_parameters", None) or vars(config)
    head_dim = getattr(config, "head_dim", None)
    linear = other_decoders.linear_layers(config)
    return Shape(
        hidden_size=config.hidden_size,
        intermediate_size=getattr(config, "intermediate_size", 0),
        num_hidden_layers=config.num_hidden_layers,
        num_attention_heads=config.num_attention_heads,
        num_key_value_heads=config.num_key_value_heads,
        tie_word_embeddings=config.tie_word_embeddings,
        max_position_embeddings=config.max_position_embeddings,
        rope_theta=float(rope["rope_theta"]),
        head_dim=head_dim or config.hidden_size // config.num_attention_heads,
        vocab_size=config.vocab_size,
        rms_norm_eps=config.rms_norm_eps,
        attention_bias=config.attention_bias,
        experts=other_decoders.experts_of(config),
        model_type="" if linear is None else config.model_type,
        linear=linear,
        attn_output_gate=linear is not None,
        partial_rotary_factor=rope.get("partial_rotary_factor", 1.0),
    )


def empty_model(config: Any) -> Any:
    """The model of `config` on the meta device: structure without weights."""
    if is_qwen3(config):
        model_class = _class_of(config.model_type, "modeling", "ForCausalLM")
        with torch.device("meta"), _no_initialisation():
            model = model_class(config).eval()
    else:
        with _no_initialisation():
            model = other_decoders.empty_model(config)
    model.tie_weights()
    return model


def pretrained_model(
    source: Source,
    config: Any,
    dtype: torch.dtype,
    device: torch.device | None = None,
    more: Mapping[str, Any] | None = None,
) -> Any:
    """The model with the weights of `source`; safetensors only, no remote code.

    Args:
        device: where they are loaded to; None for the CPU, without asking accelerate.
        more: arguments for transformers.

    Raises:
        ModelError: the weights cannot be loaded, or do not fit the config.
    """
    from transformers.utils import logging

    _check_accelerate(source.location)
    if not sys.stderr.isatty():
        logging.disable_progress_bar()
    verbosity = logging.get_verbosity()
    # Layers that were cut off are not worth a report; what is missing is told below.
    logging.set_verbosity_error()
    try:
        with explained(source.location, "cannot be loaded"):
            model, report = _class_of(config.model_type, "modeling", "ForCausalLM").from_pretrained(
                source.location,
                config=config,
                local_files_only=source.place != "hub",
                output_loading_info=True,
                trust_remote_code=False,
                use_safetensors=True,
                **{_dtype_keyword(): dtype},
                **({"key_mapping": _TOWER_NAMES} if hasattr(config, _IS_TOWER) else {}),
                **({} if device is None else {"device_map": {"": device}}),
                **(more or {}),
            )
    finally:
        logging.set_verbosity(verbosity)
    missing = sorted(report["missing_keys"])
    if missing:
        what = f"lacks {len(missing)} of the model's weights, such as {missing[0]}"
        raise ModelError(source.location, what, "complete it, or run with --weights random")
    return model.eval()


def _check_accelerate(where: str) -> None:
    """The first release with Qwen3 calls a function of accelerate without importing it."""
    from transformers import modeling_utils

    calls = (
        "init_empty_weights" in modeling_utils.PreTrainedModel.get_init_context.__code__.co_names
    )
    if calls and not hasattr(modeling_utils, "init_empty_weights"):
        what = "cannot be loaded: this transformers loads weights only with accelerate"
        raise ModelError(where, what, "install accelerate, or a newer transformers")


@contextmanager
def explained(where: str, what: str) -> Iterator[None]:
    """Turns whatever the library raises about bad input into one line of ours."""
    try:
        yield
    except (ProfileError, torch.OutOfMemoryError):
        raise
    # A checkpoint or a config can be wrong in so many ways that the library raises anything.
    except Exception as error:
        text = " ".join(str(error).split())
        short = text if len(text) <= 300 else f"{text[:300]} ..."
        raise ModelError(where, f"{what}: {type(error).__name__}: {short}") from error


def _config_values(source: Source) -> dict[str, Any]:
    with explained(source.location, "has no readable config.json"):
        if source.place == "directory":
            path = Path(source.location) / "config.json"
            values = json.loads(_config_text(path))
        else:
            config_class = _class_of("qwen3", "configuration", "Config")
            values, _ = config_class.get_config_dict(
                source.location, local_files_only=source.place != "hub"
            )
        if not isinstance(values, dict):
            raise TypeError("it is not an object")
    values = _text_values(values)
    kind = values.get("model_type")
    if not isinstance(kind, str) or not (kind in _CLASSES or other_decoders.is_known(kind)):
        what = f"is a model of type {kind!r}, of which this transformers has no decoder"
        do = "take a Qwen3, or a Llama, Mistral, Gemma, ..."
        raise ModelError(source.location, what, _newer(kind) or do)
    return values


def _config_text(path: Path) -> str:
    with open(path, encoding="utf-8") as file:
        text = file.read(_MOST_CHARACTERS + 1)
    if len(text) > _MOST_CHARACTERS:
        raise OSError("it is too large for one")
    return text


def _check_layers(where: str, values: Mapping[str, Any]) -> None:
    """A config makes lists of so many; here, for it may take the memory of the machine."""
    for key in _NUMBERS_OF_LAYERS:
        count = values.get(key)
        if isinstance(count, int | float) and count > _MOST_LAYERS:
            what = f"has a config with {key} {count}, and more than {_MOST_LAYERS} are no model"
            raise ModelError(where, what, "correct its config.json")


def _text_values(values: dict[str, Any]) -> dict[str, Any]:
    """The config of the decoder, which models that see and hear have inside theirs."""
    outer = values.get("thinker_config", values)
    text = outer.get("text_config") if isinstance(outer, dict) else None
    if not isinstance(text, dict) or not isinstance(text.get("model_type"), str):
        return dict(values)
    kind = text["model_type"]
    # What the whole says of its head and of how it is packed holds for the decoder too.
    above = {key: values[key] for key in _OF_THE_WHOLE if key in values}
    if kind not in _TOWERS:
        return above | text
    return above | text | {"model_type": _TOWERS[kind], _IS_TOWER: True}


def _newer(model_type: object) -> str:
    since = _SINCE.get(model_type) if isinstance(model_type, str) else None
    return f"install transformers {since} or newer, which has it" if since else ""


def _config(where: str, values: dict[str, Any], dtype: torch.dtype) -> Any:
    _check_layers(where, values)
    with explained(where, "has a config that transformers refuses"):
        name = str(dtype).removeprefix("torch.")
        given = {key: value for key, value in values.items() if key != "dtype"}
        config_class = _class_of(values["model_type"], "configuration", "Config")
        return config_class.from_dict(given | {"torch_dtype": name})


def _class_of(model_type: str, module: str, suffix: str) -> Any:
    if model_type not in _CLASSES:
        is_config = module == "configuration"
        return (other_decoders.config_class if is_config else other_decoders.model_class)(
            model_type
        )
    folder, stem, of_config = _CLASSES[model_type]
    name = f"{stem}{of_config if module == 'configuration' else ''}{suffix}"
    # Straight from its module: the automatic classes import every model first.
    path = f"transformers.models.{folder}.{module}_{folder}"
    try:
        return getattr(importlib.import_module(path), name)
    except ModuleNotFoundError as error:
        import transformers

        what = f"transformers {transformers.__version__} has no {name}"
        raise ModelError("the model", what, _newer(model_type)) from error


def _no_initialisation() -> AbstractContextManager[Any]:
    """Spares the drawing of values that a meta device drops; it takes most of the time in 4.x."""
    for module in ("transformers.initialization", "transformers.modeling_utils"):
        try:
            return importlib.import_module(module).no_init_weights()  # type: ignore[no-any-return]
        except (AttributeError, ImportError):
            continue
    return nullcontext()


def _dtype_keyword() -> str:
    import transformers

    major, minor = (int(part) for part in transformers.__version__.split(".")[:2])
    return "dtype" if (major, minor) >= (4, 56) else "torch_dtype"
