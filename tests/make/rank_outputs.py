"""Under torchrun: the logits of a model that ranks share, beside those of one process.

Prints for each kind of model the largest difference in a prefill and two decode steps, and how many
of its values this rank holds, of all.
"""

from __future__ import annotations

import json

import torch
from transformers import Qwen3Config, Qwen3MoeConfig

from make.labelled_models import SHAPE, TOKENS
from qwen3_profile.measure.executions.eager import Generation
from qwen3_profile.measure.model import tensor_parallel, transformers_compat
from qwen3_profile.measure.model.random_weights import RandomValues, fill, values_needed
from qwen3_profile.measure.rank_group import Ranks
from qwen3_profile.system.launched import launched

EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
CONFIGS = {
    "dense": Qwen3Config(**SHAPE, tie_word_embeddings=False),
    "tied": Qwen3Config(**SHAPE, tie_word_embeddings=True),
    "experts": Qwen3MoeConfig(**SHAPE, **EXPERTS, decoder_sparse_step=1),
    "whole experts": Qwen3MoeConfig(**SHAPE, **EXPERTS, decoder_sparse_step=1),
}


def logits_of(model: torch.nn.Module) -> torch.Tensor:
    generation = Generation(model, TOKENS, decode_steps=2)
    generation.prefill()
    found = [generation.logits]
    for _ in range(2):
        generation.decode()
        found.append(generation.logits)
    return torch.stack(found)


def main() -> int:
    process = launched()
    assert process is not None
    cpu, found = torch.device("cpu"), {}
    ranks = Ranks(process, cpu, 60)
    for name, config in CONFIGS.items():
        values = RandomValues(torch.float32, cpu, seed=3)
        whole = transformers_compat.empty_model(config)
        fill(whole, values.between(0, values_needed(whole)))
        shared = tensor_parallel.split_empty(
            name, transformers_compat.empty_model(config), "ep" if "whole" in name else "tp"
        )
        tensor_parallel.fill_shares(shared, values)
        held = sum(p.to_local().numel() for p in shared.parameters() if hasattr(p, "to_local"))
        of_all = sum(p.numel() for p in whole.parameters())
        far = float((logits_of(whole) - logits_of(shared)).abs().max())
        found[name] = [far, float(logits_of(whole).abs().max()), held, of_all]
    ranks.leave()
    if process.rank == 0:
        print(json.dumps(found))
    return 0
