"""What cannot be in a `run.json`, though each of its values can: it would make wrong figures."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

from qwen3_profile.errors import TraceError

if TYPE_CHECKING:
    from qwen3_profile.run_folder.model_shape import Shape
    from qwen3_profile.run_folder.run_json import ConfigResult, Measurement, ModelFacts, Run

# What is counted as one parameter where weights are packed, or where ranks share them.
_PACKED = 1024
# No profiler makes a pass so many times as long, but a busy machine may keep it waiting.
_SLOWEST = 1000
LONGEST_WAIT_NS = 60_000_000_000


def check_run(path: str, run: Run) -> None:
    """Refuses a run that contradicts itself.

    Raises:
        TraceError: it does; `path` is the file.
    """
    for wrong in _wrong(run):
        raise TraceError(path, f"is not a run.json of ours: {wrong}", "record the run again")


def _wrong(run: Run) -> Iterator[str]:
    yield from (f"model.{wrong}" for wrong in _of_model(run.model))
    for index, result in enumerate(run.configs):
        for each in result.of_all_ranks:
            yield from (f"configs[{index}].{wrong}" for wrong in _of_result(each))
        if not _ranks_are_known(run, result):
            yield f"configs[{index}] has a rank twice, or one that there is not"
        layers = [each.layer for each in result.routing]
        if any(layer >= run.model.num_layers for layer in layers) or len({*layers}) < len(layers):
            yield f"configs[{index}].routing has a layer twice, or one that there is not"
    for one, other in pairwise(sorted(run.configs, key=lambda result: result.index)):
        if one.index == other.index and one.config != other.config:
            yield f"configs has two that differ of the index {one.index}"
    told = [(result.index, result.phase) for result in run.configs]
    if len({*told}) < len(told):
        yield "configs has a phase of a config twice"


def _ranks_are_known(run: Run, result: ConfigResult) -> bool:
    ranks = [each.rank for each in result.of_all_ranks]
    if run.ranks == 1:
        return ranks == [None]
    return len({*ranks}) == len(ranks) and all(
        rank is not None and rank < run.ranks for rank in ranks
    )


def _of_model(model: ModelFacts) -> Iterator[str]:
    if model.num_layers > model.model_layers:
        yield "num_layers is more than model_layers"
    if any(layer >= model.num_layers for layer in model.moe_layers):
        yield "moe_layers has a layer that there is not"
    shape = model.shape
    if shape is None:
        return
    if shape.hidden_size != model.hidden_size:
        yield "shape.hidden_size is not hidden_size"
    if shape.num_hidden_layers != model.num_layers:
        yield "shape.num_hidden_layers is not num_layers"
    if shape.linear is not None and len(shape.linear.layer_types) != shape.num_hidden_layers:
        yield "shape.linear.layer_types has not one for each layer"
    if shape.num_key_value_heads > shape.num_attention_heads:
        yield "shape.num_key_value_heads is more than num_attention_heads"
    if shape.experts is not None and shape.experts.num_experts_per_tok > shape.experts.num_experts:
        yield "shape.experts.num_experts_per_tok is more than num_experts"
    for name, size in _weights(shape):
        if model.parameters and size > _PACKED * model.parameters:
            yield f"shape.{name} makes more weights than all parameters"


def _weights(shape: Shape) -> Iterator[tuple[str, int]]:
    """Weights that each model of a shape has at least once, and what in the shape says so."""
    width, layers = shape.hidden_size, range(shape.num_hidden_layers)
    yield "vocab_size", width * shape.vocab_size
    if any(not shape.is_linear(layer) for layer in layers):
        yield "head_dim", width * shape.num_attention_heads * shape.head_dim
    if len(shape.moe_layers) < len(layers):
        yield "intermediate_size", 3 * width * shape.intermediate_size
    if shape.experts is not None and shape.moe_layers:
        one = 3 * width * shape.experts.moe_intermediate_size
        yield "experts", one * shape.experts.num_experts
    if shape.linear is not None and any(map(shape.is_linear, layers)):
        heads = shape.linear.linear_num_value_heads, shape.linear.linear_num_key_heads
        sizes = shape.linear.linear_value_head_dim, shape.linear.linear_key_head_dim
        yield "linear", width * sum(map(operator.mul, heads, sizes))


def _of_result(result: ConfigResult) -> Iterator[str]:
    config = result.config
    if result.phase != ("decode" if result.step_times_ns else config.first_phase):
        yield f"phase {result.phase} does not go with its config and its step times"
    if result.lengths and (
        len(result.lengths) != config.batch_size
        or not all(1 <= length <= config.input_len for length in result.lengths)
    ):
        yield "lengths are not those of a batch of its config"
    if any(len(steps) != config.decode_steps for steps in result.step_times_ns):
        yield "step_times_ns has not one for each decode step"
    if any(each.run_index >= config.num_runs for each in result.measurements):
        yield "measurements has a run that there is not"
    runs = {each.run_index for each in result.measurements}
    if result.status == "done" and len(runs) != config.num_runs:
        yield f"measurements has {len(runs)} runs of {config.num_runs}"
    places = [(each.run_index, each.position) for each in result.measurements]
    if len({*places}) < len(places):
        yield "measurements has a pass twice"
    for index, measurement in enumerate(result.measurements):
        yield from (f"measurements[{index}].{wrong}" for wrong in _of_pass(result, measurement))


def _of_pass(result: ConfigResult, measurement: Measurement) -> Iterator[str]:
    watched = [measurement.profiled_ns, measurement.clock_ns or 0]
    if measurement.device is not None:
        watched.append(measurement.device.wall_ns)
    if measurement.bare_ns > _SLOWEST * measurement.profiled_ns + LONGEST_WAIT_NS:
        yield "bare_ns is far more than profiled_ns"
    if max(watched) > _SLOWEST * measurement.bare_ns + LONGEST_WAIT_NS:
        yield "one of its passes took far longer than bare_ns"
    if not result.step_times_ns:
        if measurement.position:
            yield "position is not 0"
        return
    steps = dict(enumerate(result.step_times_ns)).get(measurement.run_index, ())
    if measurement.position >= len(steps):
        yield "position is beyond the decode steps"
    elif steps[measurement.position] != measurement.bare_ns:
        yield "bare_ns is not the time of its step in step_times_ns"
