"""What the parts of a backward compute, in FLOPs: of whole models, and of adapters alone."""

from __future__ import annotations

from collections.abc import Iterator

from qwen3_profile import labels
from qwen3_profile.labels import layer_label
from qwen3_profile.records.flops import (
    DELTA_CHUNK,
    Linear,
    PassSize,
    adapted,
    attention_flops,
    delta_rule_flops,
    forward_flops,
    linears,
    triangular_flops,
)
from qwen3_profile.run_folder.model_shape import Shape

# Of the forward's: each product of a backward is one for the input and one for the weight.
_BACKWARD = 2
_FLASH_BACKWARD = 5
_FORWARD_PRODUCTS = 2
# Parts of a layer by what they make: the scores of attention, its values, and so on.
_QUERIES, _KEYS, _VALUES = {"q_proj", "qkv_proj"}, {"k_proj", "qkv_proj"}, {"v_proj", "qkv_proj"}
_AFTER_ATTENTION = {"o_proj", "dense"}
_INTO_FFN = {"gate_proj", "up_proj", "gate_up_proj", "c_fc", "fc1"}
_OUT_OF_FFN = {"down_proj", "c_proj", "fc2"}
_OF_EXPERTS = {"router", "experts", "shared_experts", "shared_expert_gate"}
# Round these an adapter may be whose backward can be followed.
_FOLLOWED = _QUERIES | _KEYS | _VALUES | _AFTER_ATTENTION | _INTO_FFN | _OUT_OF_FFN | {"lm_head"}


def backward_flops(shape: Shape, size: PassSize) -> dict[str, int]:
    """Label -> FLOPs of its part's backward; nothing where adapters are trained in a model with a
    delta net, or round a router or experts: which gradients are wanted there is not worked out.

    A linear layer's are twice the forward's: the gradient of its input and that of its weight
    (Korthikanti et al., 2022, "Reducing Activation Recomputation", appendix A). Attention that
    keeps its scores has two products for each of its two; flash attention has five for them, for
    it computes the scores again (Dao et al., 2022; `sdpa_backward_flop` of torch).
    """
    if size.adapters:
        return _beside_frozen_weights(shape, size)
    found = {label: _BACKWARD * flops for label, flops in forward_flops(shape, size).items()}
    if shape.linear is not None:
        rule = delta_rule_backward_flops(shape, size)
        found |= {label: rule for label in found if label.endswith(".delta_rule")}
    if not size.keeps_scores:
        flash = _flash_backward(shape, size)
        found |= {label: flash for label in found if label.endswith(labels.ATTN_CORES)}
    return found


def _flash_backward(shape: Shape, size: PassSize) -> int:
    return attention_flops(shape, size) // _FORWARD_PRODUCTS * _FLASH_BACKWARD


def _beside_frozen_weights(shape: Shape, size: PassSize) -> dict[str, int]:
    """The same where the weights are frozen and adapters alone are trained (Hu et al., 2021,
    "LoRA", section 4.2).

    Of a frozen weight no gradient is wanted, and that of its input only where an adapter lies
    before it: in the first layer there may be none.
    """
    names = {part for each in size.adapters for part in each.parts}
    if shape.linear is not None or not names <= _FOLLOWED:
        return {}
    found, wanted = {}, dict[str, bool]()
    reached = False  # whether the hidden states depend on an adapter
    for layer in range(shape.num_hidden_layers):
        made = [reached or bool(names & each) for each in (_QUERIES, _KEYS, _VALUES)]
        attention = _attention_backward(shape, size, *made)
        found[layer_label(layer, "attn", "attn_forward")] = attention
        into = reached
        reached = any(made) or bool(names & _AFTER_ATTENTION)
        inside = reached or bool(names & _INTO_FFN)
        for block, parts, depends in (
            ("attn", _QUERIES | _KEYS | _VALUES, into),
            ("attn", _AFTER_ATTENTION, any(made)),
            ("ffn", _INTO_FFN | _OF_EXPERTS, reached),
            ("ffn", _OUT_OF_FFN, inside),
        ):
            wanted |= {layer_label(layer, block, part): depends for part in parts}
        reached = inside or bool(names & _OUT_OF_FFN)
    wanted["lm_head"] = reached
    for label, linear in linears(shape, size):
        found.update(_linear_backward(label, linear, size, wanted[label]))
    return {label: flops for label, flops in found.items() if flops}


def _attention_backward(
    shape: Shape, size: PassSize, queries: bool, keys: bool, values: bool
) -> int:
    """A product each for the gradients of queries, keys and values that depend on an adapter, and
    one for that of the scores; flash attention's kernel makes all of them.
    """
    if not size.keeps_scores:
        return _flash_backward(shape, size) if queries or keys or values else 0
    products = queries + keys + values + (queries or keys)
    return products * attention_flops(shape, size) // _FORWARD_PRODUCTS


def _linear_backward(
    label: str, linear: Linear, size: PassSize, input_wanted: bool
) -> Iterator[tuple[str, int]]:
    pieces = dict(adapted(label, linear, size.adapters))
    if not pieces:
        yield label, linear.flops * input_wanted
        return
    yield f"{label}.base", linear.flops * input_wanted
    yield f"{label}.lora_A", pieces["lora_A"].flops * (1 + input_wanted)
    yield f"{label}.lora_B", pieces["lora_B"].flops * _BACKWARD


def delta_rule_backward_flops(shape: Shape, size: PassSize) -> int:
    """Of each product of the forward two, and of each triangular system one more system, for the
    gradients of its right sides, and a product of twice its FLOPs, for that of its matrix (Giles,
    2008, "Collected matrix derivative results for forward and reverse mode AD").

    No gradient goes to the state before the first chunk, nor comes from that after the last: of the
    two products of these each, 8 C K V for a head are not made.
    """
    assert shape.linear is not None
    heads = shape.linear.linear_num_value_heads
    keys, values = shape.linear.linear_key_head_dim, shape.linear.linear_value_head_dim
    systems = triangular_flops(shape, size)
    products = delta_rule_flops(shape, size) - systems
    ends = 8 * DELTA_CHUNK * keys * values * heads * size.sequences
    return _BACKWARD * products + 3 * systems - ends
