"""The shapes of the published Qwen3 text models, and what follows from them by arithmetic.

Pure data: nothing here needs torch, a network or a checkpoint.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from dataclasses import dataclass

from qwen3_profile.errors import ModelError, closest
from qwen3_profile.measure.model import hybrid_shapes
from qwen3_profile.run_folder.model_shape import Experts, Shape


@dataclass(frozen=True, slots=True)
class Found:
    """What `lookup` found.

    name: the published name, such as "Qwen/Qwen3-0.6B".
    is_alias: the name asked for was never published, and `name` stands in for it.
    quantised: how its weights are packed, such as "FP8"; empty where they are not. Its shape is
        that of the model that it was made from.
    """

    name: str
    shape: Shape
    is_alias: bool
    quantised: str = ""


# Where the values come from, at the commits that were read.
_MAXTEXT = "AI-Hypercomputer/maxtext e591f30 hf_model_configs.py"
_TITAN = "pytorch/torchtitan b5bcd76 models/qwen3/__init__.py"
_SCRATCH = "rasbt/LLMs-from-scratch 28c65cd llms_from_scratch/qwen3.py"
_SLIME = "THUDM/slime 624b824 scripts/models"
_MINDSPEED = "Ascend/MindSpeed-RL model yaml"
_REPORT = "Qwen3 technical report, arXiv 2505.09388, tables 1 and 2"
_CONFIG = "published config.json, verbatim copy in a public repository"
_FIELDS = "fields of the published config.json that public programs ask for when they load it"
_DENSE = (_MAXTEXT, _TITAN, _SCRATCH, _SLIME, _REPORT)

# `-Base` checkpoints are the same but for the context they were trained with. Read in a config
# for 0.6B, taken to hold for the others.
_BASE_CONTEXT = 32768
_LONG_CONTEXT = 262144

_0_6B = Shape(1024, 3072, 28, 16, 8, True, sources=(*_DENSE, _CONFIG))
_1_7B = Shape(2048, 6144, 28, 16, 8, True, sources=(*_DENSE, _CONFIG))
_4B = Shape(2560, 9728, 36, 32, 8, True, sources=(*_DENSE, _CONFIG))
_8B = Shape(4096, 12288, 36, 32, 8, False, sources=(*_DENSE, _CONFIG))
_14B = Shape(5120, 17408, 40, 40, 8, False, sources=_DENSE)
_32B = Shape(5120, 25600, 64, 64, 8, False, sources=(*_DENSE, _MINDSPEED, _CONFIG))
_30B_A3B = Shape(
    2048, 6144, 48, 32, 4, False,
    experts=Experts(128, 8, 768),
    sources=(_TITAN, _SLIME, _MINDSPEED, _REPORT),
)  # fmt: skip
# torchtitan pairs this one's context with the rope_theta of the -2507 models: not followed.
_235B_A22B = Shape(
    4096, 12288, 94, 64, 4, False,
    experts=Experts(128, 8, 1536),
    sources=(_SLIME, _MINDSPEED, _REPORT),
)  # fmt: skip
_CODER_480B = Shape(
    6144, 8192, 62, 96, 8, False, _LONG_CONTEXT, 1e7,
    experts=Experts(160, 8, 2560),
    sources=(_MAXTEXT,),
)  # fmt: skip


def _variant(shape: Shape, context: int, theta: float, *sources: str) -> Shape:
    return dataclasses.replace(
        shape, max_position_embeddings=context, rope_theta=theta, sources=sources
    )


def _base(shape: Shape) -> Shape:
    return _variant(shape, _BASE_CONTEXT, shape.rope_theta, *shape.sources)


_4B_2507 = _variant(_4B, _LONG_CONTEXT, 5e6, _MAXTEXT, _SLIME, _CONFIG)
_30B_2507 = _variant(_30B_A3B, _LONG_CONTEXT, 1e7, _MAXTEXT, _SCRATCH)
_235B_2507 = _variant(_235B_A22B, _LONG_CONTEXT, 5e6, _MAXTEXT, _CONFIG)

# What turns texts into vectors or scores is the decoder of a Qwen3, with fewer rows that pad its
# vocabulary. Derived from the counts that are its source; the rerankers are taken to be the same.
_VECTORS = "keras-hub pull request 2455"


def _vectors(shape: Shape, vocab_size: int) -> Shape:
    return dataclasses.replace(_variant(shape, 32768, 1e6, _VECTORS), vocab_size=vocab_size)


_VECTOR_SHAPES = {
    "0.6B": _vectors(_0_6B, 151669),
    "4B": _vectors(_4B, 151665),
    "8B": _vectors(_8B, 151665),
}
# The text towers of models that see and hear; without positions in pictures they are Qwen3's.
_VL_2B = _variant(_1_7B, _LONG_CONTEXT, 5e6, _MAXTEXT)
_VL_4B = _variant(_4B, _LONG_CONTEXT, 5e6, _MAXTEXT)
_VL_8B = _variant(_8B, _LONG_CONTEXT, 5e6, _FIELDS)
_VL_32B = _variant(_32B, _LONG_CONTEXT, 5e6, _FIELDS)
_VL_30B = _variant(_30B_A3B, _LONG_CONTEXT, 5e6, _MAXTEXT)
_VL_235B = _variant(_235B_A22B, _LONG_CONTEXT, 5e6, _CONFIG)
_OMNI = dataclasses.replace(
    _variant(_30B_A3B, 65536, 1e6, "AI-Hypercomputer/maxtext e591f30 yml"), vocab_size=152064
)

PUBLISHED: dict[str, Shape] = {
    "Qwen/Qwen3-0.6B": _0_6B,
    "Qwen/Qwen3-0.6B-Base": _base(_0_6B),
    "Qwen/Qwen3-1.7B": _1_7B,
    "Qwen/Qwen3-1.7B-Base": _base(_1_7B),
    "Qwen/Qwen3-4B": _4B,
    "Qwen/Qwen3-4B-Base": _base(_4B),
    "Qwen/Qwen3-4B-Instruct-2507": _4B_2507,
    "Qwen/Qwen3-4B-Thinking-2507": _4B_2507,
    "Qwen/Qwen3-8B": _8B,
    "Qwen/Qwen3-8B-Base": _base(_8B),
    "Qwen/Qwen3-14B": _14B,
    "Qwen/Qwen3-14B-Base": _base(_14B),
    "Qwen/Qwen3-32B": _32B,
    "Qwen/Qwen3-30B-A3B": _30B_A3B,
    "Qwen/Qwen3-30B-A3B-Base": _base(_30B_A3B),
    "Qwen/Qwen3-30B-A3B-Instruct-2507": _30B_2507,
    "Qwen/Qwen3-30B-A3B-Thinking-2507": _30B_2507,
    "Qwen/Qwen3-Coder-30B-A3B-Instruct": dataclasses.replace(
        _30B_2507, intermediate_size=5472, sources=(_MAXTEXT, _CONFIG)
    ),
    "Qwen/Qwen3-235B-A22B": _235B_A22B,
    "Qwen/Qwen3-235B-A22B-Instruct-2507": _235B_2507,
    "Qwen/Qwen3-235B-A22B-Thinking-2507": _235B_2507,
    "Qwen/Qwen3-Coder-480B-A35B-Instruct": _CODER_480B,
    **hybrid_shapes.HYBRIDS,
    **{f"Qwen/Qwen3-Embedding-{size}": shape for size, shape in _VECTOR_SHAPES.items()},
    **{f"Qwen/Qwen3-Reranker-{size}": shape for size, shape in _VECTOR_SHAPES.items()},
    "Qwen/Qwen3-VL-2B-Instruct": _VL_2B,
    "Qwen/Qwen3-VL-2B-Thinking": _VL_2B,
    "Qwen/Qwen3-VL-4B-Instruct": _VL_4B,
    "Qwen/Qwen3-VL-4B-Thinking": _VL_4B,
    "Qwen/Qwen3-VL-8B-Instruct": _VL_8B,
    "Qwen/Qwen3-VL-8B-Thinking": _VL_8B,
    "Qwen/Qwen3-VL-32B-Instruct": _VL_32B,
    "Qwen/Qwen3-VL-32B-Thinking": _VL_32B,
    "Qwen/Qwen3-VL-30B-A3B-Instruct": _VL_30B,
    "Qwen/Qwen3-VL-30B-A3B-Thinking": _VL_30B,
    "Qwen/Qwen3-VL-235B-A22B-Instruct": _VL_235B,
    "Qwen/Qwen3-VL-235B-A22B-Thinking": _VL_235B,
    "Qwen/Qwen3-Omni-30B-A3B-Instruct": _OMNI,
    "Qwen/Qwen3-Omni-30B-A3B-Thinking": _OMNI,
}

# A name that people write although nobody published it -> the model that they mean.
ALIASES: dict[str, str] = {
    "Qwen/Qwen3-0.5B": "Qwen/Qwen3-0.6B",
    "Qwen/Qwen3-Next-80B-A3B": "Qwen/Qwen3-Next-80B-A3B-Instruct",
}

_OWNER = "Qwen/"
# What publishers add to the name of a model whose weights they have packed.
_QUANTISED = re.compile(
    r"-(?P<how>(FP8|AWQ|GPTQ|GGUF|NVFP4|MXFP4|Int4|Int8|[48]bit)(-Int[48]|-[48]bit)?)$",
    re.IGNORECASE,
)


_TOWER = "{name}: only its text tower is profiled, without what it sees or hears"
_HEADLESS = "{name}: profiled with the head of a Qwen3, of which it makes no use"
_REMARKS = (
    ("/Qwen3-VL-", _TOWER), ("/Qwen3-Omni-", _TOWER),
    ("/Qwen3-Embedding-", _HEADLESS), ("/Qwen3-Reranker-", _HEADLESS),
)  # fmt: skip


def lookup(name: str) -> Found | None:
    """The published model that `name` means; upper and lower case and `Qwen/` do not matter."""
    alias = _spelled(name, ALIASES)
    published = ALIASES[alias] if alias else _spelled(name, PUBLISHED)
    if published is None:
        return _quantised(name)
    return Found(published, PUBLISHED[published], alias is not None)


def _quantised(name: str) -> Found | None:
    """What a name means that is a published one with how its weights are packed behind it."""
    match = _QUANTISED.search(name)
    found = lookup(name[: match.start()]) if match else None
    if match is None or found is None or found.is_alias:
        return None
    return dataclasses.replace(found, name=f"{found.name}{match[0]}", quantised=match["how"])


def remarks(found: Found) -> tuple[str, ...]:
    """What a run has to say of a name besides that it was found."""
    return tuple(text.format(name=found.name) for mark, text in _REMARKS if mark in found.name)


def nearest(name: str) -> str:
    """What to try instead of the unknown `name`: the nearest published name, and all of them."""
    owned = name if "/" in name else f"{_OWNER}{name}"
    known = ", ".join(published.removeprefix(_OWNER) for published in PUBLISHED)
    longer = [each for each in PUBLISHED if each.lower().startswith(owned.lower())]
    near = closest(owned, longer or PUBLISHED)
    return f"{near} the known ones are {known}" if near else f"the known ones are {known}"


def cut(name: str, shape: Shape, num_layers: int | None) -> Shape:
    """`shape` with its first `num_layers` layers only; None for all of them.

    Raises:
        ModelError: the model `name` has fewer.
    """
    if num_layers is None:
        return shape
    if num_layers > shape.num_hidden_layers:
        what = f"{name} has {shape.num_hidden_layers} layers, {num_layers} were asked for"
        raise ModelError("--num-layers", what, f"take 1 to {shape.num_hidden_layers}")
    linear = shape.linear
    if linear is not None:
        linear = dataclasses.replace(linear, layer_types=linear.layer_types[:num_layers])
    return dataclasses.replace(shape, num_hidden_layers=num_layers, linear=linear)


def parameter_count(shape: Shape) -> int:
    """All parameters; a head that is tied to the embedding is counted once."""
    embeddings = 1 if shape.tie_word_embeddings else 2
    outside = embeddings * shape.vocab_size * shape.hidden_size + shape.hidden_size
    linear = hybrid_shapes.linear_layers(shape)
    mixers = linear * hybrid_shapes.mixer_parameters(shape)
    mixers += (shape.num_hidden_layers - linear) * _attention_parameters(shape)
    sparse = len(shape.moe_layers)
    dense = shape.num_hidden_layers - sparse
    experts = shape.experts.num_experts if shape.experts else 0
    return (
        outside
        + mixers
        + shape.num_hidden_layers * 2 * shape.hidden_size
        + dense * 3 * shape.hidden_size * shape.intermediate_size
        + sparse * (experts * (_expert_parameters(shape) + shape.hidden_size))
        + sparse * _shared_parameters(shape)
    )


def active_parameter_count(shape: Shape) -> int:
    """The parameters that one token goes through; all of them in a dense model."""
    if shape.experts is None:
        return parameter_count(shape)
    idle = shape.experts.num_experts - shape.experts.num_experts_per_tok
    return parameter_count(shape) - len(shape.moe_layers) * idle * _expert_parameters(shape)


def kv_bytes_per_token(shape: Shape, bytes_per_value: int) -> int:
    """What each token of each sequence adds to the KV cache, in bytes; linear layers have none."""
    width = shape.num_key_value_heads * shape.head_dim
    layers = shape.num_hidden_layers - hybrid_shapes.linear_layers(shape)
    return 2 * layers * width * bytes_per_value


def _attention_parameters(shape: Shape) -> int:
    query = shape.num_attention_heads * shape.head_dim
    key = shape.num_key_value_heads * shape.head_dim
    gate = query if shape.attn_output_gate else 0
    biases = query + gate + 2 * key + shape.hidden_size if shape.attention_bias else 0
    weights = shape.hidden_size * (2 * query + gate + 2 * key)
    return weights + 2 * shape.head_dim + biases


def _expert_parameters(shape: Shape) -> int:
    width = shape.experts.moe_intermediate_size if shape.experts else 0
    return 3 * shape.hidden_size * width


def _shared_parameters(shape: Shape) -> int:
    """Of the expert that every token visits, and of its gate."""
    width = shape.experts.shared_expert_intermediate_size if shape.experts else 0
    return shape.hidden_size * (3 * width + 1) if width else 0


def _spelled(name: str, names: Iterable[str]) -> str | None:
    owned = name if "/" in name else f"{_OWNER}{name}"
    return next((known for known in names if known.lower() == owned.lower()), None)
