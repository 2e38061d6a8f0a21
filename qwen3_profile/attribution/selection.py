"""Which host events are scopes: labels, modules, a framework's ranges; which operators are needed.

Most events of a trace are operators, and few of these are labels, ranges of a framework or sdpa's
choice. The others need not be kept, but for module calls: whether anything ran between two of them
is seen by its operators.
"""

from __future__ import annotations

import re
from pathlib import Path

from qwen3_profile import labels
from qwen3_profile.attribution.attention_kernels import is_choice
from qwen3_profile.attribution.build_scopes import select_labels
from qwen3_profile.attribution.checks import LONGEST_TRACE_NS
from qwen3_profile.trace import Category, CompactTrace, Trace, read_compact
from qwen3_profile.trace.columns import Bool, which
from qwen3_profile.trace.event_keys import MODULE_PREFIX

SCOPES = ("labels", "modules", "both")

# What frameworks write of themselves; ranges, but none that a person has put there.
_FRAMEWORK = re.compile(
    r"ProfilerStep#.*|(nccl|gloo|mpi|ucc|xccl|hccl):.*|c10d::.*|record_param_comms.*|Optimizer\..*"
    r"|## Call CompiledFxGraph .*|Torch-Compiled Region.*|TorchDynamo Cache Lookup"
    r"|enumerate\(DataLoader\).*|PyTorch Profiler.*|DistributedDataParallel\..*"
)


def select(trace: Trace, scopes: str) -> Bool:
    """bool[len(trace.host)]: the host events that are scopes of this kind."""
    category = trace.host.category
    noise = select_framework(trace)
    annotations = (category == Category.USER_ANNOTATION) & ~noise
    by_labels: Bool = annotations | select_labels(trace)
    is_module = which(trace.names, _is_module)[trace.host.name]
    by_modules: Bool = (category == Category.PYTHON_FUNCTION) & is_module
    if scopes == "labels":
        return by_labels
    return by_modules if scopes == "modules" else by_labels | by_modules


def _is_module(name: str) -> bool:
    return name.startswith(MODULE_PREFIX)


def is_framework(name: str) -> bool:
    """Whether a framework wrote the range of this name of itself."""
    return _FRAMEWORK.fullmatch(name) is not None


def select_framework(trace: Trace) -> Bool:
    ours = which(trace.names, is_framework)
    # Old Kineto wrote its steps as operators; operators of such a name are nothing else.
    mask: Bool = ours[trace.host.name] & (trace.host.category != Category.PYTHON_FUNCTION)
    return mask


def is_asked_for(name: str) -> bool:
    """Whether the operator of this name is a scope, or says what ran as attention."""
    return labels.parse(name) is not None or is_framework(name) or is_choice(name)


def read_asked_for(path: Path, *, accept_damaged: bool = False) -> CompactTrace:
    """As `read_compact`, without operators that nobody asks for.

    Of a trace whose clocks disagree the last event is told, whatever it is, so all are kept.
    """
    found = read_compact(path, accept_damaged=accept_damaged, keeps_op=is_asked_for)
    span = found.span
    if span is None or span.last_ns - span.first_ns <= LONGEST_TRACE_NS:
        return found
    return read_compact(path, accept_damaged=accept_damaged)


def read_for_records(path: Path, *, accept_damaged: bool = False) -> CompactTrace:
    """As `read_compact`, with those operators that the records of the trace depend on."""
    found = read_asked_for(path, accept_damaged=accept_damaged)
    if not found.has(Category.PYTHON_FUNCTION):
        return found
    return read_compact(path, accept_damaged=accept_damaged)
