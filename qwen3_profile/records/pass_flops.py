"""What a pass computes in the parts that ran, on the way there and back."""

from __future__ import annotations

from collections.abc import Collection

from qwen3_profile.passes.compiled.part_names import part_name
from qwen3_profile.records.backward_flops import backward_flops
from qwen3_profile.records.flops import Flops, PassSize, forward_flops
from qwen3_profile.run_folder.model_shape import Shape

# Parts that multiply matrices of sizes which a `Shape` does not hold.
_UNKNOWN = frozenset((
    "attn_hyper_connection", "mlp_hyper_connection", "hyper_connection_mixer", "indexer", "ple",
    "q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj",
))  # fmt: skip


def pass_flops(shape: Shape, size: PassSize, present: Collection[str], *, trains: bool) -> Flops:
    """What a pass computes in those of its parts whose labels are `present`.

    Args:
        trains: whether it has a backward.
    """
    ran = frozenset(present)
    forward = {k: v for k, v in forward_flops(shape, size).items() if k in ran}
    unknown = dict.fromkeys(part_name(each) for each in present if part_name(each) in _UNKNOWN)
    if not trains:
        return Flops(forward, unknown=tuple(unknown))
    backward = {k: v for k, v in backward_flops(shape, size).items() if k in ran}
    unknown |= {} if backward else dict.fromkeys(map(part_name, forward))
    return Flops(forward, backward, tuple(unknown))
