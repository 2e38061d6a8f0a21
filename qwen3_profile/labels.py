"""The grammar of label names: what we write into a trace is what we read out of it.

A forward pass of a dense Qwen3 with L layers is labelled so (one sample of each line):

    prefill                                  or decode; one per forward pass; or train_step, which
                                             holds a forward pass, its loss and its backward
      embed_tokens
      causal_mask
      rotary_emb
      layer.7
        layer.7.input_layernorm
        layer.7.attn
          layer.7.attn.q_proj                and q_norm k_proj k_norm v_proj rope kv_cache
          layer.7.attn.attn_forward          attn_forward o_proj
        layer.7.linear_attn                  in place of attn in the linear layers of a hybrid
          layer.7.linear_attn.delta_rule     and in_proj_qkv conv1d norm out_proj ...
        layer.7.post_attention_layernorm
        layer.7.ffn
          layer.7.ffn.gate_proj              and act_fn up_proj down_proj; router and experts
      norm                                   in a mixture of experts
      lm_head
        lm_head.base                         and lora_A lora_B; of any part with adapters of peft
      sample                                 the choice of the next token, in a generation
      loss                                   of all tokens, and
      backward                               the way back, in a train_step

Labels are recognised by name, never by category: torch writes `record_function` ranges as
`user_annotation` and `_RecordFunctionFast` ranges as `cpu_op`.

Ops that lie directly in a container, between two labels, are named here too, by their labelled
neighbours (`gap_name`): the add after `attn` is `residual_attn`, at no cost while running.
The parts themselves are the rows of `label_parts`. This module is pure and knows nothing of torch
or of traces.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache

from qwen3_profile import label_parts
from qwen3_profile.label_parts import blocks, part_names, parts, required_parts

TRAIN_STEP = "train_step"
PHASES = ("prefill", "decode", TRAIN_STEP)
LOSS = "loss"
BACKWARD = "backward"
# What a train_step does not write, for it keeps no cache.
CACHE_PARTS = (".attn.kv_cache", ".linear_attn.state_cache")

# What only the traces of other programs have.
NEUTRAL_PHASE = "forward"
WHOLE_TRACE = "trace"
# Kernels that carry data between devices are parts of the part that launched them, by who does it.
NCCL = "nccl"
COLLECTIVES = (
    NCCL, "msccl", "mscclpp", "custom_all_reduce", "quickreduce", "symmetric_memory",
    "trtllm_flashinfer", "deepep", "mori", "nvshmem",
)  # fmt: skip
# Attention itself: our label of the function, and the gap that it is between modules.
ATTN_CORES = ("attn_forward", "attn_core")

# In place of a layer's index, where one graph serves several layers: the label round it says which.
ANY_LAYER = "layer.*"
OTHER = "other"
# The time of a graph's kernels that could not be given to the parts which launched them.
GRAPH_REPLAY = "graph_replay"
STEP_PREFIX = "ProfilerStep#"

_AFTER_LAYERS = 1 << 20
_LAYER_WORD = re.compile(r"^layer\.[0-9]+")


@cache
def _label() -> re.Pattern[str]:
    return re.compile(
        rf"(?:(?P<phase>{'|'.join(PHASES)})"
        rf"|(?P<model>{'|'.join(part.name for part in parts('phase'))})"
        r"|layer\.(?P<layer>0|[1-9][0-9]{0,4})"
        rf"(?:\.(?P<block>{'|'.join(part.name for part in parts('layer'))})"
        r"(?:\.(?P<part>[a-z][a-z0-9_]*))?)?)"
        rf"(?:\.(?P<piece>{'|'.join(part.name for part in parts('leaf'))}))?"
    )


@dataclass(frozen=True, slots=True)
class Label:
    """One label name, taken apart.

    kind: what the label may contain: "phase", "layer", "attn", "ffn", or "leaf".
    name: the last component, by which neighbours know it: "prefill", "layer", "attn", "q_proj".
    layer: the layer's index, or None outside the layers.
    block: "attn" or "ffn" for a part of one of them, else None.
    """

    kind: str
    name: str
    layer: int | None = None
    block: str | None = None


@lru_cache(maxsize=65536)
def parse(text: str) -> Label | None:
    """The label that `text` is, or None where it is not one of ours."""
    match = _label().fullmatch(text)
    if match is None:
        return None
    if match["piece"]:
        whole = parse(text.removesuffix(f".{match['piece']}"))
        is_leaf = whole is not None and whole.kind == "leaf"
        return replace(whole, name=match["piece"]) if whole is not None and is_leaf else None
    if match["phase"]:
        return Label("phase", text)
    if match["model"]:
        return Label("leaf", text)
    layer = int(match["layer"])
    block, part = match["block"], match["part"]
    if block is None:
        return Label("layer", "layer", layer)
    if part is None:
        return Label(block if block in blocks() else "leaf", block, layer)
    if part not in part_names(block):
        return None
    return Label("leaf", part, layer, block)


def depth(text: str) -> int:
    """How many labels may lie around the label `text`; 0 where it is not one of ours."""
    label = parse(text)
    if label is None or label.kind == "phase":
        return 0
    return text.count(".") + (label.layer is None)


def gap_name(kind: str, before: str | None, after: str | None) -> str | None:
    """What the ops are called that lie directly in a container of `kind`, between two labels.

    Args:
        kind: the container's kind, as in `Label.kind`.
        before, after: the neighbours' `Label.name`, or None at the container's edge.

    Returns:
        A name such as "residual_attn", or None: then the time is the container's `other`.
    """
    if before is None:
        return None
    gaps = label_parts.gaps()
    return gaps.get((kind, before, after)) or gaps.get((kind, before, "*"))


def layer_label(layer: int, block: str | None = None, part: str | None = None) -> str:
    """The name of a layer's label: `layer.7`, `layer.7.attn` or `layer.7.attn.q_proj`."""
    return ".".join(str(word) for word in ("layer", layer, block, part) if word is not None)


def expected_labels(num_layers: int, moe_layers: frozenset[int]) -> Iterator[str]:
    """The labels that each forward pass of a Qwen3 writes at least once, without its phase.

    `causal_mask` is left out: transformers 4.51 builds the mask in a method of the model.
    """
    yield from required_parts("phase")
    for layer in range(num_layers):
        yield layer_label(layer)
        kind = "moe" if layer in moe_layers else "dense"
        for block in required_parts("layer"):
            yield layer_label(layer, block)
            yield from (layer_label(layer, block, part) for part in required_parts(block, kind))


def place(label: str) -> tuple[int, int, str]:
    """Sorts labels, of parts and of gaps, as a forward pass comes by them.

    What stands in no table comes last in its layer, and outside of the layers before them; a
    container stands for what has no name in it.
    """
    part = part_of(label)
    if part != label:
        return (*place(part)[:2], label)
    layer, block, name = _words(label)
    if is_container(label):
        at, name = len(label_parts.PARTS), OTHER
    else:
        at = label_parts.places().get((block, name), len(label_parts.PARTS) + 1)
    if layer is not None:
        return (layer, at, name)
    is_after = (
        label_parts.places()["layer", "post_attention_layernorm"] < at <= len(label_parts.PARTS)
    )
    return (_AFTER_LAYERS if is_after else -1, at, name)


def _words(label: str) -> tuple[int | None, str, str]:
    """The layer's index, what a part or gap lies in, and its name."""
    words = label.split(".")
    layer = int(words[1]) if words[0] == "layer" and words[1].isdigit() else None
    block = words[2] if len(words) == 4 else "layer" if len(words) == 3 else "phase"
    return layer, block, words[-1]


def part_of(label: str) -> str:
    """The label of the part that a piece of it belongs to; other labels as they are."""
    above, _, name = label.rpartition(".")
    return part_of(above) if above and name in label_parts.pieces() else label


def every_layer(name: str) -> str:
    """`layer.*.attn` of `layer.7.attn`; other names as they are."""
    return _LAYER_WORD.sub(ANY_LAYER, name)


def fold_layers(names: Iterable[str], num_layers: int) -> tuple[str, ...]:
    """Label names, with `layer.*` in place of the `num_layers` names of what every layer has.

    `layer.0.attn`, `layer.1.attn` and `norm` of two layers become `layer.*.attn` and `norm`.
    """
    groups: dict[str, dict[str, None]] = {}
    for name in names:
        groups.setdefault(every_layer(name), {})[name] = None
    return tuple(
        name
        for every, group in groups.items()
        for name in ((every,) if len(group) == num_layers else group)
    )


def unfold_layers(folded: Iterable[str], num_layers: int) -> Iterator[str]:
    """The names that `fold_layers` was given."""
    for name in folded:
        if name.startswith(ANY_LAYER):
            rest = name.removeprefix(ANY_LAYER)
            yield from (f"{layer_label(layer)}{rest}" for layer in range(num_layers))
        else:
            yield name


def kind_of(label: str) -> str:
    """As `Label.kind`, for labels of any layer too; the forward pass itself has the label ""."""
    if not label:
        return "phase"
    parsed = parse(label.replace(ANY_LAYER, "layer.0", 1))
    return parsed.kind if parsed is not None else "leaf"


def is_container(label: str) -> bool:
    """Whether labels of parts may lie in it."""
    return kind_of(label) != "leaf"


def gap_label(container: str, inner: Sequence[str | None], index: int) -> str:
    """The name of what lies in `container` between its children before and after `index`.

    Args:
        inner: of all that ran, in order, the label inside a container; None where there is none.

    Returns:
        The container's own label where the gap has no name.
    """
    before = _first_child(container, (inner[i] for i in range(index - 1, -1, -1)))
    after = _first_child(container, (inner[i] for i in range(index + 1, len(inner))))
    name = gap_name(kind_of(container), before, after)
    if name is None:
        return container
    return f"{container}.{name}" if container else name


def _first_child(container: str, found: Iterator[str | None]) -> str | None:
    """The child of `container` that the first label inside it lies in, by its name."""
    prefix = f"{container}." if container else ""
    for label in found:
        if label is not None and label.startswith(prefix):
            return label[len(prefix) :].partition(".")[0]
    return None
