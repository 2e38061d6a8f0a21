"""What an export of many ranks costs: N traces, simulated from those of two H200.

    python benchmarks/many_ranks.py [N]

Every second trace is that of rank 0, every other that of rank 1, with a rank and a group of its own
written into it. Prints time, memory and the sizes of what is written, of records alone and with the
report.
"""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

DATA = Path(__file__).parents[1] / "tests" / "data" / "ranks"


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1024
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "ranks"
        folder.mkdir()
        packed = simulate(folder, count)
        print(f"{count} traces of ranks, {packed / 1e6:.1f} MB packed; {os.cpu_count()} cores")
        for name, flags in (("records", []), ("with report", ["--report", f"{place}/r.html"])):
            out = Path(place) / name
            argv = [str(folder), "--output-dir", str(out), *flags]
            seconds, megabytes = measured(argv)
            size = (out / "timing_records.json").stat().st_size
            print(f"  {name:12} {seconds:7.1f} s  {megabytes:7.0f} MB  records {size / 1e6:.1f} MB")
        print(f"  the page     {Path(place, 'r.html').stat().st_size / 1e6:7.2f} MB")


def simulate(folder: Path, count: int) -> int:
    """Writes the traces; how many bytes they are."""
    texts = [
        gzip.decompress((DATA / f"tp2_8b_prefill_rank{n}.json.gz").read_bytes()) for n in (0, 1)
    ]
    total = 0
    for rank in range(count):
        text = texts[rank % 2].replace(
            b'"rank": %d, "world_size": 2' % (rank % 2),
            b'"rank": %d, "world_size": %d' % (rank, count),
        )
        text = text.replace(
            b'"Process Group Ranks": "[0, 1]"', b'"Process Group Ranks": "[0, ...]"'
        )
        path = folder / f"rank{rank}.json.gz"
        path.write_bytes(gzip.compress(text, compresslevel=1))
        total += path.stat().st_size
    return total


def measured(argv: list[str]) -> tuple[float, float]:
    """Seconds of an export, and the most memory of its first process in MB."""
    code = (
        "import resource, sys; from qwen3_profile.export import main; code = main(sys.argv[1:]); "
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr); sys.exit(code)"
    )
    begun = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code, *argv], capture_output=True, text=True, check=True
    )
    return time.perf_counter() - begun, int(done.stderr.split()[-1]) / 1000


if __name__ == "__main__":
    main()
