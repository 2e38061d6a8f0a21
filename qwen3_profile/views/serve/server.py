"""The server of a run's pages for the browsers of this machine alone.

It listens on 127.0.0.1, and answers only who asks for it by that name: a page from elsewhere whose
name leads here cannot read a trace through the user's browser.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from qwen3_profile.errors import ConfigError
from qwen3_profile.views.serve.site import Answer, Site, line
from qwen3_profile.words import said

_HOST = "127.0.0.1"


class ViewServer(ThreadingHTTPServer):
    """Serves a site until it is closed.

    Args:
        port: 0 for any that is free.

    Raises:
        ConfigError: the port cannot be used.
    """

    daemon_threads = True

    def __init__(self, site: Site, port: int = 0) -> None:
        self.site = site
        try:
            super().__init__((_HOST, port), _Handler)
        except (OSError, OverflowError) as error:
            what = f"{port} cannot be used: {getattr(error, 'strerror', error)}"
            raise ConfigError("--port", what, "give another one, or none") from error

    @property
    def address(self) -> str:
        """The address of the report."""
        return f"http://{_HOST}:{self.server_port}/"

    def places(self) -> Iterator[tuple[str, str]]:
        """For a person: what can be opened, and where."""
        yield "report    ", self.address
        if self.site.perfetto:
            yield from (
                ("timeline  ", f"{self.address}timeline/{each}") for each in self.site.traces
            )
        elif self.site.traces:
            yield "timeline  ", said("needs Perfetto, which the extra `viewer` brings along")

    def handle_error(self, request: Any, client_address: Any) -> None:
        """That a browser has left ends nothing; anything else is reported as Python does."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: ViewServer
    timeout = 30

    def do_GET(self) -> None:
        self._send(self._answer(), with_body=True)

    def do_HEAD(self) -> None:
        self._send(self._answer(), with_body=False)

    def log_message(self, format: str, *args: object) -> None:
        """Nobody has to read what is asked for."""

    def version_string(self) -> str:
        return "qwen3_profile"

    def _answer(self) -> Answer:
        host, port = self.headers.get("Host", ""), self.server.server_port
        if host not in (f"{_HOST}:{port}", f"localhost:{port}"):
            return line(HTTPStatus.MISDIRECTED_REQUEST, f"ask for {self.server.address}")
        try:
            return self.server.site.answer(urlsplit(self.path).path, host)
        except (OSError, ValueError):
            return line(HTTPStatus.NOT_FOUND, "it is not there any more")

    def _send(self, answer: Answer, *, with_body: bool) -> None:
        self.send_response(answer.status)
        headers = (
            ("Content-Type", answer.content_type),
            ("Content-Length", str(len(answer.body))),
            ("X-Content-Type-Options", "nosniff"),
            ("Cache-Control", "no-cache"),
            ("Cross-Origin-Resource-Policy", "same-origin"),
            ("Referrer-Policy", "no-referrer"),
        )
        for name, value in (*headers, *answer.headers):
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(answer.body)
