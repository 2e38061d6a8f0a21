"""The name of an operator in, whether any account asks for it out.

Most events of a trace are operators, and few of these are labels, ranges of a framework or sdpa's
choice. The others need not be kept, but for module calls: whether anything ran between two of them
is seen by its operators.
"""

from __future__ import annotations

from pathlib import Path

from qwen3_profile import labels
from qwen3_profile.attribution.attention_kernels import is_choice
from qwen3_profile.attribution.checks import LONGEST_TRACE_NS
from qwen3_profile.records.ledger import is_framework
from qwen3_profile.trace import Category, Recording, read_recording


def is_asked_for(name: str) -> bool:
    """Whether the operator of this name is a scope, or says what ran as attention."""
    return labels.parse(name) is not None or is_framework(name) or is_choice(name)


def read_asked_for(path: Path, *, accept_damaged: bool = False) -> Recording:
    """As `read_recording`, without operators that nobody asks for.

    Of a trace whose clocks disagree the last event is told, whatever it is, so all are kept.
    """
    found = read_recording(path, accept_damaged=accept_damaged, keeps_op=is_asked_for)
    span = found.span
    if span is None or span.last_ns - span.first_ns <= LONGEST_TRACE_NS:
        return found
    return read_recording(path, accept_damaged=accept_damaged)


def read_for_records(path: Path, *, accept_damaged: bool = False) -> Recording:
    """As `read_recording`, with those operators that the records of the trace depend on."""
    found = read_asked_for(path, accept_damaged=accept_damaged)
    if not found.has(Category.PYTHON_FUNCTION):
        return found
    return read_recording(path, accept_damaged=accept_damaged)
