"""Where every microsecond of a Qwen3 forward pass goes, on the CPU and on the GPU.

From Python, for a model and inputs of one's own:

    from qwen3_profile import trace_forward

    profile = trace_forward(model, input_ids)
    print(profile.table())

The names below are the whole of the public API. They are loaded when they are first used, because
half of them need no torch, and importing that takes seconds.
"""

from __future__ import annotations

from qwen3_profile.version import __version__ as __version__

# As typing has it; what is imported here comes before a command can see to an early Ctrl-C.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from qwen3_profile.api import (
        Profile,
        attribute,
        label,
        load_trace,
        to_records,
        to_table,
        trace_forward,
    )
    from qwen3_profile.errors import ProfileError
    from qwen3_profile.records.long_form import to_arrow, to_pandas
    from qwen3_profile.records.record import TimingRecord
    from qwen3_profile.words import use_language

__all__ = [
    "Profile",
    "ProfileError",
    "TimingRecord",
    "attribute",
    "label",
    "load_trace",
    "to_arrow",
    "to_pandas",
    "to_records",
    "to_table",
    "trace_forward",
    "use_language",
]

_HOME = {
    "Profile": "api",
    "ProfileError": "errors",
    "TimingRecord": "records.record",
    "attribute": "api",
    "label": "api",
    "load_trace": "api",
    "to_arrow": "records.long_form",
    "to_pandas": "records.long_form",
    "to_records": "api",
    "to_table": "api",
    "trace_forward": "api",
    "use_language": "words",
}


def __getattr__(name: str) -> Any:
    """Loads a public name, on its first use."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
