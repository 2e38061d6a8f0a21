"""Importing the package, labelling a model and reading a trace leave the process as it was."""

from __future__ import annotations

import subprocess
import sys

import pytest
from make.commands import environment
from make.paths import DATA, ROOT

# What a process has of its own, and may have set for its own profiler or its own threads.
_WATCH = """
import gc, logging, os, signal, sys, warnings

def seen():
    return {
        "environment": dict(os.environ),
        "filters": list(warnings.filters),
        "showwarning": warnings.showwarning,
        "logging": {name: (each.level, list(each.handlers), each.disabled)
                    for name, each in logging.root.manager.loggerDict.items()
                    if isinstance(each, logging.Logger)} | {"": (logging.root.level,
                                                                list(logging.root.handlers))},
        "gc": (gc.isenabled(), gc.get_threshold(), gc.get_freeze_count(), list(gc.callbacks)),
        "signals": {number: signal.getsignal(number) for number in signal.valid_signals()},
        "excepthook": sys.excepthook,
    }

def changes(before, after):
    # Libraries that are imported later have loggers of their own.
    after["logging"] = {name: after["logging"][name] for name in before["logging"]}
    return [key for key in before if before[key] != after[key]]
"""
_IMPORT_ALL = """
import importlib, pkgutil
import torch, transformers, numpy, tensorboard  # what these change is theirs
import transformers.cache_utils, torch.profiler, torch._inductor.config, huggingface_hub
import torch.fx.experimental.symbolic_shapes, torch._dynamo, torch._inductor.codecache
before = seen()
import qwen3_profile
for module in pkgutil.walk_packages(qwen3_profile.__path__, "qwen3_profile."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
assert not changes(before, seen()), changes(before, seen())
"""
_USE = f"""
import sys, torch, transformers
from transformers import Qwen3Config, Qwen3ForCausalLM
config = Qwen3Config(hidden_size=16, intermediate_size=16, num_hidden_layers=1, vocab_size=32,
                     num_attention_heads=1, num_key_value_heads=1, head_dim=16)
model = Qwen3ForCausalLM(config).eval()
ids = torch.ones(1, 4, dtype=torch.long)
with torch.profiler.profile() as warm:
    model(ids)
before = seen()
import qwen3_profile
with qwen3_profile.label(model), torch.profiler.profile() as profiler:
    model(ids)
assert any(event.name == "layer.0.attn" for event in profiler.events())
qwen3_profile.trace_forward(model, ids, num_runs=1).table()
qwen3_profile.to_records({str(DATA / "qwen3-0.6b_decode_b1_ctx128.json.gz")!r})
assert not changes(before, seen()), changes(before, seen())
"""


@pytest.mark.parametrize(
    "code", [pytest.param(_IMPORT_ALL, id="import"), pytest.param(_USE, id="use")]
)
def test_the_process_is_as_it_was(code: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _WATCH + code],
        cwd=ROOT, env=environment(), capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
