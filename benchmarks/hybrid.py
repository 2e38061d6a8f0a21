"""Where the time of hybrids goes: mixers, feed-forward and what has no label, in each execution.

    linear     the gated delta nets of all linear layers; delta: of that the delta rule
    attn       attention, of the other layers
    ffn        feed-forward parts
    norms      of the layers, with their residual adds
    other      of the layers, what no label explains: the most that it may be is 2 %
    outside    embedding, head, and all else that is in no layer
    no label   device events that belong to no label at all

Shares are of the device's time; on a CPU of the host's. Of compiled passes a fused kernel is where
all its parts lie, so that norms and adds go with what they are fused to, and what lies across
layers is outside. Of full width: Qwen3.5-9B with 8 layers and Qwen3-Next with 4, a prefill and 16
decode steps.

    python benchmarks/hybrid.py [--folder DIR]      on a GPU: eager, compiled and as CUDA graphs
    python benchmarks/hybrid.py --dry-run           anywhere: tiny models, without graphs
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

MODELS = (("Qwen/Qwen3.5-9B", 8), ("Qwen/Qwen3-Next-80B-A3B-Instruct", 4))
MOST_OTHER = 0.02

_COLUMNS = ("linear", "delta", "attn", "ffn", "norms", "other", "outside", "no label")
_WIDTHS = (11, 9, 11, 11, *(9 for _ in _COLUMNS))


def tiny(name: str, layers: int, folder: Path) -> str:
    """A directory with the config of a published model whose widths are a few dozen."""
    import torch

    from qwen3_profile.measure.model.published_shapes import PUBLISHED, cut
    from qwen3_profile.measure.model.transformers_compat import published_config

    shape = cut(name, PUBLISHED[name], layers)
    assert shape.linear is not None
    linear = dataclasses.replace(
        shape.linear,
        linear_num_value_heads=4,
        linear_num_key_heads=2,
        linear_key_head_dim=16,
        linear_value_head_dim=16,
    )
    experts = shape.experts and dataclasses.replace(
        shape.experts,
        num_experts=8,
        num_experts_per_tok=2,
        moe_intermediate_size=32,
        shared_expert_intermediate_size=32,
    )
    shape = dataclasses.replace(
        shape, hidden_size=64, intermediate_size=128, num_attention_heads=2,
        num_key_value_heads=1, vocab_size=500, linear=linear, experts=experts,
    )  # fmt: skip
    config = published_config(shape, torch.float32).to_dict()
    place = folder / name.rpartition("/")[2]
    place.mkdir(parents=True, exist_ok=True)
    (place / "config.json").write_text(json.dumps(config))
    return str(place)


def run(name: str, layers: int, folder: Path, *, dry: bool) -> list[dict[str, Any]]:
    """The records of a model, executed in each way."""
    given = ["--model-name", name, "--num-layers", layers, "--weights", "random"]
    given += ["--cache", "static", "--decode-steps", 16, "--num-runs", 2]
    given += ["--executions", "eager,compiled" if dry else "eager,compiled,cuda_graph"]
    if dry:
        given += ["--device", "cpu", "--dtype", "float32", "--input-len", 16]
    else:
        given += ["--input-len", 512]
    out = folder / name.rpartition("/")[2]
    given += ["--output-dir", out, "--trace-dir", out / "traces", "--force"]
    command = [sys.executable, "-m", "qwen3_profile", *map(str, given)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    sys.stderr.write(done.stderr)
    records = out / "timing_records.json"
    if not records.is_file():
        raise SystemExit(f"{name}: no records; exit code {done.returncode}")
    (out / "tables.txt").write_text(done.stdout)
    found: list[dict[str, Any]] = json.loads(records.read_text())
    return found


def shares(record: dict[str, Any]) -> dict[str, float]:
    """Column -> its share of the pass."""
    on_device = record["cuda_total"] > 0
    end = "_cuda" if on_device else ""
    whole = record["cuda_total"] if on_device else record["forward"]
    sums = dict.fromkeys(_COLUMNS, 0.0)
    layers = 0.0
    for layer in record["layer_details"]:
        mixer = "linear" if layer["kind"] == "linear_attention" else "attn"
        details = {**layer["attn_details"]}
        sums[mixer] += layer[f"attn{end}"]
        sums["delta"] += sum(
            details[key]
            for key in _keys(details, end)
            if "delta_rule" in key.removesuffix(end).split("+")
        )
        sums["ffn"] += layer[f"ffn{end}"]
        inside = (layer, details, layer["ffn_details"])
        sums["other"] += sum(each[f"other{end}"] for each in inside)
        times = sum(layer[key] for key in _keys(layer, end))
        layers += times
        sums["norms"] += times - layer[f"attn{end}"] - layer[f"ffn{end}"] - layer[f"other{end}"]
    sums["no label"] = record["unattributed_cuda"]
    sums["outside"] = whole - layers - sums["no label"]
    found = {name: ns / whole for name, ns in sums.items()}
    # Of the layers alone, since that is what is promised.
    found["other"] = sums["other"] / layers if layers else 0.0
    return found


def _keys(entry: dict[str, Any], end: str) -> list[str]:
    """The names of an entry's times, of the device or of the host; without those of a backward."""
    times = [key for key, value in entry.items() if isinstance(value, float)]
    return [key for key in times if key.endswith("_cuda") == bool(end) and "_bwd" not in key]


def line(*cells: str) -> str:
    return "".join(f"{cell:>{width}}" for cell, width in zip(cells, _WIDTHS, strict=True))


def table(records: Sequence[dict[str, Any]]) -> tuple[list[str], bool]:
    """The lines of a model, and whether `other` is as little as promised."""
    lines = [line("execution", "phase", "bare ms", "busy ms", *_COLUMNS)]
    good = True
    for record in records:
        if record["run_index"]:
            continue
        found = shares(record)
        # The host's times have gaps between labels in them that no device has.
        good &= found["other"] <= MOST_OTHER or not record["cuda_total"]
        busy = record["cuda_busy"] or record["forward"]
        times = (f"{1e3 * record['total_time']:.3f}", f"{1e3 * busy:.3f}")
        cells = (f"{abs(found[name]):.1%}" for name in _COLUMNS)
        lines.append(line(record["execution"], record["phase"], *times, *cells))
        told = (each["message"] for each in record["findings"])
        lines += [f"{'':11}{message}" for message in told]
    return lines, good


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dry-run", action="store_true", help="tiny models on the CPU")
    parser.add_argument("--folder", type=Path, help="where runs are kept (default: nowhere)")
    options = parser.parse_args(argv)
    good = True
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        for name, layers in MODELS:
            taken = tiny(name, layers, folder / "tiny") if options.dry_run else name
            lines, fine = table(run(taken, layers, folder, dry=options.dry_run))
            good &= fine
            print(f"{name}, {layers} layers{', tiny' if options.dry_run else ''}")
            print("\n".join(lines), flush=True)
            print()
    if not good:
        print(f"of the layers of some pass more than {MOST_OTHER:.0%} has no label")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
