"""The flags of a measurement."""

from __future__ import annotations

import argparse
from functools import cache
from pathlib import Path

from qwen3_profile.cli.parser import Parser
from qwen3_profile.cli.program import COMMANDS_HELP
from qwen3_profile.config import (
    CACHES,
    COMPILE_MODES,
    COMPILE_SCOPES,
    DEFAULT_MODEL,
    DTYPES,
    EXECUTIONS,
    PARALLELS,
    PIPELINE,
    QUANTIZE,
    RANK_TIMEOUT_S,
    WEIGHTS,
    ModelRequest,
    RunConfig,
)
from qwen3_profile.errors import ConfigError

_DESCRIPTION = """\
Runs a Qwen3 forward pass under torch.profiler with labels in every layer, splits the CPU and the
GPU time by layer and part, prints tables, and keeps the traces and the timing records.
"""
MOST_PROCESSES = 100
_EPILOG = (
    f"{COMMANDS_HELP}; qwen3-profile COMMAND --help says more; qwen3-profile --print-completion "
    "bash (or zsh, fish, tcsh) prints the completion of commands and flags"
)


def build_parser() -> Parser:
    """The parser of `python -m qwen3_profile`; the reference's table of flags follows its help."""
    parser = Parser(prog="qwen3-profile", description=_DESCRIPTION, epilog=_EPILOG)
    _add_measurement(parser.add_argument_group("what is measured"))
    _add_model(parser.add_argument_group("on which model, and where"))
    _add_output(parser.add_argument_group("what is written"))
    return parser


def processes_asked_for(count: int) -> int:
    """The value of --num-processes, if that many can be started."""
    if not 1 <= count <= MOST_PROCESSES:
        raise ConfigError("--num-processes", f"{count} is not from 1 to {MOST_PROCESSES}")
    return count


@cache
def aliases() -> dict[str, str]:
    """What other programs call a flag -> what it is called here; both as keys of a file."""
    return {
        name.removeprefix("--").replace("-", "_"): action.dest
        for action in build_parser()._actions
        for name in action.option_strings[:-1]
        if name.startswith("--")
    }


def counts(text: str) -> tuple[int, ...]:
    """The numbers of a flag that takes several, with commas between them."""
    try:
        return tuple(int(word) for word in text.split(","))
    except ValueError:
        what = f"{text!r} is not a number, nor several with commas between them"
        raise argparse.ArgumentTypeError(what) from None


def dtype_called(text: str) -> str:
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
        "--input-len, the largest first, and their scaling is reported (default: %(default)s)")
    add("--input-len", type=counts, default=str(default.input_len), metavar="N,N",
        help="tokens per sequence; several as with --batch-size (default: %(default)s)")
    add("--dtype", type=dtype_called, choices=DTYPES,
        help=f"of weights and activations (default: {default.dtype}, and float32 with a warning on "
        "a CPU that only emulates it)")
    add("--num-runs", type=int, default=default.num_runs, metavar="N",
        help="measured runs; each is one forward pass of every kind: bare, clock, on a GPU device, "
        "traced (default: %(default)s)")
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
        help="kind of KV cache: grows with each token, or is allocated up front "
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
    add("--energy", action="store_true",
        help="run each phase over and over for seconds and ask the GPU's driver what energy that "
        "took: joules per pass and per token (default: off)")
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
        help="do not measure the device's peak rates, of matrix products and copies, that the "
        "tables compare with (default: off; it takes seconds; a GPU's are kept for a day)")
    add("--configs", type=Path, metavar="FILE",
        help='measure each entry of {"configs": [{"batch_size": 1, "input_len": 128}, ...]}, or of '
        "the list alone, in JSON, YAML or TOML; an entry may set batch_size, input_len, dtype, "
        "num_runs, warmup_runs, attn_implementation, experts_implementation, decode_steps, cache, "
        "trace_steps, inputs (random or ragged), backward, memory, energy, execution, compile_mode "
        "and compile_scope, and the flags above give what it leaves out; beside the list stands "
        "what holds for the whole run, such as model_name (default: one config, of the flags)")


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
        help="wrap the model in an adapter that peft has saved; several flags give several, all "
        "active (default: none)")
    add("--lora-rank", type=int, metavar="N",
        help="put a LoRA adapter of this rank with random weights round every Linear of the layers "
        "(default: none)")
    add("--merge-adapters", action="store_true",
        help="add the adapters to the weights (default: off, they run beside them)")
    add("--parallel", choices=(*PARALLELS, PIPELINE), metavar=f"{{{','.join(PARALLELS)}}}",
        help="under torchrun: tp splits one model over the ranks by transformers' own plan, ep the "
        "same but for experts, of which each rank has some whole, dp runs a whole model on each "
        "(default: tp)")
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
        help="records are merged into it by id; - prints them as JSON, and all else to stderr "
        "(default: %(default)s)")
    add("--trace-dir", type=Path, default=Path("traces"), metavar="DIR",
        help="folder of the runs' folders (default: %(default)s)")
    add("--run-name", metavar="NAME",
        help="the run's folder under the trace folder (default: the next free run1, run2, ...)")
    add("--force", action="store_true",
        help="replace an earlier run of the same --run-name, and its records, once the new one has "
        "results (default: off)")
