"""Coverage-guided fuzzing of the reader and the ledger: any bytes are refused, or read rightly.

    pip install -e '.[fuzz]'
    python fuzz/fuzz_reader.py --seconds 600

mutates small traces, and what the run itself finds to reach new code. Every input must end in one
of two ways: an error of ours that names the damage, or a ledger that balances, has no negative
entry, and agrees with the plain reading in tests/make/plain.py. Anything else is a crash, and a
file in --found; make it small (`python fuzz/fuzz_reader.py --minimise FILE`), mend what it shows
and keep it in tests/data/fuzz, which tests/trace/test_fuzz_cases.py replays with every test run.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import atheris  # noqa: E402

with atheris.instrument_imports(include=["qwen3_profile"]):
    from make import fuzz_cases, mutation

WORDS = (
    '"ph": "X"', '"cat": "kernel"', '"cat": "gpu_memcpy"', '"cat": "cuda_runtime"',
    '"cat": "cuda_driver"', '"cat": "user_annotation"', '"cat": "python_function"',
    '"name": "nn.Module: Linear_0"', '"name": "cudaGraphLaunch"', '"name": "prefill"',
    '"name": "layer.0.attn"', '"name": "ProfilerStep#1"', '"ts": ', '"dur": ', '"pid": ', '"tid": ',
    '"args": {"correlation": 1}', '"traceEvents": [', '"baseTimeNanoseconds": ',
    '"deviceProperties": [', '"distributedInfo": {', '"WARNING": ["x"]', "-1", "1e18", "0.0005",
    "9223372036854775807", "null", "true", "[]", "{}", "},{",
)  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=600, help="default: %(default)s")
    parser.add_argument("--found", type=Path, help="folder of crashes (default: a new one)")
    parser.add_argument("--minimise", type=Path, metavar="FILE", help="make this crash small")
    args = parser.parse_args(argv)
    work = Path(tempfile.mkdtemp(prefix="fuzz_reader."))
    found = args.found or work / "found"
    found.mkdir(parents=True, exist_ok=True)
    corpus = work / "corpus"
    corpus.mkdir()
    for name, data in fuzz_cases.seeds().items():
        (corpus / name).write_bytes(data)
    words = work / "words"
    words.write_text("".join(f'"{_escaped(word)}"\n' for word in WORDS))
    flags = [f"-dict={words}", f"-artifact_prefix={found}/", "-timeout=20", "-max_len=4096"]
    # atheris holds on to some KB per mutation of ours; the reader itself stays at 41 MB
    flags.append("-rss_limit_mb=8192")
    if args.minimise:
        flags += ["-minimize_crash=1", "-runs=20000", str(args.minimise)]
    else:
        flags += [f"-max_total_time={args.seconds}", "-print_final_stats=1", str(corpus)]
    print(f"crashes go to {found}", file=sys.stderr)
    atheris.Setup([sys.argv[0], *flags], check, custom_mutator=mutate)
    atheris.Fuzz()
    return 0


def check(data: bytes) -> None:
    fuzz_cases.check_bytes(data)


def mutate(data: bytes, max_size: int, seed: int) -> bytes:
    """Half of the time by bytes, else by events, so that what comes out is JSON still."""
    if seed % 2:
        changed = mutation.mutate_events(data, seed)
        if changed is not None and len(changed) <= max_size:
            return changed
    return bytes(atheris.Mutate(data, max_size))


def _escaped(word: str) -> str:
    return word.replace("\\", "\\\\").replace('"', '\\"')


if __name__ == "__main__":
    raise SystemExit(main())
