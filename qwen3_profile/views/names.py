"""What a record's attention, device and pass are called, wherever they are shown."""

from __future__ import annotations

from collections.abc import Sequence

from qwen3_profile.attribution.findings import counted
from qwen3_profile.config import COMPILE_MODES, COMPILE_SCOPES, CUDA_GRAPH
from qwen3_profile.records.record import RunFacts, TimingRecord
from qwen3_profile.run_folder.model_weights import weights_name
from qwen3_profile.run_folder.run_json import ModelFacts

# Where `words` has the phase, which every label says.
_PHASE = 2
# One pass of each phase, in a sentence.
PASS_NAMES = {"prefill": "prefill", "decode": "decode step", "train_step": "training step"}


def attention_name(record: TimingRecord) -> str:
    """Who was asked for attention and, in brackets, what it chose: `sdpa (flash)`."""
    ran = record.times.attention
    chosen = f" ({ran.name})" if ran is not None and ran.name else ""
    return f"{record.facts.attn_implementation}{chosen}"


def which_pass(record: TimingRecord, count: int) -> str:
    """Which of `count` measured passes a record is of: `median run (#1 of 3)`."""
    if not record.traced:
        return f"median run (#{record.run_index} of {count})"
    step = record.traced[0]
    place = f"run #{record.run_index}, step {step.position}, context {step.context_len}"
    return f"median step ({place}; of {count} traced)"


def place_in_trace(record: TimingRecord, count: int) -> str:
    """Which pass of somebody's trace a record is of: `#7 in the trace, of 3 of its kind`."""
    alike = "the only one of its kind" if count == 1 else f"of {count} of its kind"
    return f"#{record.times.number} in the trace, {alike}"


def model_line(model: ModelFacts, record: TimingRecord) -> str:
    """Which model a record is of, how much of it, with what weights, and where it ran."""
    part = counted(model.num_layers, "layer")
    if model.num_layers != model.model_layers:
        part = f"the first {model.num_layers} of {model.model_layers} layers"
    named = weights_name(model.weights)
    return f"{model.name}, {part}, {named}, on {_place_name(record)}"


def _place_name(record: TimingRecord) -> str:
    environment, device = record.facts.environment, record.facts.device or ""
    if environment is None:
        return device
    name = environment.cpu if device == "cpu" else environment.device_name
    if device == "cpu":
        name += f", {counted(environment.cpu_threads, 'thread')}"
    return f"{device} ({name})"


def short_labels(shown: Sequence[TimingRecord]) -> list[str]:
    """What each config is called where one is chosen: its phase, its size, and what sets it apart
    from others.

    Args:
        shown: the record that is shown of each.
    """
    lines = [words(record) for record in shown]
    differs = [len(set(column)) > 1 for column in zip(*lines, strict=True)]
    differs[_PHASE] = True
    found: dict[str, int] = {}
    labels = []
    for line in lines:
        label = ", ".join(word for word, kept in zip(line, differs, strict=True) if kept and word)
        found[label] = found.get(label, 0) + 1
        labels.append(label if found[label] == 1 else f"{label} ({found[label]})")
    return labels


def words(record: TimingRecord) -> list[str]:
    """All that may set a config apart; an empty word where there is nothing to say."""
    facts, asked = record.facts, record.config
    rank = "" if facts.rank is None else f"rank {facts.rank}"
    model = facts.model_class or (facts.model.name if facts.model else "")
    if asked is None:
        return [facts.trace, rank, record.phase, model, execution(facts), *[""] * 5]
    return [
        facts.run,
        rank,
        f"{record.phase} {asked.batch_size} x {asked.input_len}",
        model,
        execution(facts),
        asked.dtype,
        attention_name(record),
        f"{facts.experts_implementation} experts" if facts.experts_implementation else "",
        f"{asked.cache} cache" if asked.cache != "dynamic" else "",
        f"{asked.inputs} inputs" if asked.inputs != "random" else "",
    ]


def execution(facts: RunFacts) -> str:
    """How the passes got to the device."""
    if facts.execution == CUDA_GRAPH:
        return "CUDA graph"
    if facts.compile_mode is None:
        return facts.execution or ""
    by = "" if facts.compile_scope == COMPILE_SCOPES[0] else f" by {facts.compile_scope}"
    mode = "" if facts.compile_mode == COMPILE_MODES[0] else f" ({facts.compile_mode})"
    return f"{facts.execution}{by}{mode}"
