"""The command line of a measurement, and the `Invocation` that it asks for."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace

from qwen3_profile.cli.config_file import PLACES, ConfigFile, read_config_file, read_prompts
from qwen3_profile.cli.parser import check_trace_place, output_file_name
from qwen3_profile.cli.run_flags import build_parser, processes_asked_for
from qwen3_profile.config import (
    COMPILE_MODES,
    COMPILE_SCOPES,
    COMPILED,
    CUDA_GRAPH,
    EAGER,
    EXECUTIONS,
    PARALLELS,
    PIPELINE,
    TENSOR_PARALLEL,
    CompileMode,
    CompileScope,
    Execution,
    Invocation,
    ModelRequest,
    Parallel,
    RunConfig,
    json_type,
)
from qwen3_profile.errors import ConfigError, closest
from qwen3_profile.system.launched import launched


def parse_arguments(argv: Sequence[str]) -> Invocation:
    """Reads the command line, and the file of configs that it may name.

    Raises:
        ConfigError: a flag, or an entry of the file, is wrong.
    """
    options = build_parser().parse_args(argv)
    file = None if options.configs is None else read_config_file(options.configs)
    if file is not None and file.settings:
        options = build_parser().parse_args([*_flags_of(file, argv), *argv])
    _check_prompt(options, argv)
    check_trace_place("--trace-dir", str(options.trace_dir))
    check_trace_place("--run-name", options.run_name or "")
    prompts = () if options.prompt is None else read_prompts(options.prompt)
    try:
        one = RunConfig(
            batch_size=options.batch_size[0],
            input_len=options.input_len[0],
            dtype=options.dtype or RunConfig().dtype,
            num_runs=options.num_runs,
            warmup_runs=options.warmup_runs,
            experts_implementation=options.experts_implementation,
            decode_steps=options.decode_steps,
            cache=options.cache,
            trace_steps=options.trace_steps,
            backward=options.backward,
            memory=options.memory,
            energy=options.energy,
            inputs="prompt" if prompts else "ragged" if options.ragged else "random",
        )
        sizes = _sizes(options, one, file)
        asked = _asked_executions(
            one, options.executions, options.compile, options.compile_scope, options.cuda_graph
        )
    except ConfigError as error:
        flag = "--" + error.where.replace("_", "-")
        raise ConfigError(flag, error.what, error.do) from error
    numbered = _each_execution(options, asked, lambda each: _configs(file, each, prompts, sizes))
    if len(sizes) > 1:  # what does not fit is told first, and not after hours
        numbered = tuple(sorted(numbered, key=lambda pair: -_tokens(pair[1])))
    return Invocation(
        model=ModelRequest(
            name=options.model_name,
            weights=options.weights,
            num_layers=options.num_layers,
            device=options.device,
            seed=options.seed,
            quantize=options.quantize,
            adapters=tuple(options.adapter or ()),
            lora_rank=options.lora_rank,
            merge_adapters=options.merge_adapters,
            parallel=_asked_parallel(options.parallel),
        ),
        configs=tuple(config for _, config in numbered),
        output_dir=options.output_dir,
        output_file=output_file_name(options.output_file),
        trace_dir=options.trace_dir,
        run_name=options.run_name,
        force=options.force,
        prompts=prompts,
        entries=tuple(f"{options.configs}: configs[{index}]" for index, _ in numbered)
        if file is not None
        else (),
        free_dtypes=_free_dtypes(options, file, [index for index, _ in numbered]),
        ceilings=not (options.no_ceilings or options.nvtx),
        nvtx=options.nvtx,
        num_processes=processes_asked_for(options.num_processes),
        rank_timeout_s=options.rank_timeout,
    )


def _asked_parallel(name: str | None) -> Parallel | None:
    """How the ranks share the work; None where there is one process."""
    if name == PIPELINE:
        what = (
            "is not measured: the pipeline of transformers 5.23 runs one stage at a time, "
            "so that a pass takes as long as on one device"
        )
        raise ConfigError("--parallel pp", what, "give --parallel tp or ep")
    if launched() is not None:
        return next((each for each in PARALLELS if each == name), TENSOR_PARALLEL)
    if name is not None:
        do = "start it as torchrun --nproc-per-node N -m qwen3_profile ..."
        raise ConfigError("--parallel", "goes with several ranks", do)
    return None


def _flags_of(file: ConfigFile, argv: Sequence[str]) -> list[str]:
    """What a file says of the whole run, as the flags that say the same.

    Where the run goes the command line may say otherwise: each of several fresh processes has a
    place of its own.

    Raises:
        ConfigError: a value is wrong, or the command line says it too.
    """
    found: list[str] = []
    for key, value in file.settings.items():
        where, flag = f"{file.path}: {key}", "--" + key.replace("_", "-")
        given = [each.partition("=")[0] for each in argv]
        if flag in given and key in PLACES:
            continue
        names = build_parser()._option_string_actions[flag].option_strings
        if not set(names).isdisjoint(given):
            raise ConfigError(flag, f"is set by {file.path}, too", "leave one of them out")
        try:
            mine = _flag_of(flag, value)
            build_parser().parse_args(mine)
        except ConfigError as error:
            raise ConfigError(where, error.what, error.do) from error
        found += mine
    return found


def _flag_of(flag: str, value: object) -> list[str]:
    if isinstance(value, bool):
        return [flag] if value else []
    if isinstance(value, list):
        return [word for each in value for word in _flag_of(flag, each)]
    if not isinstance(value, str | int):
        raise ConfigError(flag, f"is {json_type(value)}", "give a string or a whole number")
    return [f"{flag}={value}"]


def _free_dtypes(
    options: argparse.Namespace, file: ConfigFile | None, entries: Sequence[int]
) -> tuple[bool, ...]:
    """Which configs have a dtype that neither a flag nor their entry in a file asks for."""
    if options.dtype is not None:
        return ()
    asked = file.that_set("dtype") if file is not None else ()
    return tuple(index not in asked for index in entries)


def _asked_executions(
    one: RunConfig,
    names: str | None,
    mode: CompileMode | None,
    scope: CompileScope,
    cuda_graph: bool,
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
    given = {EAGER: False, COMPILED: mode is not None, CUDA_GRAPH: cuda_graph}
    asked = [name for name in EXECUTIONS if given[name]]
    if names is not None:
        executions = _named(names, asked)
    else:
        # Several are there to be compared, and eager is what they are compared with.
        executions = asked if len(asked) == 1 else [EAGER, *asked]
    if scope != COMPILE_SCOPES[0] and COMPILED not in executions:
        raise ConfigError("compile_scope", "compiles nothing by itself", "give --compile")
    return tuple(_executed(one, each, mode or COMPILE_MODES[0], scope) for each in executions)


def _executed(
    one: RunConfig, execution: Execution, mode: CompileMode, scope: CompileScope
) -> RunConfig:
    if execution == COMPILED:
        return replace(one, execution=execution, compile_mode=mode, compile_scope=scope)
    return replace(one, execution=execution)


def _named(text: str, asked: Sequence[Execution]) -> list[Execution]:
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
    return [each for name in names for each in EXECUTIONS if each == name]


def _each_execution(
    options: argparse.Namespace,
    asked: Sequence[RunConfig],
    configs_of: Callable[[RunConfig], tuple[RunConfig, ...]],
) -> tuple[tuple[int, RunConfig], ...]:
    """Every config once with each execution, in their order; see `_each_attention`."""
    found: dict[tuple[int, RunConfig], None] = {}
    for one in asked:
        found |= dict.fromkeys(_each_attention(options.attn_implementation, one, configs_of))
    return tuple(found)


def _configs(
    file: ConfigFile | None,
    one: RunConfig,
    prompts: tuple[str, ...],
    sizes: Sequence[tuple[int, int]],
) -> tuple[RunConfig, ...]:
    if file is not None:
        return file.configs(one, prompts=bool(prompts))
    return tuple(replace(one, batch_size=batch, input_len=length) for batch, length in sizes)


def _sizes(
    options: argparse.Namespace, one: RunConfig, file: ConfigFile | None
) -> list[tuple[int, int]]:
    """Every batch size with every input length.

    Raises:
        ConfigError: one is out of range or given twice, or a file gives the configs.
    """
    found = [(batch, length) for batch in options.batch_size for length in options.input_len]
    for flag in ("batch_size", "input_len"):
        values = getattr(options, flag)
        if len(values) > 1 and file is not None:
            raise ConfigError(flag, f"is a list, and {file.path} gives the configs", "give one")
        if len(set(values)) < len(values):
            raise ConfigError(flag, "names a value twice", "leave one out")
    for batch, length in found:
        replace(one, batch_size=batch, input_len=length)
    return found


def _tokens(config: RunConfig) -> int:
    return config.batch_size * config.input_len


def _each_attention(
    text: str | None, one: RunConfig, configs_of: Callable[[RunConfig], tuple[RunConfig, ...]]
) -> tuple[tuple[int, RunConfig], ...]:
    """Every config, with its index, once with each attention implementation of `a,b,c`.

    Args:
        text: as the user wrote it; None for transformers' own choice.
        one: the config of the flags.
        configs_of: the configs that go with the flags, of which some may say more than these.
    """
    names: list[str | None] = [None]
    if text is not None:
        names = [name.strip() for name in text.split(",")]
    found = []
    for name in names:
        if names.count(name) > 1:
            raise ConfigError("--attn-implementation", f"names {name!r} twice", "leave one out")
        try:
            each = replace(one, attn_implementation=name)
        except ConfigError as error:
            raise ConfigError("--attn-implementation", error.what, error.do) from error
        found.append(configs_of(each))
    # An entry of a file that names its own is the same in every column, and runs once.
    return tuple(
        (index, config)
        for index, entry in enumerate(zip(*found, strict=True))
        for config in dict.fromkeys(entry)
    )


def _check_prompt(options: argparse.Namespace, argv: Sequence[str]) -> None:
    """Refuses flags that say what a file of prompts says."""
    if options.prompt is None:
        return
    given = {word.partition("=")[0] for word in argv}
    for flag in ("--batch-size", "--input-len", "--ragged"):
        if flag in given:
            do = f"leave out {flag}, or give it without --prompt"
            raise ConfigError(flag, "is decided by the file of --prompt", do)
