"""Tokens per expert of one layer, and how uneven they are. Pure: known without torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qwen3_profile.run_folder.bounds import Amount, Index
from qwen3_profile.run_folder.model_weights import weights_name


@dataclass(frozen=True, slots=True)
class LayerRouting:
    """Where the tokens of a mixture of experts went, in one layer of one phase of one run.

    layer: its index in the model.
    tokens_per_expert: one count per expert; each token counts at as many experts as it goes to,
        so that their sum is tokens x top-k.
    """

    layer: Index
    tokens_per_expert: tuple[Amount, ...]

    @property
    def imbalance(self) -> float:
        """The busiest expert's tokens over the mean: 1.0 is even; all experts to one is their
        number. 0.0 where there were no tokens.
        """
        total = sum(self.tokens_per_expert)
        if not total:
            return 0.0
        return max(self.tokens_per_expert) * len(self.tokens_per_expert) / total

    @property
    def idle_experts(self) -> int:
        """How many experts got no token at all."""
        return self.tokens_per_expert.count(0)


def routing_sentence(layers: Sequence[LayerRouting], weights: str) -> str:
    """One line for the terminal: the least and the most even layer; empty where there is none.

    Args:
        layers: of one phase.
        weights: "random" or "pretrained": the one says little of the other.
    """
    if not layers:
        return ""
    worst = max(layers, key=lambda each: each.imbalance)
    best = min(layers, key=lambda each: each.imbalance)
    count = len(worst.tokens_per_expert)
    idle = max(each.idle_experts for each in layers)
    unused = f"up to {idle} get no tokens" if idle else "every expert gets tokens"
    return (
        f"Routing with {weights_name(weights)}: the busiest of {count} experts gets "
        f"{_span(best.imbalance, worst.imbalance)}x the mean (most in layer {worst.layer}); "
        f"{unused}."
    )


def _span(low: float, high: float) -> str:
    texts = (f"{low:.2f}", f"{high:.2f}")
    return texts[0] if texts[0] == texts[1] else f"{texts[0]} to {texts[1]}"
