"""What configs are called in a report: by what they differ, what ran, and where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from qwen3_profile.attribution.findings import counted
from qwen3_profile.labels import WHOLE_TRACE
from qwen3_profile.run_folder.run_json import Environment
from qwen3_profile.views.names import attention_name, model_line, place_in_trace, which_pass
from qwen3_profile.views.report.section_data import Config


def title(configs: Sequence[Config]) -> str:
    """The name of the run, or of the trace that came without one; their number if several."""
    facts = [(config.shown.facts, config.shown.config) for config in configs]
    names = list(dict.fromkeys(f.run if asked else f.trace for f, asked in facts))
    return names[0] if len(names) == 1 else f"{len(names)} {'runs' if facts[0][1] else 'traces'}"


def headline(config: Config) -> str:
    facts = config.shown.facts
    if config.shown.phase == WHOLE_TRACE:
        return f"{facts.trace}, by range{f', running on {facts.device}' if facts.device else ''}"
    if facts.model is None:
        named = facts.model_class or config.shown.phase
        on = f", running on {facts.device}" if facts.device else ""
        count = len(config.layers.layers)
        return f"{named}, {counted(count, 'layer')}{on}" if count else f"{named}{on}"
    return model_line(facts.model, config.shown)


def shown_pass(config: Config) -> str:
    """Which forward pass the tables show, without an article."""

    shown, count = config.shown, len(config.passes)
    if shown.phase == WHOLE_TRACE:
        return "whole trace, by range"
    if shown.config is None:
        return f"median pass of the trace: {place_in_trace(shown, count)}"
    return which_pass(shown, count)


def environment(config: Config) -> list[tuple[str, str]]:
    facts = config.shown.facts
    found = [("run", facts.run if config.shown.config else ""), ("trace", facts.trace)]
    found += [("started", config.shown.timestamp), ("device", facts.device or "")]
    if facts.environment is not None:
        found += _machine(facts.environment)
    if facts.model is not None:
        found += [
            ("model", facts.model.name),
            ("weights", f"{facts.model.weights} ({facts.model.weights_source})"),
            ("parameters", f"{facts.model.parameters:,}"),
        ]
    if config.shown.config is not None:
        found.append(("attention", attention_name(config.shown)))
        found.append(("warm-up runs", str(config.shown.config.warmup_runs)))
    if config.shown.times.attention is not None:
        found.append(("attention kernels", ", ".join(config.shown.times.attention.kernels)))
    return [(name, value) for name, value in found if value]


def _machine(environment: Environment) -> list[tuple[str, str]]:
    found = asdict(environment)
    found["operating_system"] = found.pop("system")  # the theme can be the system's, too
    memory = found.pop("device_memory_bytes")
    replaced = found.pop("kernels_replaced")
    return [
        *((key.replace("_", " "), str(value)) for key, value in found.items() if value is not None),
        ("device memory", f"{memory / 1e9:.1f} GB" if memory else ""),
        ("kernels replaced", ", ".join(replaced)),
    ]
