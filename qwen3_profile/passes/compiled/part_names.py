"""What the scopes of compiled kernels are called, and the parts that several compute together."""

from __future__ import annotations

from collections.abc import Sequence

from qwen3_profile import labels

UNMATCHED = "compiled graph"
FUSED = "+"


def scope_names(parts: Sequence[str]) -> tuple[str, ...]:
    """The scopes of a kernel that computes these labels, outermost first; none where it is `other`.

    `layer.0`, `layer.0.attn` and `layer.0.attn.q_norm+rope` for the labels of q_norm and rope.
    """
    if not parts:
        return ()
    common = list(_above(parts[0]))
    if len(set(parts)) == 1:
        return tuple(common)
    for part in parts[1:]:
        above = _above(part)
        common = [name for name in common if name in above]
    common = [name for name in common if name not in parts or labels.kind_of(name) != "leaf"]
    ordered = sorted(dict.fromkeys(parts), key=labels.place)
    name = FUSED.join(dict.fromkeys(part_name(part) for part in ordered))
    if common and common[-1].endswith(f".{name}"):
        return tuple(common)  # several pieces of one part
    return (*common, f"{common[-1]}.{name}" if common else name)


def part_name(label: str) -> str:
    """The part that a label is, or is a piece of, whatever its layer: `q_proj`; `other` of a
    container.
    """
    return labels.OTHER if labels.is_container(label) else labels.part_of(label).rpartition(".")[2]


def _above(label: str) -> tuple[str, ...]:
    """The label and the containers round it, outermost first, without the forward pass."""
    words = label.split(".") if label else []
    first = 2 if words[:1] == ["layer"] else 1
    return tuple(".".join(words[:count]) for count in range(first, len(words) + 1))
