"""Who accounts for how much of the device time: ours, HolisticTraceAnalysis, torch-tb-profiler.

    python benchmarks/compare_peers.py ../shared/traces/*.json.gz --python peers/bin/python

Each tool reads each trace in a process of its own. The peers live in the environment of --python;
without it one is made in a temporary folder with pip and removed at the end.

device ms    device time that the tool finds: kernels, copies, memsets
in host      share of the trace's device time (as we find it, exactly) that the tool gives to an
             operator or annotation that was open at the launch
s            seconds from reading the file to the answer, imports left out

HTA rounds times down to whole microseconds unless HTA_DISABLE_NS_ROUNDING is set, so it is asked
both ways. Where a tool gives device time to operators, but not as we do, a line below says of how
many, and which differs most.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import venv
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# HolisticTraceAnalysis 0.5.0 builds no call graph with pandas 3.
PEERS = ("HolisticTraceAnalysis==0.5.0", "pandas<3", "torch-tb-profiler==0.4.3")
TIMEOUT_S = 300

# A difference of a microsecond, or of a thousandth, is rounding.
ROUNDING_NS = 1000
ROUNDING_SHARE = 0.001


@dataclass(frozen=True)
class Figures:
    """What one tool says of one trace.

    owners: device ns by the name of the operator or annotation; None where it could not tell.
    failed: then why not.
    """

    device_ns: float
    owners: dict[str, float] | None
    seconds: float
    failed: str = ""

    @property
    def attributed_ns(self) -> float:
        return sum((self.owners or {}).values())


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
        print(json.dumps(asdict(figures)))
        return 0
    with peers_python(args.python) as python:
        print(f"peers: {', '.join(PEERS)}\n\n{HEAD}", flush=True)
        for trace in args.traces:
            found = {arm: measure(arm, trace, python) for arm in ARMS}
            print(line(trace, found), flush=True)
    return 0


def ours(path: Path) -> Figures:
    sys.path.insert(0, str(ROOT))
    from qwen3_profile.attribution.attribute import attribute
    from qwen3_profile.attribution.build_scopes import build_scopes
    from qwen3_profile.trace import Category, read_trace

    begin = time.perf_counter()
    trace = read_trace(path, accept_damaged=True)
    category = trace.host.category
    selected = (category == Category.CPU_OP) | (category == Category.USER_ANNOTATION)
    found = attribute(trace, build_scopes(trace, selected, name_gaps=False))
    seconds = time.perf_counter() - begin
    owners: Counter[str] = Counter()
    for name, ns in zip(
        found.scopes.name.tolist(), found.sum_of("device_ns").tolist(), strict=True
    ):
        owners[trace.names[name]] += ns
    return Figures(int(trace.device.dur_ns.sum()), dict(+owners), seconds)


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
        return Figures(device_ns, None, seconds, failed)
    names = analysis.t.symbol_table.get_sym_table()
    linked = device[device["index_correlation"] > 0]
    parents = events["parent"].reindex(linked["index_correlation"]).to_numpy()
    owners: Counter[str] = Counter()
    for parent, dur in zip(parents, linked["dur"], strict=True):
        if parent >= 0:
            owners[names[events["name"].loc[parent]]] += float(dur) * 1000
    return Figures(device_ns, dict(owners), seconds)


def hta_ns(path: Path) -> Figures:
    """As `hta`, with the nanoseconds that it leaves out by default."""
    os.environ["HTA_DISABLE_NS_ROUNDING"] = "1"
    return hta(path)


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
    owners: Counter[str] = Counter()
    for op in profile.op_list_groupby_name or ():
        owners[op.name] += float(op.self_device_duration) * 1000
    return Figures(float(device) * 1000, dict(+owners), seconds)


ARMS: dict[str, Callable[[Path], Figures]] = {
    "ours": ours,
    "hta": hta,
    "hta ns": hta_ns,
    "tb": tensorboard,
}


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
    return Figures(**json.loads(done.stdout.splitlines()[-1]))


HEAD = f"{'':34}{'ours':^27}{'HTA':^27}{'HTA, ns':^27}{'TensorBoard':^27}\n{'trace':34}" + (
    f"{'device ms':>12}{'in host':>9}{'s':>6}" * len(ARMS)
)


def line(trace: Path, found: dict[str, Figures | str]) -> str:
    exact = found["ours"]
    whole = exact.device_ns if isinstance(exact, Figures) else 0
    text = f"{trace.name.removesuffix('.gz').removesuffix('.json')[:33]:34}"
    notes = []
    for arm, figures in found.items():
        if isinstance(figures, str):
            text += f"{'failed':>12}{'':>9}{'':>6}"
            notes.append(f"{arm}: {figures[:90]}")
            continue
        if figures.owners is None:
            notes.append(f"{arm}: {figures.failed[:90]}")
            share = "failed"
        else:
            share = f"{figures.attributed_ns / whole:.1%}" if whole else "-"
        text += f"{figures.device_ns / 1e6:12.3f}{share:>9}{figures.seconds:6.2f}"
        if isinstance(exact, Figures) and figures.attributed_ns:
            notes += differences(arm, figures.owners or {}, exact.owners or {})
    return "\n".join([text, *(f"    {note}" for note in notes)])


def differences(arm: str, theirs: dict[str, float], ours_: dict[str, float]) -> Iterator[str]:
    """Of how many operators the time differs by more than rounding, and of which the most."""
    names = theirs.keys() | ours_.keys()
    by = {name: abs(theirs.get(name, 0.0) - ours_.get(name, 0.0)) for name in names}
    odd = [
        name for name in names if by[name] > max(ROUNDING_NS, ROUNDING_SHARE * ours_.get(name, 0.0))
    ]
    if odd:
        most = max(odd, key=lambda name: (by[name], name))
        yield (
            f"{arm}: differs in {len(odd)} of {len(names)} names, most in {most[:40]}: "
            f"{theirs.get(most, 0.0) / 1e6:.3f} ms, ours {ours_.get(most, 0.0) / 1e6:.3f}"
        )


if __name__ == "__main__":
    raise SystemExit(main())
