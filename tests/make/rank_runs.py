"""Runs under torchrun that share the import of torch and transformers.

Reads `[[folder, fault, [flag, ...]], ...]` as JSON, and runs one after another in a process of its
own: torchrun's own agent, environment and end, but its two ranks are forked from here instead of
being started anew, which is most of what a run of a tiny model costs. What they print goes to
`out`, `err` and `code` in the folder.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch.distributed.run as torchrun
import torch.distributed.tensor  # noqa: F401
import transformers.models.qwen3.modeling_qwen3
import transformers.models.qwen3_moe.modeling_qwen3_moe  # noqa: F401

import qwen3_profile.measure.session  # noqa: F401
from make import rank_faults, rank_outputs

RANKS = 2


def rank(name: str, argv: list[str]) -> None:
    """One rank, forked by the agent."""
    sys.exit(rank_outputs.main() if name == "outputs" else rank_faults.faulty(name, argv))


def launch(name: str, argv: list[str]) -> int:
    """The exit code of torchrun."""
    config_from_args: Callable[..., Any] = torchrun.config_from_args

    def forking(args: Any) -> Any:
        config, _, _ = config_from_args(args)
        config.start_method = "fork"
        return config, rank, (name, argv)

    torchrun.config_from_args = forking
    try:
        torchrun.main(["--standalone", f"--nproc-per-node={RANKS}", "rank"])
    except Exception:
        # What Python does with it at the end of torchrun's own process.
        traceback.print_exc()
        return 1
    return 0


def run(folder: Path, name: str, argv: list[str]) -> None:
    """In a process of its own, which nothing of an earlier run can disturb."""
    process = os.fork()
    if process:
        _, status = os.waitpid(process, 0)
        (folder / "code").write_text(str(os.waitstatus_to_exitcode(status)))
        return
    os.chdir(folder)
    for stream, file in ((1, "out"), (2, "err")):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), stream)
    code = launch(name, argv)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    for place, fault, flags in json.load(sys.stdin):
        run(Path(place), fault, flags)
