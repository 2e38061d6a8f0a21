"""What a record's attention and its device are called, wherever they are shown."""

from __future__ import annotations

from qwen3_profile.records.record import TimingRecord


def attention_name(record: TimingRecord) -> str:
    """Who was asked for attention and, in brackets, what it chose: `sdpa (flash)`."""
    ran = record.times.attention
    chosen = f" ({ran.name})" if ran is not None and ran.name else ""
    return f"{record.facts.attn_implementation}{chosen}"


def place_name(record: TimingRecord) -> str:
    environment, device = record.facts.environment, record.facts.device or ""
    if environment is None:
        return device
    name = environment.cpu if device == "cpu" else environment.device_name
    if device == "cpu":
        count = environment.cpu_threads
        name += f", {count} thread{'' if count == 1 else 's'}"
    return f"{device} ({name})"
