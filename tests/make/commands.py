"""Both command lines, run in this process or as one of their own."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from make.forking import Forked
from make.paths import ROOT

_MAIN = ("-m", "qwen3_profile")
_NO_ERROR = re.compile(r"warning: |\[ *\d+\.\d s\] |a warm-up pass took ")

# What a slow machine is told besides.
_PROGRESS = re.compile(r"^\[ *\d+\.\d s\] .*\n", re.MULTILINE)


@dataclass(frozen=True)
class Done:
    """A command line that has come to its end; `cwd` is the folder that it ran in."""

    code: int
    out: str
    err: str
    cwd: Path

    @property
    def errors(self) -> list[str]:
        """The lines on stderr, without warnings and what tells how far a run has come."""
        return [line for line in self.err.splitlines() if not _NO_ERROR.match(line)]

    @property
    def tables(self) -> str:
        """What was printed between the plan and the places of the files."""
        return self.out.rpartition("traces   ")[0].partition("\n\n")[2]

    def records(self, path: str = "timing_results/timing_records.json") -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads((self.cwd / path).read_text())
        return found


@dataclass(frozen=True)
class Commands:
    """Both command lines, on a two-layer model unless the arguments name another.

    ceilings: whether they are measured, which takes seconds.
    cpu_flags: what the CPU says of itself to `profile`; by default it lacks nothing, so that no
        warning depends on the machine that the tests run on.
    """

    model: Path
    cpu_flags: frozenset[str] = frozenset({"avx512_bf16", "avx512_fp16"})
    ceilings: bool = False

    def profile(self, cwd: Path, *argv: object) -> Done:
        """The main job, in this process, on the CPU."""
        from qwen3_profile.__main__ import main

        with mock.patch("qwen3_profile.measure.devices._cpu_flags", return_value=self.cpu_flags):
            return _call(main, cwd, self.arguments(argv))

    def export(self, cwd: Path, *argv: object) -> Done:
        from qwen3_profile.export import main

        given = list(map(str, argv))
        if "--output-dir" not in given and not {"--view", "--ledger"} & set(given):
            given += ["--output-dir", "timing_results"]
        return _call(main, cwd, given)

    def compare(self, cwd: Path, *argv: object) -> Done:
        from qwen3_profile.compare import main

        return _call(main, cwd, list(map(str, argv)))

    def start(
        self, cwd: Path, *argv: object, script: Sequence[str] = _MAIN, stdout: int | None = None
    ) -> Forked:
        """The main job as a process of its own; `script` runs instead of the module.

        In float32, which every CPU has instructions for, where nothing else is said.
        stdout: a descriptor that it writes to; without one it is kept for `wait`.
        """
        given = argv if "--dtype" in argv else (*argv, "--dtype", "float32")
        return Forked([*script, *self.arguments(given)], cwd, environment(), stdout)

    def start_fresh(
        self, cwd: Path, *argv: object, script: Sequence[str] = _MAIN
    ) -> subprocess.Popen[str]:
        """The same as a user starts it: Python imports all of it first."""
        given = argv if "--dtype" in argv else (*argv, "--dtype", "float32")
        return subprocess.Popen(
            [sys.executable, *script, *self.arguments(given)],
            cwd=cwd, env=environment(), text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=take_interrupts,
        )  # fmt: skip

    def arguments(self, argv: Sequence[object]) -> list[str]:
        given = list(map(str, argv))
        for flag, value in (
            ("--model-name", str(self.model)),
            ("--weights", "random"),
            ("--device", "cpu"),
            ("--input-len", "8"),
            ("--num-runs", "1"),
        ):
            if flag not in given:
                given += [flag, value]
        if not self.ceilings:
            given.append("--no-ceilings")
        return given


def environment(**values: str) -> dict[str, str]:
    """For a process that runs elsewhere, with the package of this clone."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"} | values


def take_interrupts() -> None:
    """What a shell starts in its background ignores Ctrl-C, and so would all that it starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def wait(process: subprocess.Popen[str] | Forked, cwd: Path, seconds: float = 120) -> Done:
    try:
        out, err = process.communicate(timeout=seconds)
    finally:
        process.kill()
    return Done(process.returncode, out, _PROGRESS.sub("", err), cwd)


def _call(main: Any, cwd: Path, argv: list[str]) -> Done:
    out, err = io.StringIO(), io.StringIO()
    before = Path.cwd()
    os.chdir(cwd)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(argv)
    finally:
        os.chdir(before)
    return Done(code, out.getvalue(), _PROGRESS.sub("", err.getvalue()), cwd)


DENSE = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "attention_bias": False,
    "head_dim": 32,
    "hidden_act": "silu",
    "hidden_size": 64,
    "intermediate_size": 128,
    "max_position_embeddings": 40960,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1e6,
    "sliding_window": None,
    "tie_word_embeddings": True,
    "use_sliding_window": False,
    "vocab_size": 256,
}


SPARSE = DENSE | {
    "architectures": ["Qwen3MoeForCausalLM"],
    "model_type": "qwen3_moe",
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
    "moe_intermediate_size": 32,
    "norm_topk_prob": True,
    "num_experts": 4,
    "num_experts_per_tok": 2,
}
