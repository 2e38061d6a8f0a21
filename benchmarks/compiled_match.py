"""How much of a compiled model is matched: every kernel call of a prefill and of decode steps.

    python benchmarks/compiled_match.py [--device cpu] [--model-name NAME] [--num-layers N]
                                        [--compile MODE] [--compile-scope SCOPE]

Runs the command line on random weights, and says of each phase how many kernel calls were matched
one to one, how much of their time lies in kernels of one part, how far the logits are from eager
ones, and whether the ledger balances. Exit code 1 where a call is not matched. On two slow cores
Qwen3-0.6B takes minutes to compile.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from qwen3_profile.__main__ import main as profile
from qwen3_profile.config import COMPILE_MODES, COMPILE_SCOPES, DEFAULT_MODEL


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device")
    parser.add_argument("--model-name", default=DEFAULT_MODEL)
    parser.add_argument("--num-layers", type=int)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--compile", choices=COMPILE_MODES, default=COMPILE_MODES[0])
    parser.add_argument("--compile-scope", choices=COMPILE_SCOPES, default=COMPILE_SCOPES[0])
    options = parser.parse_args(argv)
    given = {name: value for name, value in vars(options).items() if value is not None}
    flags = [w for name, value in given.items() for w in (f"--{name.replace('_', '-')}", value)]
    with tempfile.TemporaryDirectory() as folder:
        code = profile([
            *map(str, flags), "--weights", "random", "--input-len", "16", "--num-runs", "1",
            "--decode-steps", "3", "--cache", "static",
            "--trace-dir", f"{folder}/traces", "--output-dir", folder,
        ])  # fmt: skip
        records = json.loads(Path(folder, "timing_records.json").read_text()) if not code else []
    print()
    matched = [_told(record) for record in records]
    return 0 if matched and all(matched) else 1


def _told(record: Mapping[str, Any]) -> bool:
    """Prints one phase; whether all of it was matched."""
    found = record["compiled"]
    steps = record["steps"]
    kind = "cuda" if record["cuda_total"] else "cpu"
    whole = sum(kernel[kind] for kernel in found["kernels"])
    alone = sum(kernel[kind] for kernel in found["kernels"] if not kernel["fused"])
    named = sum(k["calls"] for k in found["kernels"] if any(k["labels"])) * steps
    ledger = record["ledger_ns"]
    balances = ledger["labels"] + ledger["unattributed"] == ledger["device_time"]
    print(
        f"{record['phase']}: {named:.0f} of {found['kernel_calls'] * steps:.0f} kernel calls in "
        f"{found['graphs'] * steps:.0f} graphs matched and named, {len(found['refusals'])} graphs "
        f"refused; {alone / whole if whole else 0:.1%} of their {kind} time in kernels of one "
        f"part; logits within {record['output_error']:.1g} of eager ones; ledger "
        f"{'balances' if balances else 'DOES NOT BALANCE'}; first pass "
        f"{record['compile_time']:.1f} s"
    )
    return not found["refusals"] and named == found["kernel_calls"] * steps and balances


if __name__ == "__main__":
    sys.exit(main())
