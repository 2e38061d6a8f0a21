"""Who accounts for how much of the device time: ours, HolisticTraceAnalysis, torch-tb-profiler.

    python benchmarks/compare_peers.py ../shared/traces/*.json.gz --python peers/bin/python

Each tool reads each trace in a process of its own. The peers live in the environment of --python;
without it one is made in a temporary folder with pip and removed at the end.

device ms    device time that the tool finds: kernels, copies, memsets
in host      share of the trace's device time (as we find it, exactly) that the tool gives to an
             operator or annotation that was open at the launch
s            seconds from reading the file to the answer, imports left out
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
# HolisticTraceAnalysis 0.5.0 builds no call graph with pandas 3.
PEERS = ("HolisticTraceAnalysis==0.5.0", "pandas<3", "torch-tb-profiler==0.4.3")
TIMEOUT_S = 300

# device ns; attributed ns, or why the tool could not tell; seconds
Figures = tuple[float, float | str, float]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("traces", nargs="+", type=Path, metavar="TRACE")
    parser.add_argument("--python", type=Path, help="of an environment that has the peers")
    parser.add_argument("--arm", choices=ARMS, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.arm:
        # peers print and log as they work; the answer is the last line
        with redirect_stdout(sys.stderr):
            figures = ARMS[args.arm](args.traces[0])
        print(json.dumps(figures))
        return 0
    with peers_python(args.python) as python:
        print(HEAD, flush=True)
        for trace in args.traces:
            found = {arm: measure(arm, trace, python) for arm in ARMS}
            print(line(trace, found), flush=True)
    return 0


def ours(path: Path) -> Figures:
    sys.path.insert(0, str(ROOT))
    from qwen3_profile.attribution import attribute
    from qwen3_profile.scopes import build_scopes
    from qwen3_profile.trace import Category, read_trace

    begin = time.perf_counter()
    trace = read_trace(path, accept_damaged=True)
    category = trace.host.category
    selected = (category == Category.CPU_OP) | (category == Category.USER_ANNOTATION)
    found = attribute(trace, build_scopes(trace, selected, name_gaps=False))
    seconds = time.perf_counter() - begin
    return int(trace.device.dur_ns.sum()), int(found.self_device_ns.sum()), seconds


def hta(path: Path) -> Figures:
    """Kernels whose launch was found and has a parent in the call graph."""
    from hta.common.trace_call_graph import CallGraph
    from hta.trace_analysis import TraceAnalysis

    begin = time.perf_counter()
    analysis = TraceAnalysis(
        trace_files={0: str(path)}, trace_dir="", include_last_profiler_step=True
    )
    try:
        CallGraph(analysis.t)
        failed = ""
    except Exception as error:  # of a peer: whatever it raises is its answer
        failed = f"its call graph: {type(error).__name__}: {error}"
    seconds = time.perf_counter() - begin
    events = analysis.t.get_trace(0)
    categories = analysis.t.symbol_table.get_sym_table()
    kinds = {"kernel", "gpu_memcpy", "gpu_memset", "memcpy", "memset"}
    device = events[[categories[number].lower() in kinds for number in events["cat"]]]
    device_ns = float(device["dur"].sum()) * 1000
    if failed:
        return device_ns, failed, seconds
    linked = device[device["index_correlation"] > 0]
    parents = events["parent"].reindex(linked["index_correlation"]).to_numpy()
    return device_ns, float(linked["dur"].to_numpy()[parents >= 0].sum()) * 1000, seconds


def tensorboard(path: Path) -> Figures:
    """Device time that its operator table adds up to."""
    from torch_tb_profiler.profiler.data import RunProfileData
    from torch_tb_profiler.profiler.trace import EventTypes

    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as cache:
        profile = RunProfileData.parse("worker", "0", str(path), cache)
    seconds = time.perf_counter() - begin
    kinds = (EventTypes.KERNEL, EventTypes.MEMCPY, EventTypes.MEMSET)
    device = sum(event.duration for event in profile.events if event.type in kinds)
    attributed = sum(op.self_device_duration for op in profile.op_list_groupby_name or ())
    return float(device) * 1000, float(attributed) * 1000, seconds


ARMS: dict[str, Callable[[Path], Figures]] = {"ours": ours, "hta": hta, "tb": tensorboard}


@contextmanager
def peers_python(given: Path | None) -> Iterator[Path]:
    if given is not None:
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="peers.") as folder:
        venv.create(folder, with_pip=True)
        python = Path(folder, "Scripts/python.exe" if sys.platform == "win32" else "bin/python")
        subprocess.run([python, "-m", "pip", "install", "-q", *PEERS], check=True)
        yield python


def measure(arm: str, trace: Path, peers: Path) -> Figures | str:
    """The figures, or the last line of what the tool said as it failed."""
    python = sys.executable if arm == "ours" else str(peers)
    try:
        done = subprocess.run(
            [python, __file__, "--arm", arm, str(trace)],
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        return f"no answer in {TIMEOUT_S} s"
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["died"])[-1]
    device_ns, attributed_ns, seconds = json.loads(done.stdout.splitlines()[-1])
    return device_ns, attributed_ns, seconds


HEAD = f"{'':34}{'ours':^27}{'HTA':^27}{'TensorBoard':^27}\n{'trace':34}" + (
    f"{'device ms':>12}{'in host':>9}{'s':>6}" * 3
)


def line(trace: Path, found: dict[str, Any]) -> str:
    exact = found["ours"]
    whole = exact[0] if isinstance(exact, tuple) else 0
    text = f"{trace.name.removesuffix('.gz').removesuffix('.json')[:33]:34}"
    notes = []
    for arm, figures in found.items():
        if isinstance(figures, str):
            text += f"{'failed':>12}{'':>9}{'':>6}"
            notes.append(f"{arm}: {figures[:90]}")
            continue
        device_ns, attributed_ns, seconds = figures
        if isinstance(attributed_ns, str):
            notes.append(f"{arm}: {attributed_ns[:90]}")
            share = "failed"
        else:
            share = f"{attributed_ns / whole:.1%}" if whole else "-"
        text += f"{device_ns / 1e6:12.3f}{share:>9}{seconds:6.2f}"
    return "\n".join([text, *(f"    {note}" for note in notes)])


if __name__ == "__main__":
    raise SystemExit(main())
