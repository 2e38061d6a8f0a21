"""A model split over ranks by transformers' own plans, of tensor or of expert parallelism.

Random weights are made shard by shard: each rank builds the values of one whole parameter at a
time, keeps its share, and forgets the rest, so that nothing goes over the disk or between ranks,
and all ranks together have the weights that one process would have.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from qwen3_profile.config import EXPERT_PARALLEL, TENSOR_PARALLEL, Parallel
from qwen3_profile.errors import ModelError
from qwen3_profile.measure.model.random_weights import RandomValues, fill_one_by_one


def ranks() -> int:
    """How many share a model."""
    return int(dist.get_world_size())


def parallel_arguments(name: str, parallel: Parallel | None) -> dict[str, Any]:
    """What `from_pretrained` takes to load this rank's share.

    Raises:
        ModelError: this version of transformers cannot.
    """
    return {"distributed_config": _config(name, parallel)}


def split_empty(name: str, model: Any, parallel: Parallel | None = TENSOR_PARALLEL) -> Any:
    """The model, whose parameters are on the meta device, as this rank's share of it.

    Args:
        parallel: "ep" for whole experts on each rank, and the rest as "tp" has it.

    Raises:
        ModelError: this version of transformers cannot, or the model has no plan.
    """
    from transformers.utils import logging

    if parallel == EXPERT_PARALLEL and not getattr(model.config, "base_model_ep_plan", None):
        what = "has no experts to share, by transformers' plan of it"
        raise ModelError(name, what, "give --parallel tp")
    _untie(model)
    verbosity = logging.get_verbosity()
    # It warns of rules for parts that this model has not, as for dense layers among experts.
    logging.set_verbosity_error()
    try:
        prepared = type(model).prepare_distribute_model(_config(name, parallel))
        config, mesh = prepared[0], prepared[-1]
        return type(model).maybe_distribute_model(model, config, mesh)
    except ValueError as error:
        what = f"cannot be split over ranks: {error}"
        raise ModelError(name, what, "give --parallel dp") from error
    finally:
        logging.set_verbosity(verbosity)


def _untie(model: Any) -> None:
    """Gives the head a parameter of its own, which the plan names; with the weights it is tied."""
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    if head is not None and head.weight is embedding.weight:
        head.weight = nn.Parameter(torch.empty_like(head.weight), requires_grad=False)


def fill_shares(model: Any, values: RandomValues) -> None:
    """Gives a model that was split while it was empty its weights; see `random_weights.fill`."""
    fill_one_by_one(model, values, _share)


def _share(full: torch.Tensor, empty: nn.Parameter) -> torch.Tensor:
    """What this rank has of a parameter: laid out as its empty one is."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    if not isinstance(empty, DTensor):
        return full
    mesh, places = empty.device_mesh, empty.placements
    local = distribute_tensor(full, mesh, places, src_data_rank=None).to_local()
    # A share may be a view of the whole, which would stay in memory with it.
    return DTensor.from_local(
        local.clone(), mesh, places, run_check=False, shape=empty.shape, stride=empty.stride()
    )


def _config(name: str, parallel: Parallel | None) -> Any:
    try:
        from transformers import PreTrainedModel
        from transformers.distributed import DistributedConfig

        if not hasattr(PreTrainedModel, "maybe_distribute_model"):
            raise ImportError
        experts = {"ep_size": ranks()} if parallel == EXPERT_PARALLEL else {}
        return DistributedConfig(tp_size=ranks(), **experts)
    except (ImportError, TypeError) as error:
        do = "upgrade transformers to 5.23, or give --parallel dp"
        raise ModelError(name, "cannot be split by this version of transformers", do) from error
