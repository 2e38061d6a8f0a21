"""The Python API: label a model, trace one call of it, read what was saved.

Only the functions that run a model import torch. Times are integer nanoseconds; `to_json` of a
record gives seconds.

    from qwen3_profile import trace_forward

    profile = trace_forward(model, input_ids)    # any decoder of transformers, called as itself
    print(profile.table())
    profile.report("kernels")                    # in a notebook, the report
    profile.record.to_json()["layer_details"][0]["attn"]
    profile.save("traces/mine")                  # for `python -m qwen3_profile.export traces/mine`

For more than one forward pass, label the model and record with torch.profiler as always; each pass
becomes a record:

    with label(model), torch.profiler.profile() as profiler:
        model.generate(input_ids, max_new_tokens=8)
    profiler.export_chrome_trace("generate.json")
    print(to_table(to_records("generate.json")))

What was saved is read without torch:

    from qwen3_profile import to_records, to_table

    records = to_records("traces/run1")          # a run's folder, or any trace file
    print(to_table(records))
    records[0].to_json()["layer_details"]
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qwen3_profile.analysis.median_pass import median_record
from qwen3_profile.attribution import attribute as attribution
from qwen3_profile.attribution.attribute import Attribution
from qwen3_profile.attribution.build_scopes import build_scopes, select_labels
from qwen3_profile.attribution.findings import counted
from qwen3_profile.config import suggest
from qwen3_profile.errors import ConfigError, OutputError
from qwen3_profile.passes.read import read_loaded
from qwen3_profile.records.from_run import collect_config
from qwen3_profile.records.from_trace import records_of
from qwen3_profile.records.load import by_config, load_ranks, load_saved
from qwen3_profile.records.long_form import to_arrow, to_pandas
from qwen3_profile.records.record import TimingRecord
from qwen3_profile.run_folder.layout import REPORT_FILE
from qwen3_profile.run_folder.run_json import Run, write_run
from qwen3_profile.system.files import make_folder, output_error, write_atomic
from qwen3_profile.system.remote import is_remote
from qwen3_profile.trace import Trace, read_trace
from qwen3_profile.views.notebook import framed, html_table, longest_parts, plot_passes
from qwen3_profile.views.passes_picture import Picture
from qwen3_profile.views.report.build import measured_config, render_page
from qwen3_profile.views.report.page import SECTIONS
from qwen3_profile.views.tensorboard.viewer_trace import write_viewer_trace
from qwen3_profile.views.terminal.tables import render

if TYPE_CHECKING:
    import pandas
    import pyarrow
    from torch import nn

    from qwen3_profile.measure.instrument import Instrumentation
    from qwen3_profile.measure.ranges import CallPhase


@dataclass(frozen=True, slots=True)
class Report:
    """A report that a notebook shows where it stands. page: the whole of it, as a file has it."""

    page: str
    height_px: int

    def _repr_html_(self) -> str:
        return framed(self.page, self.height_px)


@dataclass(frozen=True, slots=True, repr=False)
class Profile:
    """What `trace_forward` measured; a notebook shows its table.

    records: one for each measured run, as the command line writes them.
    """

    records: tuple[TimingRecord, ...]
    _run: Run
    # Removed with the last reference to it.
    _folder: tempfile.TemporaryDirectory[str]

    @property
    def record(self) -> TimingRecord:
        """The median run; the one that the table shows."""
        return median_record(self.records)

    @property
    def trace(self) -> Trace:
        """The events of the traced pass of `record`."""
        return read_trace(Path(self._folder.name) / self.record.facts.trace)

    def __repr__(self) -> str:
        runs = counted(len(self.records), "run")
        return f"<Profile of {self.record.phase}, {runs}; table() shows it>"

    def _repr_html_(self) -> str:
        parts = longest_parts(self.records)
        return f"{self.plot().svg}{html_table(self.records)}{parts}"

    def plot(self, part: str = "") -> Picture:
        """Every bare pass, in its order and as a distribution; a notebook shows the picture.

        Args:
            part: in its place this part in every pass that disturbs it least: of the device, or
                without one of the clock; such as "q_proj" or "attn/q_proj".

        Raises:
            ConfigError: there is no such part.
        """
        return plot_passes(self.records, part)

    def to_pandas(self) -> pandas.DataFrame:
        """The times of every pass in long form, a row for each; see `records.long_form`."""
        return to_pandas(self.records)

    def to_arrow(self) -> pyarrow.Table:
        """The same as a table of Arrow.

        Raises:
            ConfigError: pyarrow is not installed.
        """
        return to_arrow(self.records)

    def report(self, section: str = "", *, height_px: int = 640) -> Report:
        """The report in the notebook: charts, tables, time line.

        Args:
            section: where it begins: one of `SECTIONS`; by default at its verdict.

        Raises:
            ConfigError: there is no such section.
        """
        if section and section not in SECTIONS:
            raise ConfigError("section", f"{section!r} is none", suggest(section, SECTIONS))
        config = measured_config(Path(self._folder.name), self._run, self.records)
        return Report(render_page([config], start=section), height_px)

    def table(self) -> str:
        """The tables that the command line prints; at most 100 columns."""
        return render(self.records)

    def save(self, folder: str | Path) -> Path:
        """Keeps the run as the command line does: run.json, raw traces, the report, and a trace
        for viewers.

        Args:
            folder: is made; `python -m qwen3_profile.export` and `to_records` read it,
                `tensorboard --logdir` the folder above it.

        Raises:
            OutputError: something is there already, or it cannot be written.
        """
        target = Path(folder)
        if target.exists():
            raise OutputError(str(target), "is already there", "give a folder that is new")
        make_folder(target.parent)
        try:
            shutil.copytree(self._folder.name, target)
        except (OSError, shutil.Error) as error:
            shutil.rmtree(target, ignore_errors=True)
            cause = error if not isinstance(error, shutil.Error) else OSError(str(error))
            raise output_error(target, cause) from error
        run = replace(self._run, name=target.name)
        named = [replace(r, facts=replace(r.facts, run=run.name)) for r in self.records]
        page = render_page([measured_config(target, run, named)])
        write_atomic(target / REPORT_FILE, page.encode())
        (result,) = run.configs
        write_run(target, replace(run, configs=(write_viewer_trace(target, result),)))
        return target


def trace_forward(
    model: nn.Module,
    *args: Any,
    phase: CallPhase | None = None,
    num_runs: int = 3,
    warmup_runs: int = 1,
    inference_mode: bool = True,
    memory: bool = False,
    energy: bool = False,
    ceilings: bool = False,
    **kwargs: Any,
) -> Profile:
    """Times and traces `model(*args, **kwargs)`, layer by layer and part by part.

    The call is made `warmup_runs` times, then twice for each measured run: bare, and under labels
    and the profiler; and once more, in which the bytes that its operators move are counted, unless
    the model is compiled. What it returns is dropped. Model and arguments are as they were
    afterwards; a KV cache among the arguments is copied for each pass.

    Args:
        model: a decoder of transformers, on one device. Its attention implementation, dtype and
            train or eval mode are used as they are.
        args, kwargs: what `model` is called with, such as `input_ids`.
        phase: what the pass is called; None for "decode" where one token per sequence comes with
            a cache, else "prefill".
        inference_mode: run under torch.inference_mode; with False in the caller's own grad mode.
        memory: record in one more call what each part allocates.
        energy: make the call over and over for seconds, and ask the GPU's driver what energy that
            took: `record.energy`, in joules per call and token. Where no driver counts it, a
            finding says so.
        ceilings: measure first what the device does at most, unless that was done today.

    Returns:
        The records, with the table and the trace. A decode record has one step.

    Raises:
        ModelError: not such a model, or one on several devices, or no input among the arguments.
        ConfigError: a count out of range, or weights of another dtype than config.DTYPES.
        RunError: the model is labelled already, or another profiler is active.

    What the model itself raises comes through as it is.
    """
    from qwen3_profile.measure.executions.model_call import Call
    from qwen3_profile.measure.record_call import record_call

    call = Call(model, args, kwargs, inference_mode)
    folder = tempfile.TemporaryDirectory(prefix="qwen3_profile.")
    place = Path(folder.name)
    run = record_call(
        call,
        phase or call.phase,
        num_runs,
        warmup_runs,
        place,
        memory=memory,
        energy=energy,
        ceilings=ceilings,
    )
    write_run(place, run)
    return Profile(collect_config(place, run, run.configs[0]), run, folder)


@contextmanager
def label(model: nn.Module) -> Iterator[Instrumentation]:
    """Labels every forward pass of `model` in this block that a profiler records.

    Each pass is `prefill` or `decode`, by whether one token per sequence comes with a cache.
    Afterwards the model is as it was.

    Args:
        model: a decoder of transformers.

    Returns:
        What was labelled, and what could not be.

    Raises:
        ModelError: it has no decoder layers, or one module in two places.
        RunError: it is labelled already.
    """
    from qwen3_profile.measure import instrument

    with instrument.labelled(model, passes=True) as found:
        yield found


def load_trace(path: str | Path, *, accept_damaged: bool = False) -> Trace:
    """The events of a Kineto trace (.json, .json.gz) as columns, in integer nanoseconds.

    Raises:
        TraceError: not a trace, or one that was cut off and is not accepted so.
    """
    return read_trace(Path(path), accept_damaged=accept_damaged)


def attribute(trace: Trace) -> Attribution:
    """Gives each device event of `trace` to the innermost label that launched it, or says why not.

    What belongs to no label has a negative `owner`, a `Reason`.
    """
    return attribution.attribute(trace, build_scopes(trace, select_labels(trace)))


def to_records(
    source: str | Path | Trace,
    *,
    accept_damaged: bool = False,
    executor: Executor | None = None,
) -> tuple[TimingRecord, ...]:
    """The records of a saved run, of a trace file, or of a trace that was loaded.

    Args:
        source: a run's folder, a folder of runs, a trace file, or what `load_trace` gave; with an
            executor a folder with the trace of each rank, or its URL.
        accept_damaged: read what is left of a damaged trace; its records say so.
        executor: reads the traces of ranks, one by one: of concurrent.futures, Dask, mpi4py or any
            other library.

    Returns:
        One record per measured run and phase; of a standalone trace one per forward pass, and none
        where a loaded trace has no ranges.

    Raises:
        TraceError: there is no such file, or it is no trace.
        DamagedTraceError: a trace whose figures would be wrong.
    """
    if isinstance(source, Trace):
        path = Path(source.info.path)
        return records_of(read_loaded(path, source, accept_damaged=accept_damaged))
    if executor is not None:
        place = str(source) if is_remote(str(source)) else Path(source)
        return tuple(load_ranks(place, executor, accept=accept_damaged).records)
    return tuple(load_saved(Path(source), accept=accept_damaged).records)


def to_table(records: Sequence[TimingRecord]) -> str:
    """The tables that the command line prints: one block for each config and phase."""
    runs: dict[str, list[TimingRecord]] = {}
    for record in records:
        runs.setdefault(record.facts.run, []).append(record)
    return "\n\n".join(render(same) for mine in runs.values() for same in by_config(mine))
