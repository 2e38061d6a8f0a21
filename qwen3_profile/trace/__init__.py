"""Trace file in, columns of events out."""

from qwen3_profile.trace.columns import Category, Events, Trace, TraceInfo, Track
from qwen3_profile.trace.reader import read_trace

__all__ = ["Category", "Events", "Trace", "TraceInfo", "Track", "read_trace"]
