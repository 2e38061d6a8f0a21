"""The page of a report: one HTML file that asks no host for anything.

Its policy lets nothing load and nothing run but what the page itself holds, known by its hash. What
a trace says is data: it lies in a JSON block, and the page's code shows it as text alone.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from html import escape
from importlib.resources import files
from typing import Any

import msgspec

from qwen3_profile.words import ENGLISH

SECTIONS = ("time", "parts", "icicle", "layers", "experts", "waits", "kernels", "timeline", "ranks")
_ASSETS = "assets"
_STYLE = "page.css"
_CHINESE = "zh.json"
# In the order in which they run.
_SCRIPTS = (
    "echarts.min.js", "words.js", "text.js", "draw.js", "tables.js", "executions.js", "times.js",
    "scaling.js", "parts.js", "layers.js", "icicle.js", "experts.js", "roofline.js",
    "timeline_bars.js", "timeline.js", "ranks.js", "links.js", "page.js",
)  # fmt: skip


def content_policy() -> str:
    """The Content-Security-Policy of the page, which is in its head too."""
    scripts = " ".join(_hash(_asset(name)) for name in _SCRIPTS)
    return (
        f"default-src 'none'; script-src {scripts}; style-src {_hash(_asset(_STYLE))}; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def fill_page(data: dict[str, Any], start: str = "", language: str = "") -> str:
    """The page that shows `data`, as `page_json.document` makes it.

    Args:
        start: the section that is shown first, where the address says nothing.
        language: "en" or "zh", in which it begins; empty for that of the browser.
    """
    scripts = "\n".join(f"<script>{_asset(name)}</script>" for name in _SCRIPTS)
    filled = {
        "POLICY": escape(content_policy(), quote=False).replace('"', "&quot;"),
        "START": escape(start),
        "LANGUAGE": language,
        "WORDS": _json(chinese()),
        "TITLE": escape(_english(data["title"])),
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


def _english(text: str | dict[str, str]) -> str:
    return text if isinstance(text, str) else text[ENGLISH]


@cache
def chinese() -> dict[str, str]:
    """The Chinese of each text that the page and its code show."""
    found: dict[str, str] = msgspec.json.decode(_asset(_CHINESE))
    return found


def _json(data: dict[str, Any]) -> str:
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
