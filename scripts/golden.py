"""Writes all that the commands make of the recorded traces and runs of this repository to a folder.

    python scripts/golden.py OUT [--shared FOLDER]

Two states of the code make the same of the same files: `diff -r` of their folders shows what does
not. Records, summary, CSV, tables, report, ledger, and the trace for viewers.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DATA = Path("tests/data")
RECORDED = ("h100-2layers", "ways-2layers", "h100", "h200-2layers")
RUNS = (*(DATA / "runs" / name for name in RECORDED), Path("traces/h200"))


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--shared", type=Path, help="also every trace of this folder")
    options = parser.parse_args()
    out: Path = options.out.resolve()
    shutil.rmtree(out, ignore_errors=True)
    shared = options.shared.resolve() if options.shared else None
    os.chdir(ROOT)
    for name, argv in commands(shared):
        run(out, name, argv)
    for folder in RUNS:
        write_viewer_traces(folder, out / "viewer" / folder.name)
    return 0


def commands(shared: Path | None) -> Iterator[tuple[str, list[str]]]:
    """What each export is called in the folder, and its argv."""
    traces = {path.name.removesuffix(".json.gz"): path for path in DATA.glob("*.json.gz")}
    for path in sorted(shared.rglob("*.json.gz")) if shared else ():
        traces[f"shared/{path.relative_to(shared)}".removesuffix(".json.gz")] = path
    for name, path in sorted(traces.items()):
        yield name, [str(path), "--report"]
        for scopes in ("labels", "modules", "both"):
            yield f"{name}.{scopes}", [str(path), "--ledger", "--scopes", scopes]
        yield f"{name}.kernels", [str(path), "--ledger", "--kernels"]
    for phase in ("decode", "prefill"):
        replay = DATA / f"qwen3-0.6b_graph_{phase}_replay.json.gz"
        for kind in ("capture", "eager"):
            pair = [str(replay), "--capture", str(replay).replace("replay", kind)]
            yield f"{phase}_by_{kind}", [*pair, "--report"]
            yield f"{phase}_by_{kind}.ledger", [*pair, "--ledger"]
    for folder in RUNS:
        yield folder.name, [str(folder), "--report"]
    yield "raw", [str(next(iter(sorted((RUNS[0] / "raw").iterdir()))))]


def run(out: Path, name: str, argv: list[str]) -> None:
    """One export and what it printed; of records, JSON and CSV."""
    from qwen3_profile.export import main as export

    folder = out / name
    folder.mkdir(parents=True)
    if "--ledger" in argv:
        argv.insert(argv.index("--ledger") + 1, str(folder / "ledger.json"))
    if "--report" in argv:
        argv[argv.index("--report")] = f"--report={folder / 'report.html'}"
    several = [[]] if "--ledger" in argv else [[], ["--format", "csv"]]
    for more in several:
        text = io.StringIO()
        with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
            code = export([*argv, "--output-dir", str(folder), *more])
        told = f"{text.getvalue()}exit code {code}\n".replace(str(out), "OUT")
        (folder / f"printed{'_'.join(['', *more[1:]])}.txt").write_text(told)


def write_viewer_traces(folder: Path, out: Path) -> None:
    from qwen3_profile.passes.known import MeasuredConfig
    from qwen3_profile.run_folder.run_json import read_run
    from qwen3_profile.views.tensorboard.viewer_trace import normalised_trace

    out.mkdir(parents=True)
    for result in read_run(folder).configs:
        raw = [folder / measurement.trace for measurement in result.measurements]
        text = normalised_trace(raw, MeasuredConfig(folder, result))
        (out / f"{result.worker}.json").write_bytes(text)


if __name__ == "__main__":
    raise SystemExit(main())
