"""Runs the tests on the sets of torch and transformers that we support; one line for each.

    python scripts/test_matrix.py [SET ...] [--tests ARGUMENT ...]

The sets are oldest, v4, pinned and newest; without a name it is all but newest, whose torch is
several gigabytes to fetch. Each set gets a copy of the working tree and an environment of its own
in a temporary folder, which is several gigabytes while it lasts. pip installs from wherever it is
set up to. The exit code is 0 if every set was installed and has no failed test.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent
SETS = {
    # The first release with Qwen3 loads weights only with accelerate.
    "oldest": ["torch==2.6.0", "transformers==4.51.0", "accelerate"],
    "v4": ["torch==2.13.0", "transformers==4.57.6"],
    "pinned": ["-c", "constraints.txt"],
    "newest": ["--upgrade", "torch", "transformers"],
}
ROW = "{:<8} {:<14} {:<14} {:<8} {:>6} {:>6} {:>7}  {}"
VERSIONS = (
    "import platform, torch, transformers;"
    "print(torch.__version__, transformers.__version__, platform.python_version())"
)


@dataclass(frozen=True)
class Outcome:
    """One row: versions of torch, transformers and Python, and how many tests did what."""

    versions: tuple[str, str, str] = ("-", "-", "-")
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    note: str = ""

    @property
    def is_good(self) -> bool:
        return not self.note and not self.failed and self.passed > 0


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    usual = [name for name in SETS if name != "newest"]
    parser.add_argument("sets", nargs="*", metavar="SET", help=f"of {', '.join(SETS)}")
    parser.add_argument("--tests", nargs=argparse.REMAINDER, default=[], help="for pytest")
    args = parser.parse_args(argv)
    unknown = sorted(set(args.sets) - set(SETS))
    if unknown:
        parser.error(f"{unknown[0]!r} is not one of {', '.join(SETS)}")
    print(ROW.format("set", "torch", "transformers", "python", "passed", "failed", "skipped", ""))
    outcomes = [run_set(name, args.tests) for name in args.sets or usual]
    return 0 if all(outcome.is_good for outcome in outcomes) else 1


def run_set(name: str, tests: Sequence[str]) -> Outcome:
    with tempfile.TemporaryDirectory(prefix=f"test-matrix-{name}-") as folder:
        outcome = measure(Path(folder), SETS[name], tests)
    row = (*outcome.versions, outcome.passed, outcome.failed, outcome.skipped, outcome.note)
    print(ROW.format(name, *row).rstrip(), flush=True)
    return outcome


def measure(folder: Path, requirements: Sequence[str], tests: Sequence[str]) -> Outcome:
    tree, python, report = folder / "tree", folder / "venv/bin/python", folder / "junit.xml"
    copy_tree(tree)
    venv.create(folder / "venv", with_pip=True)
    install: list[str | Path] = [
        python,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-cache-dir",
        ".[test]",
    ]
    if not run([*install, *requirements], tree, folder / "install.log"):
        print((folder / "install.log").read_text(errors="replace"), file=sys.stderr)
        return Outcome(note="not installed: see above")
    if not run([python, "-c", VERSIONS], tree, folder / "versions.log"):
        return Outcome(note="not importable: " + last_line(folder / "versions.log"))
    torch, transformers, version = last_line(folder / "versions.log").split()
    versions = (torch, transformers, version)
    pytest: list[str | Path] = [
        python,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        f"--junitxml={report}",
    ]
    run([*pytest, *tests], tree, folder / "pytest.log")
    if not report.exists():
        return Outcome(versions, note="no tests ran: " + last_line(folder / "pytest.log"))
    outcome = read_report(report, versions)
    if not outcome.is_good:
        print((folder / "pytest.log").read_text(errors="replace"), file=sys.stderr)
    return outcome


def copy_tree(target: Path) -> None:
    """The files that git knows or would add, as they are now."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)


def run(command: Sequence[str | Path], folder: Path, log: Path) -> bool:
    # A virtual environment of the caller must not shine through.
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    with log.open("wb") as output:
        done = subprocess.run(
            command, cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
    return done.returncode == 0


def last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else ""


def read_report(path: Path, versions: tuple[str, str, str]) -> Outcome:
    suites = list(ElementTree.parse(path).getroot().iter("testsuite"))

    def total(*keys: str) -> int:
        return sum(int(suite.get(key, "0")) for suite in suites for key in keys)

    failed, skipped = total("failures", "errors"), total("skipped")
    return Outcome(versions, total("tests") - failed - skipped, failed, skipped)


if __name__ == "__main__":
    raise SystemExit(main())
