"""The sizes of a model, as its config.json names them."""

from __future__ import annotations

from dataclasses import dataclass

from qwen3_profile.run_folder.bounds import Layers, Share, Size, Step

# What a config.json calls a layer that mixes its tokens by a gated delta net.
LINEAR = "linear_attention"


@dataclass(frozen=True, slots=True)
class Experts:
    """What a mixture of experts adds to a shape; the names are those of its config.json.

    moe_intermediate_size: the width of one expert.
    mlp_only_layers: layers that keep a dense feed-forward part of `Shape.intermediate_size`.
    decoder_sparse_step: every so many layers one has experts; 1 where all have.
    shared_expert_intermediate_size: the width of the expert that every token visits; 0 without one.
    """

    num_experts: Size
    num_experts_per_tok: Size
    moe_intermediate_size: Size
    norm_topk_prob: bool = True
    decoder_sparse_step: Step = 1
    mlp_only_layers: tuple[Size, ...] = ()
    shared_expert_intermediate_size: Size = 0


@dataclass(frozen=True, slots=True)
class LinearLayers:
    """What a hybrid adds to a shape: layers that mix tokens by a gated delta net.

    layer_types: of each layer of the shape. The other names are those of its config.json, too.
    """

    layer_types: tuple[str, ...]
    linear_num_value_heads: Size
    linear_num_key_heads: Size = 16
    linear_key_head_dim: Size = 128
    linear_value_head_dim: Size = 128
    linear_conv_kernel_dim: Size = 4


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of one model; the names are those of its config.json.

    experts: None for a dense model.
    model_type: of a Qwen3 that is neither "qwen3" nor "qwen3_moe"; else empty.
    linear: None where every layer is attention.
    attn_output_gate: attention is multiplied by a gate that comes with the queries.
    partial_rotary_factor: the share of a head that is rotated.
    sources: where the values were read, each independent of the others.
    """

    hidden_size: Size
    intermediate_size: Size
    num_hidden_layers: Layers
    num_attention_heads: Size
    num_key_value_heads: Size
    tie_word_embeddings: bool
    max_position_embeddings: Size = 40960
    rope_theta: Share = 1e6
    head_dim: Size = 128
    vocab_size: Size = 151936
    rms_norm_eps: Share = 1e-6
    attention_bias: bool = False
    experts: Experts | None = None
    model_type: str = ""
    linear: LinearLayers | None = None
    attn_output_gate: bool = False
    partial_rotary_factor: Share = 1.0
    sources: tuple[str, ...] = ()

    @property
    def moe_layers(self) -> frozenset[int]:
        """The indices of the layers whose feed-forward part is a mixture of experts."""
        experts = self.experts
        if experts is None or experts.num_experts == 0:
            return frozenset()
        step = experts.decoder_sparse_step
        every = (layer for layer in range(self.num_hidden_layers) if (layer + 1) % step == 0)
        return frozenset(every) - frozenset(experts.mlp_only_layers)

    def is_linear(self, layer: int) -> bool:
        """Whether a layer mixes its tokens by a gated delta net."""
        return self.linear is not None and self.linear.layer_types[layer] == LINEAR
