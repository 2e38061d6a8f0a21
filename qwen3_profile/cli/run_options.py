"""The command line of a measurement, and the `Invocation` that it asks for."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from qwen3_profile.cli.config_file import ConfigFile, read_config_file, read_prompts
from qwen3_profile.cli.parser import Parser, check_trace_place, output_file_name
from qwen3_profile.cli.program import COMMANDS_HELP
from qwen3_profile.config import (
    CACHES,
    COMPILE_MODES,
    COMPILE_SCOPES,
    COMPILED,
    CUDA_GRAPH,
    DEFAULT_MODEL,
    DTYPES,
    EAGER,
    EXECUTIONS,
    PARALLELS,
    QUANTIZE,
    RANK_TIMEOUT_S,
    TENSOR_PARALLEL,
    WEIGHTS,
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

_DESCRIPTION = """\
Runs a Qwen3 forward pass under torch.profiler with labels in every layer, splits the CPU and the
GPU time by layer and part, prints tables, and keeps the traces and the timing records.
"""
MOST_PROCESSES = 100
_EPILOG = f"{COMMANDS_HELP}; qwen3-profile COMMAND --help says more"


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


def _asked_parallel(name: Parallel | None) -> Parallel | None:
    """How the ranks share the work; None where there is one process."""
    if launched() is not None:
        return name or TENSOR_PARALLEL
    if name is not None:
        do = "start it as torchrun --nproc-per-node N -m qwen3_profile ..."
        raise ConfigError("--parallel", "goes with several ranks", do)
    return None


def processes_asked_for(count: int) -> int:
    """The value of --num-processes, if that many can be started."""
    if not 1 <= count <= MOST_PROCESSES:
        raise ConfigError("--num-processes", f"{count} is not from 1 to {MOST_PROCESSES}")
    return count


def _flags_of(file: ConfigFile, argv: Sequence[str]) -> list[str]:
    """What a file says of the whole run, as the flags that say the same.

    Raises:
        ConfigError: a value is wrong, or the command line says it too.
    """
    found: list[str] = []
    for key, value in file.settings.items():
        where, flag = f"{file.path}: {key}", "--" + key.replace("_", "-")
        given = [each.partition("=")[0] for each in argv]
        if flag in given or (key == "model_name" and "--model" in given):
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


def counts(text: str) -> tuple[int, ...]:
    """The numbers of a flag that takes several, with commas between them."""
    try:
        return tuple(int(word) for word in text.split(","))
    except ValueError:
        what = f"{text!r} is not a number, nor several with commas between them"
        raise argparse.ArgumentTypeError(what) from None


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


def build_parser() -> Parser:
    """The parser of `python -m qwen3_profile`; the reference's table of flags follows its help."""
    parser = Parser(prog="qwen3_profile", description=_DESCRIPTION, epilog=_EPILOG)
    _add_measurement(parser.add_argument_group("what is measured"))
    _add_model(parser.add_argument_group("on which model, and where"))
    _add_output(parser.add_argument_group("what is written"))
    return parser


def _dtype(text: str) -> str:
    """The dtype, which other programs also call by a short name."""
    return {"bf16": "bfloat16", "fp16": "float16", "half": "float16", "fp32": "float32"}.get(
        text, text
    )


def _weights(text: str) -> str:
    """The source of the weights, which vLLM and SGLang call the load format."""
    return "random" if text == "dummy" else text


def _add_measurement(group: argparse._ArgumentGroup) -> None:
    default = RunConfig()
    add = group.add_argument
    # fmt: off
    add("--batch-size", type=counts, default=str(default.batch_size), metavar="N,N",
        help="sequences per forward pass; several, as in 1,2,4, are measured with every "
        "--input-len, the largest first, and their scaling is told (default: %(default)s)")
    add("--input-len", type=counts, default=str(default.input_len), metavar="N,N",
        help="tokens per sequence; several as with --batch-size (default: %(default)s)")
    add("--dtype", type=_dtype, choices=DTYPES,
        help=f"of weights and activations (default: {default.dtype}, and float32 with a warning on "
        "a CPU that only emulates it)")
    add("--num-runs", type=int, default=default.num_runs, metavar="N",
        help="measured runs; each is one bare and one traced forward pass (default: %(default)s)")
    add("--num-processes", type=int, default=1, metavar="K",
        help="run all of it in K fresh processes, one after the other, in a folder of K runs that "
        "compare takes: what makes one process fast or slow is the same for all its passes "
        "(default: %(default)s)")
    add("--warmup-runs", type=int, default=default.warmup_runs, metavar="N",
        help="prefills, with all decode steps, before the first run (default: %(default)s)")
    add("--output-len", "--decode-steps", dest="decode_steps", type=int, metavar="N",
        default=default.decode_steps,
        help="tokens per sequence decoded greedily after each prefill (default: %(default)s)")
    add("--cache", choices=CACHES, default=default.cache,
        help="the KV cache's kind: grown by each token, or allocated at once "
        "(default: %(default)s)")
    add("--trace-steps", type=int, default=default.trace_steps, metavar="N",
        help="decode steps that are traced, the first, the last and others between them; all are "
        "timed (default: %(default)s)")
    add("--attn-implementation", default=default.attn_implementation, metavar="NAME,NAME",
        help="sdpa, eager, flash_attention_2, flex_attention or another that transformers offers; "
        "several are run one after the other on the same weights and inputs, and compared "
        "(default: its own choice)")
    add("--experts-implementation", default=default.experts_implementation, metavar="NAME",
        help="grouped_mm, batched_mm or eager: how a mixture of experts runs its experts, where "
        "transformers offers a choice (default: its own)")
    add("--prompt", type=Path, metavar="FILE",
        help="a text file with one prompt a line, which decides batch size and input length; "
        "shorter ones are padded on the left (default: token ids drawn from the seed)")
    add("--ragged", action="store_true",
        help="sequences of random lengths up to --input-len, padded on the left and masked "
        "(default: off, all have --input-len tokens)")
    add("--backward", action="store_true",
        help="measure training steps without their optimizer: forward, loss of the next tokens and "
        "backward (default: off, prefills)")
    add("--memory", action="store_true",
        help="record in one more pass what each part allocates: peak, retained, transient, largest "
        "block (default: off)")
    add("--cuda-graph", action="store_true",
        help="capture each forward pass as a CUDA graph and measure its replays, split by the "
        "eager pass that is traced beside them; decode steps need --cache static (default: off)")
    add("--compile", nargs="?", choices=COMPILE_MODES, const=COMPILE_MODES[0], metavar="MODE",
        help="compile the model with torch.compile and split its kernels by what they were "
        f"compiled from; MODE is {', '.join(COMPILE_MODES[:-1])} or {COMPILE_MODES[-1]}; decode "
        "steps need --cache static (default: off; without MODE: %(const)s)")
    add("--compile-scope", choices=COMPILE_SCOPES, default=COMPILE_SCOPES[0],
        help="compile the model as a whole, or each decoder layer by itself (default: %(default)s)")
    add("--executions", metavar="NAME,NAME",
        help=f"some of {', '.join(EXECUTIONS)}: run each on the same weights and inputs, and "
        "compare them part by part (default: what --compile and --cuda-graph ask for, with both of "
        "them eager too)")
    add("--nvtx", action="store_true",
        help="run eager passes with the labels as NVTX ranges, for nsys profile; print their "
        "times, and write nothing (default: off)")
    add("--no-ceilings", action="store_true",
        help="do not measure what the device does at most, in matrix products and copies, of which "
        "the tables show shares (default: off; it takes seconds, and holds for a day)")
    add("--configs", type=Path, metavar="FILE",
        help='measure each entry of {"configs": [{"batch_size": 1, "input_len": 128}, ...]}, or of '
        "the list alone, in JSON, YAML or TOML; an entry may set batch_size, input_len, dtype, "
        "num_runs, warmup_runs, attn_implementation, experts_implementation, decode_steps, cache, "
        "trace_steps, inputs (random or ragged), backward, memory, execution, compile_mode and "
        "compile_scope, and the flags above give what it leaves out; beside the list stands what "
        "holds for the whole run, such as model_name (default: one config, of the flags)")


def _add_model(group: argparse._ArgumentGroup) -> None:
    default = ModelRequest()
    add = group.add_argument
    # fmt: off
    add("--model", "--model-name", dest="model_name", default=default.name, metavar="NAME",
        help=f"a hub name such as {DEFAULT_MODEL}, or a local directory (default: %(default)s)")
    add("--load-format", "--weights", dest="weights", type=_weights, choices=WEIGHTS,
        default=default.weights,
        help="pretrained from the directory, the local cache or the hub; random, or dummy, in the "
        "published shape, without network; auto is pretrained if it can be had, else random "
        "(default: %(default)s)")
    add("--num-layers", type=int, metavar="N",
        help="profile the first N layers of a model too big for this machine (default: all)")
    add("--device", metavar="DEVICE",
        help="cuda, cuda:1, cpu or another torch device (default: cuda, and cpu with a warning "
        "where there is none)")
    add("--seed", type=int, default=default.seed, metavar="N",
        help="of the token ids, of random weights and of random adapters (default: %(default)s)")
    add("--quantize", choices=QUANTIZE,
        help="quantise the Linears of the layers in memory, by torchao, and compare the logits "
        "with the unquantised ones (default: the weights as they are)")
    add("--adapter", action="append", metavar="DIR",
        help="put an adapter that peft has saved round the model; several flags give several, all "
        "active (default: none)")
    add("--lora-rank", type=int, metavar="N",
        help="put a LoRA adapter of this rank with random weights round every Linear of the layers "
        "(default: none)")
    add("--merge-adapters", action="store_true",
        help="add the adapters to the weights (default: off, they run beside them)")
    add("--parallel", choices=PARALLELS,
        help="under torchrun: tp splits one model over the ranks by transformers' own plan, dp "
        "runs a whole one on each (default: tp)")
    add("--rank-timeout", type=_seconds, default=RANK_TIMEOUT_S, metavar="SECONDS",
        help="of several ranks: how long a warm-up or a pass of one may take before all of them "
        "end (default: %(default)s)")


def _seconds(text: str) -> int:
    """At least one of them."""
    seconds = int(text)
    if seconds < 1:
        raise ValueError
    return seconds


def _add_output(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    # fmt: off
    add("--output-dir", type=Path, default=Path("timing_results"), metavar="DIR",
        help="folder of the timing records and their summary (default: ./%(default)s)")
    add("--output-file", default="timing_records.json", metavar="FILE",
        help="records are merged into it by id (default: %(default)s)")
    add("--trace-dir", type=Path, default=Path("traces"), metavar="DIR",
        help="folder of the runs' folders (default: %(default)s)")
    add("--run-name", metavar="NAME",
        help="the run's folder under the trace folder (default: the next free run1, run2, ...)")
    add("--force", action="store_true",
        help="replace an earlier run of the same --run-name, and its records, once the new one has "
        "results (default: off)")
