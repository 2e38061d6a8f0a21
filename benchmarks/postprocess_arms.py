"""What `postprocess.py` measures of others, each in a process of its own: ARM FILE.

Nothing is imported here but what the arm itself needs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path


def _json_load(path: Path) -> None:
    import gzip
    import json

    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        json.load(file)


def _orjson(path: Path) -> None:
    import gc

    import orjson

    gc.disable()
    orjson.loads(path.read_bytes())


def _simdjson(path: Path) -> None:
    import simdjson

    simdjson.Parser().parse(path.read_bytes())


def _hta(path: Path) -> None:
    from hta.trace_analysis import TraceAnalysis

    TraceAnalysis(trace_files={0: str(path)}, trace_dir="").get_gpu_kernel_breakdown(
        visualize=False
    )


def _tb_profiler(path: Path) -> None:
    import tempfile

    from torch_tb_profiler.profiler.data import RunProfileData
    from torch_tb_profiler.profiler.run_generator import RunGenerator
    from torch_tb_profiler.run import RunProfile

    with tempfile.TemporaryDirectory() as cache:
        data = RunProfileData.parse("worker", None, str(path), cache)
        data.process()
        data.analyze()
        assert isinstance(RunGenerator("worker", None, data).generate_run_profile(), RunProfile)


def _inflate(path: Path) -> None:
    from qwen3_profile.trace.text import Text

    with Text(path) as text:
        while text.fill():
            text.begin = text.end


def _scan(path: Path) -> None:
    import msgspec

    msgspec.json.decode(path.read_bytes(), type=msgspec.Raw)


ARMS: dict[str, Callable[[Path], None]] = {
    "json.load": _json_load,
    "orjson": _orjson,
    "simdjson": _simdjson,
    "HTA": _hta,
    "tb-profiler": _tb_profiler,
    "inflate": _inflate,
    "scan": _scan,
}

if __name__ == "__main__":
    ARMS[sys.argv[1]](Path(sys.argv[2]))
