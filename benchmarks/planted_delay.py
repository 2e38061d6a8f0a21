"""Runs the profiler on a model whose feed-forward parts are slower by a share of their time.

    python benchmarks/planted_delay.py 0.05 --model-name DIR --device cpu ...

The delay is real: after each forward of an MLP the host waits, busily, for that share of what this
forward took. Of 0 the code is the same and waits for nothing.
"""

from __future__ import annotations

import sys
import time
from typing import Any


def plant(share: float) -> None:
    """Slows every MLP of Qwen3 in this process, by so much of its own time."""
    from transformers.models.qwen3 import modeling_qwen3

    forward = modeling_qwen3.Qwen3MLP.forward

    def late(self: Any, hidden: Any) -> Any:
        start = time.perf_counter_ns()
        found = forward(self, hidden)
        end = time.perf_counter_ns()
        until = end + round(share * (end - start))
        while time.perf_counter_ns() < until:
            pass
        return found

    modeling_qwen3.Qwen3MLP.forward = late


if __name__ == "__main__":
    from qwen3_profile.__main__ import main

    plant(float(sys.argv[1]))
    sys.exit(main(sys.argv[2:]))
