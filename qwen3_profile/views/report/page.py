"""The page of a report: one HTML file that asks no host for anything.

Its policy lets nothing load and nothing run but what the page itself holds, known by its hash. What
a trace says is data: it lies in a JSON block, and the page's code shows it as text alone.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from html import escape
from importlib.resources import files

import msgspec

from qwen3_profile.errors import OutputError
from qwen3_profile.views.report.page_json import Json, document
from qwen3_profile.views.report.section_data import Config

MOST_BYTES = 6_000_000

_ASSETS = "assets"
_STYLE = "page.css"
# In the order in which they run.
_SCRIPTS = (
    "echarts.min.js", "text.js", "draw.js", "tables.js", "executions.js", "times.js", "parts.js",
    "layers.js", "timeline.js", "page.js",
)  # fmt: skip
# Tried one after the other until the page is small enough.
_BARS = (60_000, 24_000, 8_000, 2_000)


def render_page(configs: Sequence[Config]) -> str:
    """The whole page.

    Args:
        configs: in the order in which they can be chosen, at least one.

    Raises:
        OutputError: they are too many for one page.
    """
    for bars in _BARS:
        page = _page(document(configs, bars))
        if len(page.encode()) < MOST_BYTES:
            return page
    raise OutputError(
        "the report", f"of {len(configs)} configs does not fit one page",
        "give one run's folder, or one config with --config",
    )  # fmt: skip


def content_policy() -> str:
    """The Content-Security-Policy of the page, which is in its head too."""
    scripts = " ".join(_hash(_asset(name)) for name in _SCRIPTS)
    return (
        f"default-src 'none'; script-src {scripts}; style-src {_hash(_asset(_STYLE))}; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def _page(data: Json) -> str:
    scripts = "\n".join(f"<script>{_asset(name)}</script>" for name in _SCRIPTS)
    filled = {
        "POLICY": escape(content_policy(), quote=False).replace('"', "&quot;"),
        "TITLE": escape(data["title"]),
        "STYLE": _asset(_STYLE),
        "DATA": _json(data),
        "SCRIPTS": scripts,
    }
    head, *rest = _asset("page.html").split("{{")
    pieces = [head]
    for piece in rest:
        name, _, text = piece.partition("}}")
        pieces += [filled[name], text]
    return "".join(pieces)


def _json(data: Json) -> str:
    """JSON that ends neither its own block nor a line of it, whatever a name holds."""
    text = msgspec.json.encode(data).decode()
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


@cache
def _asset(name: str) -> str:
    return files(__package__).joinpath(_ASSETS, name).read_text(encoding="utf-8")


@cache
def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
