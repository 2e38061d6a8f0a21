"""What lies where in a run's folder.

traces/run1/
  run.json                                       `run_json.Run`
  raw/bs2_len256_bfloat16_prefill.run0.kineto.json.gz   one per measured run, untouched
  bs2_len256_bfloat16_prefill.<time_ns>.pt.trace.json.gz   all runs of a config, for viewers
  report.html                                    what a person looks at, in any browser
"""

from __future__ import annotations

import re
from pathlib import Path

RUN_FILE = "run.json"
RAW_FOLDER = "raw"
REPORT_FILE = "report.html"
# Of a run below its --output-dir; of an export beside what it read.
RECORDS_FILE = "timing_records.json"
SCALING_FILE = "timing_scaling.json"
SUMMARY_FILE = "timing_summary.json"
# How files of traces end; some downloads pack them twice.
_PACKED = r"(\.(gz|zst|xz|bz2))*"


def may_be_trace(name: str) -> bool:
    """Whether a file in a folder of traces, called so, may be one."""
    if name in (RECORDS_FILE, SUMMARY_FILE):  # which an export writes beside the traces
        return False
    return re.fullmatch(rf"[^.].*\.json{_PACKED}", name, re.IGNORECASE) is not None


def without_suffix(name: str) -> str:
    """`x.pt.trace` of x.pt.trace.json.gz."""
    return re.sub(rf"\.json{_PACKED}$", "", name, flags=re.IGNORECASE)


def trace_stem(name: str) -> str:
    """`x` of x.pt.trace.json.gz."""
    return re.sub(rf"(\.pt)?(\.trace)?\.json{_PACKED}$", "", name, flags=re.IGNORECASE)


def find_runs(path: Path) -> list[Path]:
    """`path` if it is a run's folder, else the runs directly below it."""
    if (path / RUN_FILE).is_file():
        return [path]
    return sorted(
        (folder for folder in path.iterdir() if (folder / RUN_FILE).is_file()),
        key=lambda folder: (len(folder.name), folder.name),
    )


def run_of_raw(path: Path) -> Path | None:
    """The run's folder of one of its raw traces; None of any other file."""
    folder = path.resolve().parent.parent
    inside = path.resolve().parent.name == RAW_FOLDER and (folder / RUN_FILE).is_file()
    return folder if inside else None


def beside(path: Path) -> Path:
    """The folder for what is made of `path`: itself, the run of a raw trace, or a file's folder."""
    return path if path.is_dir() else run_of_raw(path) or path.parent


def missing_report(folder: Path) -> str:
    """What to do about a run without its report, as one from an older version is.

    The folder's name is quoted: a person copies the line into a shell.
    """
    import shlex  # only for who lacks one

    command = f"python -m qwen3_profile.export {shlex.quote(str(folder))} --report"
    return f"{folder.name} has no report: {command}"
