"""What a record's attention, device and pass are called, wherever they are shown."""

from __future__ import annotations

from qwen3_profile.records.record import TimingRecord

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
    """Which pass of somebody's trace a record is of: `#7 in the trace; of 3 of its kind`."""
    alike = "the only one of its kind" if count == 1 else f"of {count} of its kind"
    return f"#{record.times.number} in the trace; {alike}"


def place_name(record: TimingRecord) -> str:
    environment, device = record.facts.environment, record.facts.device or ""
    if environment is None:
        return device
    name = environment.cpu if device == "cpu" else environment.device_name
    if device == "cpu":
        count = environment.cpu_threads
        name += f", {count} thread{'' if count == 1 else 's'}"
    return f"{device} ({name})"
