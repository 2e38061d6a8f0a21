"""What quantised Linears and LoRA adapters cost and gain, against the model without them.

    python benchmarks/linears.py [--device cuda] [--models NAME,NAME] [--kinds NAME,...] [--dry-run]

Random weights in the shapes of Qwen3-0.6B and Qwen3-8B, a prefill of 2 x 256 tokens and decode
steps at batch 1 after 256 tokens; as it is, quantised in memory to int8, int4 and fp8, and with a
LoRA adapter of rank 16, beside the weights and merged. Each kind is a run of the command line.
What does not run here is told in its row. Milliseconds: of bare passes, and of the device (on a
CPU: of the host) of all Linears of the layers together and of what they are made of.

Needs torchao and peft. torchao 0.18 and peft 0.21 run with torch 2.11 to 2.13.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from qwen3_profile import TimingRecord, to_records
from qwen3_profile.__main__ import main as profile
from qwen3_profile.analysis.median_pass import is_on_device, median_record, ns_of
from qwen3_profile.attribution.parts import Part
from qwen3_profile.attribution.pass_parts import has_pieces, short_name
from qwen3_profile.labels import OTHER, parse
from qwen3_profile.records.quantiles import median

MODELS = ("Qwen/Qwen3-0.6B", "Qwen/Qwen3-8B")
KINDS = {
    "as it is": (),
    "int8": ("--quantize", "int8"),
    "int4": ("--quantize", "int4"),
    "fp8": ("--quantize", "fp8"),
    "lora 16": ("--lora-rank", "16"),
    "lora 16 merged": ("--lora-rank", "16", "--merge-adapters"),
    "int8 lora 16": ("--quantize", "int8", "--lora-rank", "16"),
}
PHASES = {
    "prefill": ("--batch-size", "2", "--input-len", "256"),
    "decode": (
        "--batch-size", "1", "--input-len", "256", "--decode-steps", "4", "--cache", "static",
    ),
}  # fmt: skip
COLUMNS = ("quantise", "gemm", "dequantise", "base", "lora_input", "lora_A", "lora_B", "lora_add")
HEAD = ("kind", "bare", "x", "busy", "Linears", "x", *COLUMNS, OTHER, "MB", "moved")
_WIDTHS = (16, 9, 6, 9, 9, 6, 9, 9, 11, 9, 11, 9, 9, 9, 9, 9, 8)
TINY = {
    "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "head_dim": 32,
    "hidden_size": 64, "intermediate_size": 128, "max_position_embeddings": 4096,
    "num_attention_heads": 4, "num_hidden_layers": 2, "num_key_value_heads": 2,
    "rms_norm_eps": 1e-6, "rope_theta": 1e6, "tie_word_embeddings": True, "vocab_size": 256,
    "attention_bias": False, "hidden_act": "silu",
}  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--kinds", default=",".join(KINDS), help=", ".join(KINDS))
    parser.add_argument("--num-runs", default="10")
    parser.add_argument("--dry-run", action="store_true", help="a tiny model, on the CPU")
    options = parser.parse_args(argv)
    more = ["--device", options.device, "--num-runs", options.num_runs, "--warmup-runs", "3"]
    with tempfile.TemporaryDirectory() as folder:
        models = options.models.split(",")
        if options.dry_run:
            (Path(folder) / "config.json").write_text(json.dumps(TINY))
            models, more = [folder], ["--device", "cpu", "--num-runs", "2"]
        for model in models:
            for phase, shape in PHASES.items():
                print(f"\n{'tiny' if options.dry_run else model}, {phase} {' '.join(shape)}; ms")
                argv = ["--model-name", model, "--weights", "random", *shape, *more]
                print_table(phase, options.kinds.split(","), argv)
    return 0


def print_table(phase: str, kinds: Sequence[str], argv: Sequence[str]) -> None:
    print(_line(HEAD), flush=True)
    first: tuple[float, float] | None = None
    for kind in kinds:
        records, error = measured(phase, [*argv, *KINDS[kind]])
        if not records:
            print(f"{kind:<16}  {error}", flush=True)
            continue
        bare, linears, cells = row(records)
        first = first or (bare, linears)
        ratios = (f"{bare / first[0]:.2f}", f"{linears / first[1]:.2f}")
        print(_line((kind, _ms(bare), ratios[0], cells[0], _ms(linears), ratios[1], *cells[1:])))
        sys.stdout.flush()


def measured(phase: str, argv: Sequence[str]) -> tuple[tuple[TimingRecord, ...], str]:
    """The records of this phase, or the last line of what was told."""
    told = io.StringIO()
    with tempfile.TemporaryDirectory() as folder:
        place = ["--trace-dir", folder, "--output-dir", folder, "--run-name", "run"]
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(told):
            code = profile([*argv, *place])
        errors = [line for line in told.getvalue().splitlines() if line.startswith("error: ")]
        if code:
            return (), errors[-1] if errors else f"exit code {code}"
        found = to_records(Path(folder) / "run")
        return tuple(record for record in found if record.phase == phase), ""


def row(records: Sequence[TimingRecord]) -> tuple[float, float, list[str]]:
    """Bare ns, ns of all Linears, and the cells of the columns between and behind them."""
    shown, on_device = median_record(records), is_on_device(records)
    bare = median([record.total_ns or 0 for record in records])
    times: Counter[str] = Counter()
    for part in linears_of(shown.times.forward):
        times["all"] += ns_of(part.total, on_device)
        for name, ns in pieces_of(part, on_device):
            times[name] += ns
    packed = shown.facts.model.packed if shown.facts.model else None
    size = "" if packed is None or packed.bytes is None else f"{packed.bytes / 1e6:.1f}"
    moved = packed.difference if packed else None
    cells = [
        _ms(shown.times.busy_ns / shown.steps) if on_device else "-",
        *(_ms(times[name] / shown.steps) if times[name] else "" for name in (*COLUMNS, OTHER)),
        size,
        "" if moved is None else f"{moved.relative:.2%}",
    ]
    return bare, times["all"] / shown.steps, cells


def linears_of(forward: Part) -> Iterator[Part]:
    """The Linears of the layers, by their names."""
    for part in forward.each():
        label = parse(part.name)
        if label is not None and label.block and label.name.endswith("_proj"):
            yield part


def pieces_of(part: Part, on_device: bool) -> Iterator[tuple[str, int]]:
    """What a Linear is made of; of a packed one with adapters also what is in its base."""
    for piece in part.parts:
        yield short_name(piece), ns_of(piece.total, on_device)
        yield from pieces_of(piece, on_device) if has_pieces(piece) else ()
    if has_pieces(part):
        yield OTHER, ns_of(part.own, on_device)


def _ms(ns: float) -> str:
    return f"{ns / 1e6:.3f}"


def _line(cells: Sequence[str]) -> str:
    first, *rest = zip(cells, _WIDTHS, strict=True)
    return f"{first[0]:<{first[1]}}" + "".join(f"{cell:>{width}}" for cell, width in rest)


if __name__ == "__main__":
    raise SystemExit(main())
