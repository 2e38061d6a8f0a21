"""The flags that say how a forward pass gets to the device in, a config for each such way out."""

from __future__ import annotations

from dataclasses import replace

from qwen3_profile.config import (
    COMPILE_MODES,
    COMPILE_SCOPES,
    COMPILED,
    CUDA_GRAPH,
    EAGER,
    EXECUTIONS,
    RunConfig,
)
from qwen3_profile.errors import ConfigError, closest


def asked_executions(
    one: RunConfig, names: str | None, mode: str | None, scope: str, cuda_graph: bool
) -> tuple[RunConfig, ...]:
    """`one` in every way that is asked for; eagerly where no flag asks for any.

    Args:
        names: of --executions, with commas between them; None where it is not given.
        mode: of --compile; None where it is not given.
        scope: of --compile-scope.
        cuda_graph: whether --cuda-graph is given.

    Raises:
        ConfigError: the flags contradict each other, or name what there is not.
    """
    flags = {COMPILED: mode is not None, CUDA_GRAPH: cuda_graph}
    asked = [name for name, given in flags.items() if given]
    if names is not None:
        ways = _named(names, asked)
    else:
        # Several are there to be compared, and eager is what they are compared with.
        ways = asked if len(asked) == 1 else [EAGER, *asked]
    if scope != COMPILE_SCOPES[0] and COMPILED not in ways:
        raise ConfigError("compile_scope", "compiles nothing by itself", "give --compile")
    return tuple(_config(one, way, mode or COMPILE_MODES[0], scope) for way in ways)


def _config(one: RunConfig, way: str, mode: str, scope: str) -> RunConfig:
    if way == COMPILED:
        return replace(one, execution=way, compile_mode=mode, compile_scope=scope)
    return replace(one, execution=way)


def _named(text: str, asked: list[str]) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in EXECUTIONS:
            do = closest(name, EXECUTIONS) or f"name some of {', '.join(EXECUTIONS)}"
            raise ConfigError("executions", f"{name!r} is no execution", do)
        if names.count(name) > 1:
            raise ConfigError("executions", f"names {name!r} twice", "leave one out")
    for name in asked:
        if name not in names:
            what = f"does not name {name}, which a flag asks for"
            raise ConfigError("executions", what, f"add {name} to it")
    return names
