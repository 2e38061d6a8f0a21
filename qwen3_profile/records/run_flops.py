"""What the passes of a saved run compute, by what the run says of its model and its configs."""

from __future__ import annotations

from dataclasses import replace

from qwen3_profile import labels
from qwen3_profile.passes.pass_times import PassTimes
from qwen3_profile.records.flops import Flops, PassSize, attention_pairs
from qwen3_profile.records.pass_flops import pass_flops
from qwen3_profile.run_folder.model_shape import Shape
from qwen3_profile.run_folder.run_json import ConfigResult, ModelFacts, Run

# As `Run.parallel` calls them.
_TENSOR_PARALLEL, _EXPERT_PARALLEL = "tp", "ep"


def flops_of(times: PassTimes, run: Run, result: ConfigResult, position: int) -> Flops | None:
    """What a rank computes in a pass, by the sizes of its model; None where these are not known."""
    model, config = run.model, result.config
    shape = model.shape
    if run.parallel == _EXPERT_PARALLEL:
        return None  # it goes by which rank has the experts that tokens are routed to
    if shape is not None and run.parallel == _TENSOR_PARALLEL:
        shape = shape_of_a_rank(shape, run.ranks)
    if shape is None:
        return None
    lengths, trains = lengths_of(result), result.phase == labels.TRAIN_STEP
    is_decode = result.phase == "decode"
    tokens = 1 if is_decode else config.input_len
    kept = tokens if trains else min(tokens, run.logits_to_keep or tokens)
    attention = result.attn_implementation
    adapters = model.packed.adapters if model.packed else ()
    size = PassSize(
        sequences=config.batch_size,
        tokens=tokens,
        pairs=attention_pairs(config, result.phase, position, attention, lengths),
        logits=kept * config.batch_size,
        routed=_routed(result),
        is_decode=is_decode,
        keeps_scores=attention == "eager",
        adapters=tuple(each for each in adapters if each.active and not each.merged),
    )
    return pass_flops(shape, size, _labels_in(times, model, result), trains=trains)


def shape_of_a_rank(shape: Shape, ranks: int) -> Shape | None:
    """The sizes of what each rank of a tensor parallel run computes: its heads, its share of the
    feed-forward's width, of every expert's and of the vocabulary; as transformers' plans cut them.

    None for layers that mix by a delta net: of these plans cut some parts, and others not.
    """
    if shape.linear is not None:
        return None
    experts = shape.experts
    return replace(
        shape,
        num_attention_heads=shape.num_attention_heads // ranks,
        num_key_value_heads=shape.num_key_value_heads // ranks,
        intermediate_size=shape.intermediate_size // ranks,
        vocab_size=shape.vocab_size // ranks,
        experts=experts
        and replace(
            experts,
            moe_intermediate_size=experts.moe_intermediate_size // ranks,
            shared_expert_intermediate_size=experts.shared_expert_intermediate_size // ranks,
        ),
    )


def _routed(result: ConfigResult) -> dict[int, int]:
    """Layer -> tokens that its experts got together in one pass; routing is that of all steps."""
    steps = result.config.decode_steps if result.phase == "decode" else 1
    return {each.layer: sum(each.tokens_per_expert) // steps for each in result.routing}


def _labels_in(times: PassTimes, model: ModelFacts, result: ConfigResult) -> set[str]:
    """The labels of all that ran, in kernels that were made of several parts too."""
    kernels = times.compiled.kernels if times.compiled else ()
    return {
        *times.forward.tree.names,
        *labels.unfold_layers(result.labels, model.num_layers),
        *(label for kernel in kernels for label in kernel.labels),
    }


def lengths_of(result: ConfigResult) -> tuple[int, ...]:
    """The tokens of each sequence of the input, without its padding."""
    return result.lengths or (result.config.input_len,) * result.config.batch_size
