"""A trace file as columns of events in integer nanoseconds."""

from qwen3_profile.trace.columns import AutogradOps, Category, Events, Span, Trace, TraceInfo, Track
from qwen3_profile.trace.compact_trace import CompactTrace
from qwen3_profile.trace.reader import read_compact, read_trace

__all__ = [
    "AutogradOps",
    "Category",
    "CompactTrace",
    "Events",
    "Span",
    "Trace",
    "TraceInfo",
    "Track",
    "read_compact",
    "read_trace",
]
