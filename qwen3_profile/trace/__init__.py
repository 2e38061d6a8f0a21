"""Trace file in, columns of events out."""

from qwen3_profile.trace.columns import AutogradOps, Category, Events, Span, Trace, TraceInfo, Track
from qwen3_profile.trace.reader import read_recording, read_trace
from qwen3_profile.trace.recording import Recording

__all__ = [
    "AutogradOps",
    "Category",
    "Events",
    "Recording",
    "Span",
    "Trace",
    "TraceInfo",
    "Track",
    "read_recording",
    "read_trace",
]
