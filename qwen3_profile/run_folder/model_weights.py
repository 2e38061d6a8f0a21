"""What is known of a model's weights besides their dtype: how they are packed, and its adapters."""

from __future__ import annotations

from dataclasses import dataclass, field

from qwen3_profile.run_folder.bounds import Amount, Share, Size

_BYTES_PER_MB = 1e6
# What each kind is called: a text of its own, so that each has its Chinese.
_NAMES = {
    "pretrained": "pretrained weights",
    "random": "random weights",
    "given": "given weights",
}


def weights_name(weights: str) -> str:
    """What weights of a kind are called in a sentence."""
    return _NAMES.get(weights, "weights")


@dataclass(frozen=True, slots=True)
class OutputDifference:
    """How far the last logits of a quantised model lie from those that it gave before.

    max: of any of them. relative: of all, as a share of their length.
    """

    max: Share
    relative: Share


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter of peft round parts of the model.

    rank: the largest that any part has. parts: the names of those parts, such as "q_proj".
    active, merged: whether it takes part in a forward pass, and whether it is in the weights.
    """

    name: str
    rank: Size
    parameters: Amount
    parts: tuple[str, ...]
    active: bool
    merged: bool


@dataclass(frozen=True, slots=True)
class WeightFacts:
    """What only models have whose weights are quantised, or that have adapters.

    quantised: kind of Linear -> how many there are, such as "torchao Int8Tensor".
    bytes: what all weights take, with scales and zero points; None where some do not tell.
    difference: from the model before it was quantised; None where that was not at hand.
    """

    quantised: dict[str, Size] = field(default_factory=dict)
    bytes: Amount | None = None
    difference: OutputDifference | None = None
    adapters: tuple[Adapter, ...] = ()


def weight_sentences(facts: WeightFacts | None) -> tuple[str, ...]:
    """A line on the quantised weights, and one on the adapters, where there are such."""
    if facts is None:
        return ()
    found = []
    if facts.quantised:
        kinds = ", ".join(f"{count} Linears {kind}" for kind, count in facts.quantised.items())
        takes = "unknown" if facts.bytes is None else f"{facts.bytes / _BYTES_PER_MB:.1f} MB"
        found.append(f"quantised: {kinds}; all weights: {takes}{_difference(facts.difference)}")
    if facts.adapters:
        found.append(f"adapters: {'; '.join(map(_adapter, facts.adapters))}")
    return tuple(found)


def _difference(difference: OutputDifference | None) -> str:
    if difference is None:
        return ""
    return (
        f"; logits differ from the unquantised model's by {difference.max:.3g} at most, "
        f"{difference.relative:.2%} of their length"
    )


def _adapter(adapter: Adapter) -> str:
    state = "merged" if adapter.merged else "active" if adapter.active else "not active"
    return (
        f"{adapter.name} ({state}, rank {adapter.rank}, {adapter.parameters} parameters, on "
        f"{', '.join(adapter.parts)})"
    )
