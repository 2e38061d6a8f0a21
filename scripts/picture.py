"""Draws docs/terminal.svg, the README's picture: what `export` prints of a decode on an H200.

    python scripts/picture.py

A test holds the committed picture against what this draws, so that it shows what the program says.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from xml.sax.saxutils import escape

from qwen3_profile.records.load import load
from qwen3_profile.views.terminal.tables import render

ROOT = Path(__file__).resolve().parents[1]
SAMPLE = ROOT / "traces/h200"
PICTURE = ROOT / "docs/terminal.svg"

# In pixels: one character of a 13 px monospace font, one line, and the rim around the text.
_CHAR, _LINE, _RIM = 7.8, 17, 18
_COLUMNS = 100
_SHOWN_LAYERS = 3
_LAYER_ROW = re.compile(r" +(\d+)(?: +\d+\.\d{3}){4} +\d+\.\d%")

_STYLE = """\
text { font: 13px ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace;
       fill: #d7dde5; white-space: pre; }
.command { fill: #7ee0b1; font-weight: bold; }
.head { fill: #8fb8ff; }
.story { fill: #ffd479; }
"""


def draw(sample: Path = SAMPLE) -> str:
    """The picture of a run's last tables, those of its decode, as the text of an SVG file."""
    command = f"$ python -m qwen3_profile.export {sample.relative_to(ROOT).as_posix()}"
    tables = render(load(sample).groups[-1])
    lines = [command, "...", "", *_without_most_layers(tables.splitlines())]
    width, height = 2 * _RIM + _CHAR * _COLUMNS, 2 * _RIM + _LINE * len(lines)
    size = f'width="{width:.0f}" height="{height}" viewBox="0 0 {width:.0f} {height}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">',
            f"<title>{escape(command)}</title>",
            f"<style>\n{_STYLE}</style>",
            '<rect width="100%" height="100%" rx="8" fill="#161b22"/>',
            *_texts(lines),
            "</svg>\n",
        ]
    )


def _without_most_layers(lines: Iterable[str]) -> Iterable[str]:
    """The lines, with one of dots for all layers but the first few."""
    for line in lines:
        match = _LAYER_ROW.fullmatch(line)
        if match is None or int(match[1]) < _SHOWN_LAYERS:
            yield line
        elif int(match[1]) == _SHOWN_LAYERS:
            yield f"{'...':>9}"


def _texts(lines: Iterable[str]) -> Iterable[str]:
    """One element a line, of a set length, so that columns align in whatever font there is."""
    in_story = False
    for number, line in enumerate(lines, start=1):
        text = line.lstrip()
        begins = text.startswith(("GPU busy", "CPU times are", "Most "))
        in_story = begins or (in_story and line != text)
        if text:
            x = _RIM + _CHAR * (len(line) - len(text))
            at = f'x="{x:.1f}" y="{_RIM + _LINE * number - 5}"'
            length = f'textLength="{_CHAR * len(text):.1f}" xml:space="preserve"'
            kind = _kind(text, in_story)
            yield f"<text {at} {length}{kind}>{escape(text)}</text>"


def _kind(text: str, in_story: bool) -> str:
    if text.startswith("$"):
        return ' class="command"'
    if in_story:
        return ' class="story"'
    return ' class="head"' if text.endswith("share") else ""


if __name__ == "__main__":
    PICTURE.write_text(draw(), encoding="utf-8")
    print(PICTURE.relative_to(ROOT))
