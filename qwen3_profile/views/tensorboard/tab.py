"""A tab of TensorBoard with the runs below its log directory, and their reports.

TensorBoard finds the class by the entry point `tensorboard_plugins`, and imports this module at its
start. The page is `tab/index.js`; a report is shown in a frame, in which it can run its own code
and reach nobody, for it may be anybody's file.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable
from importlib.resources import files
from typing import Any

import msgspec
from tensorboard.plugins.base_plugin import FrontendMetadata, TBContext, TBPlugin
from werkzeug.wrappers import Request, Response

from qwen3_profile.views.report.page import chinese
from qwen3_profile.views.report.page_policy import page_policy, sandboxed_policy
from qwen3_profile.views.tensorboard.tab_runs import LogDir
from qwen3_profile.words import both

_Route = Callable[..., Any]
_ASSETS = {"/index.js": "text/javascript", "/style.css": "text/css"}
_COMPRESS_LEVEL = 3


class Qwen3ProfileTab(TBPlugin):  # type: ignore[misc]
    """The tab "Qwen3 profile"; there is one only where there is a run."""

    plugin_name = "qwen3_profile"

    def __init__(self, context: TBContext) -> None:
        super().__init__(context)
        spec = getattr(context.flags, "logdir_spec", "")
        self._logdir = LogDir(getattr(context.flags, "logdir", "") or context.logdir or "", spec)

    def get_plugin_apps(self) -> dict[str, _Route]:
        """The addresses below /data/plugin/qwen3_profile, and who answers them."""
        return {
            **{address: _asset(address[1:], kind) for address, kind in _ASSETS.items()},
            "/zh.json": Request.application(_chinese),
            "/runs": Request.application(self._runs),
            "/report": Request.application(self._report),
        }

    def is_active(self) -> bool:
        """Whether there is a run to show."""
        return bool(self._logdir.runs())

    def frontend_metadata(self) -> FrontendMetadata:
        """The tab's name and page, which looks for new runs by itself."""
        return FrontendMetadata(
            disable_reload=True, es_module_path="/index.js", tab_name="Qwen3 profile"
        )

    def _runs(self, request: Request) -> Response:
        rows = [
            {"name": run.name, "facts": run.facts, "version": run.version, "hint": both(run.hint)}
            for run in self._logdir.runs()
        ]
        return _response(request, msgspec.json.encode(rows), "application/json")

    def _report(self, request: Request) -> Response:
        # A browser that shows it as a page of its own would give it TensorBoard's origin. Over http
        # to another machine it does not say, and TensorBoard warns of any sandbox.
        place = request.headers.get("Sec-Fetch-Dest", "")
        if place not in ("", "iframe"):
            return _response(request, b"the tab shows this", "text/plain", status=403)
        run = self._logdir.find(request.args.get("run", ""))
        page = run.read_report() if run is not None else None
        if page is None:
            return _response(request, b"there is no such report", "text/plain", status=404)
        policy = page_policy(page) if place else sandboxed_policy(page)
        return _response(request, page, "text/html", policy=policy)


def _chinese(request: Request) -> Response:
    return _response(request, msgspec.json.encode(chinese()), "application/json")


def _asset(name: str, kind: str) -> _Route:
    def serve(request: Request) -> Response:
        data = (files(__package__) / "assets" / name).read_bytes()
        return _response(request, data, kind)

    return Request.application(serve)


def _response(
    request: Request, body: bytes, kind: str, *, status: int = 200, policy: str = ""
) -> Response:
    headers = {
        "Cache-Control": "no-cache",
        "Content-Type": kind if kind == "application/json" else f"{kind}; charset=utf-8",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Vary": "Accept-Encoding",
        "X-Content-Type-Options": "nosniff",
    }
    if policy:
        headers["Content-Security-Policy"] = policy
    if request.accept_encodings.quality("gzip") > 0:
        headers["Content-Encoding"] = "gzip"
        body = gzip.compress(body, _COMPRESS_LEVEL, mtime=0)
    return Response(body, status, headers)
