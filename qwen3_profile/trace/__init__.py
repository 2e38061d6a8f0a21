"""Trace file in, columns of events out."""

from qwen3_profile.trace.columns import AutogradOps, Category, Events, Trace, TraceInfo, Track
from qwen3_profile.trace.reader import read_trace

__all__ = ["AutogradOps", "Category", "Events", "Trace", "TraceInfo", "Track", "read_trace"]
