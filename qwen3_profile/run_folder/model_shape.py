"""The sizes of a model, as its config.json names them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Experts:
    """What a mixture of experts adds to a shape; the names are those of its config.json.

    moe_intermediate_size: the width of one expert.
    mlp_only_layers: layers that keep a dense feed-forward part of `Shape.intermediate_size`.
    decoder_sparse_step: every so many layers one has experts; 1 where all have.
    """

    num_experts: int
    num_experts_per_tok: int
    moe_intermediate_size: int
    norm_topk_prob: bool = True
    decoder_sparse_step: int = 1
    mlp_only_layers: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of one model; the names are those of its config.json.

    experts: None for a dense model.
    sources: where the values were read, each independent of the others.
    """

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    tie_word_embeddings: bool
    max_position_embeddings: int = 40960
    rope_theta: float = 1e6
    head_dim: int = 128
    vocab_size: int = 151936
    rms_norm_eps: float = 1e-6
    attention_bias: bool = False
    experts: Experts | None = None
    sources: tuple[str, ...] = ()
