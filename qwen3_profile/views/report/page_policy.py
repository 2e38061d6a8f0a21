"""The Content-Security-Policy under which a page runs and asks nobody for anything.

Reports come from files, and a file may be anybody's: a server of ours lets it run what it holds
itself, known by its hash, and reach no host, not even the one that it came from.
"""

from __future__ import annotations

import base64
import hashlib
import re

# What a report may do in a frame: it has no origin, so it reads nothing of whoever shows it, and
# cannot leave its frame.
SANDBOX = "allow-scripts allow-downloads allow-modals"

_SCRIPT = re.compile(rb"<script\b([^>]*)>(.*?)</script\b", re.DOTALL | re.IGNORECASE)
_STYLE = re.compile(rb"<style\b([^>]*)>(.*?)</style\b", re.DOTALL | re.IGNORECASE)
# A block of data does not run; to hash it would only take time.
_DATA = re.compile(rb"\btype\s*=\s*[\"']?application/json", re.IGNORECASE)


def page_policy(page: bytes) -> str:
    """The policy of a page that holds all that it needs."""
    return (
        f"default-src 'none'; script-src {_sources(_SCRIPT, page)}; "
        f"style-src {_sources(_STYLE, page)}; img-src data:; base-uri 'none'; "
        f"form-action 'none'; frame-ancestors 'self'"
    )


def sandboxed_policy(page: bytes) -> str:
    """The same for a page that is not known to lie in a frame with a sandbox of ours."""
    return f"{page_policy(page)}; sandbox {SANDBOX}"


def script_sources(page: bytes) -> str:
    """The scripts that stand in `page`, as a policy names them; 'none' where there is none."""
    return _sources(_SCRIPT, page)


def _sources(element: re.Pattern[bytes], page: bytes) -> str:
    found = (text for attributes, text in element.findall(page) if not _DATA.search(attributes))
    return " ".join(dict.fromkeys(map(_hash, found))) or "'none'"


def _hash(text: bytes) -> str:
    # A browser hashes what it has parsed, in which every line ends in one character.
    parsed = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return f"'sha256-{base64.b64encode(hashlib.sha256(parsed).digest()).decode()}'"
