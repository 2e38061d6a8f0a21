"""The picture of all passes: a point for each, and their percentiles."""

from __future__ import annotations

from xml.etree import ElementTree

from qwen3_profile.views.passes_picture import passes_picture

SVG = "{http://www.w3.org/2000/svg}"


def test_every_pass_is_a_point() -> None:
    times = [1e6 * (1 + at / 100) for at in range(40)]
    tree = ElementTree.fromstring(passes_picture(times, "a <title>").svg)
    points = tree.findall(f".//{SVG}circle")
    assert [each[0].text for each in points[:2]] == ["pass 1: 1.000 ms", "pass 2: 1.010 ms"]
    assert len(points) == 40
    heights = [float(each.attrib["cy"]) for each in points]
    assert heights == sorted(heights, reverse=True)
    words = [each.text for each in tree.findall(f".//{SVG}text")]
    assert {"p50", "p90", "p99", "1.195 ms", "a <title>"} <= set(words)


def test_notes_stand_below_the_picture() -> None:
    tree = ElementTree.fromstring(passes_picture([1.0, 2.0], "", ("one <line>", "another")).svg)
    found = {each.text: float(each.attrib["y"]) for each in tree.findall(f".//{SVG}text")}
    height = float(tree.attrib["viewBox"].split()[3])
    assert found["50 %"] < found["one <line>"] < found["another"] < height


def test_few_passes_have_no_tail() -> None:
    assert "p99" not in passes_picture([1.0, 2.0], "two").svg
    assert "<circle" in passes_picture([5.0], "one").svg
