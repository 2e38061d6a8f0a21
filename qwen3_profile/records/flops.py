"""What the parts of a forward pass compute, in FLOPs, from the sizes of the model and of the pass.

The product of [m, k] and [k, n] is 2 m k n: a multiplication and an addition each, as
torch.utils.flop_counter counts. Element-wise work (norms, rope, activations, softmax) counts as
none, there as in the usual accounts of a model's FLOPs (Chowdhery et al., PaLM, 2022, appendix B).
No dtype changes a FLOP; it changes how fast they go.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from qwen3_profile.labels import layer_label
from qwen3_profile.passes.compiled.part_names import part_name
from qwen3_profile.run_folder.model_shape import Shape
from qwen3_profile.run_folder.model_weights import Adapter

if TYPE_CHECKING:
    from qwen3_profile.config import RunConfig

# The delta rule's chunks; see `delta_rule_flops`.
DELTA_CHUNK = 64


@dataclass(frozen=True, slots=True)
class Flops:
    """What the parts of one forward pass compute, or of several together.

    forward, backward: label -> FLOPs of each part that multiplies matrices; none of the others.
    unknown: the parts, by name, that do too, and nobody knows how much.
    """

    forward: Mapping[str, int]
    backward: Mapping[str, int] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()

    def __add__(self, other: Flops) -> Flops:
        return Flops(
            dict(Counter(self.forward) + Counter(other.forward)),
            dict(Counter(self.backward) + Counter(other.backward)),
            tuple(dict.fromkeys((*self.unknown, *other.unknown))),
        )

    @property
    def total(self) -> int:
        """All of it, as far as it is known."""
        return sum(self.forward.values()) + sum(self.backward.values())

    def by_part(self) -> dict[str, int | None]:
        """Name of a part -> its FLOPs in all layers, on the way there and back; None where unknown.

        A part that multiplies no matrices is not in it.
        """
        found: Counter[str] = Counter()
        for label, flops in (*self.forward.items(), *self.backward.items()):
            found[part_name(label)] += flops
        return {**found, **dict.fromkeys(self.unknown)}


@dataclass(frozen=True, slots=True)
class PassSize:
    """What of a forward pass decides how much it computes.

    sequences, tokens: how many, and how many tokens of each go through the layers, padding and all.
    pairs: of a query and a key that attention multiplies, of one head and all sequences together.
    logits: how many tokens go through the head.
    routed: layer -> how many tokens its experts got together, each counted at every expert that it
        goes to; where it is not known, as many as the model's top-k makes of them.
    is_decode: a token of each sequence, with states of those before.
    keeps_scores: whether attention keeps its scores for the backward; flash attention makes them
        again.
    adapters: those that run beside the weights.
    """

    sequences: int
    tokens: int
    pairs: int
    logits: int
    routed: Mapping[int, int] = field(default_factory=dict)
    is_decode: bool = False
    keeps_scores: bool = False
    adapters: tuple[Adapter, ...] = ()

    @property
    def rows(self) -> int:
        """All tokens of the pass."""
        return self.sequences * self.tokens


@dataclass(frozen=True, slots=True)
class Linear:
    """A product with weights [out, into]; each of its `rows` is multiplied with all of them."""

    rows: int
    into: int
    out: int

    @property
    def flops(self) -> int:
        """2 rows into out: `mm_flop` of torch.utils.flop_counter."""
        return 2 * self.rows * self.into * self.out


def flops_json(flops: Flops, steps: int) -> dict[str, Any]:
    """FLOPs per forward pass; `flops` is the sum of `steps` of them."""
    parts = flops.by_part()
    return {
        "total": None if flops.unknown else flops.total / steps,
        "known": flops.total / steps,
        "parts": {name: None if n is None else n / steps for name, n in parts.items()},
    }


def forward_flops(shape: Shape, size: PassSize) -> dict[str, int]:
    """Label -> FLOPs of every part of a forward pass that may multiply matrices.

    Names are those that any decoder may have, such as `qkv_proj`, whether this one has them or not.
    """
    found: dict[str, int] = {}
    for label, linear in linears(shape, size):
        found[label] = linear.flops
        for piece, inside in adapted(label, linear, size.adapters):
            found.pop(label, None)
            found[f"{label}.{piece}"] = inside.flops
    for layer in range(shape.num_hidden_layers):
        if shape.is_linear(layer):
            found[layer_label(layer, "linear_attn", "conv1d")] = conv_flops(shape, size)
            found[layer_label(layer, "linear_attn", "delta_rule")] = delta_rule_flops(shape, size)
        else:
            found[layer_label(layer, "attn", "attn_forward")] = attention_flops(shape, size)
    return found


def attention_flops(shape: Shape, size: PassSize) -> int:
    """4 pairs heads head_dim: queries with keys, and their weights with values
    (`sdpa_flop` of torch.utils.flop_counter, which counts all pairs also where half are masked).

    Keys and values shared between heads save bytes, and no FLOPs.
    """
    return 4 * size.pairs * shape.num_attention_heads * shape.head_dim


def conv_flops(shape: Shape, size: PassSize) -> int:
    """2 taps channels for each position of a depthwise convolution (`conv_flop` of torch).

    Positions are those that the plain code computes: in a prefill with the padding before the first
    token, in a decode step the new one and the oldest that is kept.
    """
    assert shape.linear is not None
    taps = shape.linear.linear_conv_kernel_dim
    positions = 2 if size.is_decode else size.tokens + taps - 1
    return 2 * taps * _channels(shape) * positions * size.sequences


def delta_rule_flops(shape: Shape, size: PassSize) -> int:
    """Of the gated delta rule (Yang et al., 2024, "Gated Delta Networks", section 3.3).

    A decode step decays a state [K, V] of each value head, multiplies it with key and query, and
    adds a product of two vectors: 7 K V. A prefill goes by chunks of C tokens, the last one filled
    up: 6 K V + 4 C K + 2 C V for the products of each token and head, and what
    `triangular_flops` says.
    """
    assert shape.linear is not None
    heads = shape.linear.linear_num_value_heads
    keys, values = shape.linear.linear_key_head_dim, shape.linear.linear_value_head_dim
    if size.is_decode:
        return 7 * keys * values * heads * size.rows
    products = 6 * keys * values + 4 * DELTA_CHUNK * keys + 2 * DELTA_CHUNK * values
    return products * heads * _chunked(size) + triangular_flops(shape, size)


def triangular_flops(shape: Shape, size: PassSize) -> int:
    """C (K + V) for each token and head: the triangular systems of the delta rule's chunks, of C^2
    for each right side (Golub and Van Loan, "Matrix Computations", 3.1).
    """
    assert shape.linear is not None
    linear = shape.linear
    sides = linear.linear_key_head_dim + linear.linear_value_head_dim
    return DELTA_CHUNK * sides * linear.linear_num_value_heads * _chunked(size)


def attention_pairs(
    config: RunConfig, phase: str, position: int, attention: str, lengths: Sequence[int]
) -> int:
    """The pairs of a query and a key that are multiplied, of one head and all sequences together.

    What can leave out masked keys does: flash and flex attention, and sdpa where the mask is
    nothing but causal. Else all keys that there are, those of a static cache that no token has
    written yet among them.

    Args:
        position: of a decode step, how many came before it.
        attention: the implementation that ran.
        lengths: the tokens of each sequence of the input, without its padding.
    """
    tokens, batch = config.input_len, config.batch_size
    leaves_out = attention.startswith(("flash", "flex"))
    is_static = config.cache == "static"
    if phase == "decode":
        keys = tokens + (config.decode_steps if is_static else position + 1)
        return sum(n + position + 1 for n in lengths) if leaves_out else batch * keys
    keys = tokens + (config.decode_steps if is_static else 0)
    is_padded = sum(lengths) != batch * tokens
    if leaves_out or (attention == "sdpa" and not is_padded):
        return sum(n * (n + 1) // 2 for n in lengths)
    return batch * tokens * keys


def _chunked(size: PassSize) -> int:
    """The tokens of all sequences, each filled up to whole chunks."""
    return size.sequences * -(-size.tokens // DELTA_CHUNK) * DELTA_CHUNK


def linears(shape: Shape, size: PassSize) -> Iterator[tuple[str, Linear]]:
    """Label -> the product of its weights, of every part that is one."""
    for layer in range(shape.num_hidden_layers):
        block = "linear_attn" if shape.is_linear(layer) else "attn"
        mixer = _delta_net(shape) if shape.is_linear(layer) else _attention(shape)
        for name, (into, out) in mixer.items():
            yield layer_label(layer, block, name), Linear(size.rows, into, out)
        for name, linear in _feed_forward(shape, size, layer):
            yield layer_label(layer, "ffn", name), linear
    yield "lm_head", Linear(size.logits, shape.hidden_size, shape.vocab_size)


def _attention(shape: Shape) -> dict[str, tuple[int, int]]:
    """Part -> sizes of its weights. Gated attention has its gates with the queries."""
    hidden = shape.hidden_size
    queries = shape.num_attention_heads * shape.head_dim
    keys = shape.num_key_value_heads * shape.head_dim
    return {
        "q_proj": (hidden, queries * (2 if shape.attn_output_gate else 1)),
        "k_proj": (hidden, keys),
        "v_proj": (hidden, keys),
        "qkv_proj": (hidden, queries + 2 * keys),
        "o_proj": (queries, hidden),
        "dense": (queries, hidden),
    }


def _delta_net(shape: Shape) -> dict[str, tuple[int, int]]:
    """The same of a gated delta net, in one model joined where in another they are apart."""
    assert shape.linear is not None
    hidden, heads = shape.hidden_size, shape.linear.linear_num_value_heads
    values = heads * shape.linear.linear_value_head_dim
    return {
        "in_proj_qkvz": (hidden, _channels(shape) + values),
        "in_proj_ba": (hidden, 2 * heads),
        "in_proj_qkv": (hidden, _channels(shape)),
        "in_proj_z": (hidden, values),
        "in_proj_b": (hidden, heads),
        "in_proj_a": (hidden, heads),
        "out_proj": (values, hidden),
    }


def _feed_forward(shape: Shape, size: PassSize, layer: int) -> Iterator[tuple[str, Linear]]:
    """Three products for each token; of experts for each token that one of them got."""
    hidden, experts = shape.hidden_size, shape.experts
    if experts is None or layer not in shape.moe_layers:
        wide = shape.intermediate_size
        for name in ("gate_proj", "up_proj", "c_fc", "fc1"):
            yield name, Linear(size.rows, hidden, wide)
        for name in ("down_proj", "c_proj", "fc2"):
            yield name, Linear(size.rows, wide, hidden)
        yield "gate_up_proj", Linear(size.rows, hidden, 2 * wide)
        return
    routed = size.routed.get(layer, size.rows * experts.num_experts_per_tok)
    yield "router", Linear(size.rows, hidden, experts.num_experts)
    yield "experts", Linear(routed, hidden, 3 * experts.moe_intermediate_size)
    wide = 3 * experts.shared_expert_intermediate_size
    yield "shared_experts", Linear(size.rows, hidden, wide)
    yield "shared_expert_gate", Linear(size.rows, hidden, 1)


def adapted(
    label: str, linear: Linear, adapters: tuple[Adapter, ...]
) -> Iterator[tuple[str, Linear]]:
    """The pieces of a part with adapters; nothing where it has none.

    Adapters of rank r add [r, into] and [out, r] (Hu et al., 2021, "LoRA", section 4.1).
    """
    name = label.rpartition(".")[2]
    rank = sum(each.rank for each in adapters if name in each.parts)
    if rank:
        yield "base", linear
        yield "lora_A", Linear(linear.rows, linear.into, rank)
        yield "lora_B", Linear(linear.rows, rank, linear.out)


def _channels(shape: Shape) -> int:
    """Of queries, keys and values of a gated delta net together."""
    assert shape.linear is not None
    keys = shape.linear.linear_num_key_heads * shape.linear.linear_key_head_dim
    return 2 * keys + shape.linear.linear_num_value_heads * shape.linear.linear_value_head_dim
