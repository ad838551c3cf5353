"""SVG for a page is smaller and shows the same picture."""

from __future__ import annotations

import re
from xml.etree import ElementTree as Xml

import pytest

from analysis.core import registry
from analysis.display import draw
from analysis.display.svg import simplify
from analysis.rows.run import Run, load
from tests.helpers import rows

SVG = (
    '<svg viewBox="0 0 10 10"><defs><path id="mark" d="M 0 0 \nL 1.23456 2 \nz" style="stroke: red"/>\n'
    '<clipPath id="hole"><rect x="0.0001" y="-0.0001" width="3" height="3"/></clipPath></defs>\n'
    '<g id="nobody"><use href="#mark" x="1.004999" y="2" style="fill: blue"/>\n'
    '<use href="#mark" x="3" y="4" style="fill: blue"/></g>'
    '<path d="M 1 1 L 5 5" clip-path="url(#hole)" style="fill: none"/>'
    '<text id="word" style="font: 10px sans-serif">a lone  1.23456 Ligature</text></svg>'
)


NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def drawn(svg: str) -> tuple[list[object], list[float]]:
    """The elements with styles, attributes and texts, with ids replaced by their targets; and all numbers in them."""
    root = Xml.fromstring(svg)
    elements = [one for one in root.iter() if one.tag != "style"]
    places = {one.get("id", ""): k for k, one in enumerate(elements)}
    sheet = dict(re.findall(r"\.([\w-]+)\{([^}]*)\}", "".join(one.text or "" for one in root.iter("style"))))
    found: list[object] = []
    measures: list[float] = []
    for one in elements:
        looks = one.get("style") or sheet.get(one.get("class", ""), "")
        attributes = {key: value for key, value in one.attrib.items() if key not in ("id", "style", "class")}
        for key, value in sorted({**attributes, "looks": looks, "text": (one.text or "").strip()}.items()):
            value = re.sub(r"#([\w-]+)", lambda name: f"[{places.get(name[1], name[1])}]", value)
            found.append((one.tag, key, re.sub(r"\s", "", NUMBER.sub("0", value))))
            measures += map(float, NUMBER.findall(value))
    return found, measures


def test_ids_classes_and_coordinates_are_short() -> None:
    assert simplify(SVG, "f") == (
        '<svg viewBox="0 0 10 10"><style>.f-1{fill: blue}</style><defs>'
        '<path id="f-1" d="M0 0L1.23 2z" style="stroke: red"/>'
        '<clipPath id="f-0"><rect x="0" y="0" width="3" height="3"/></clipPath></defs>'
        '<g><use href="#f-1" x="1" y="2" class="f-1"/><use href="#f-1" x="3" y="4" class="f-1"/></g>'
        '<path d="M1 1L5 5" clip-path="url(#f-0)" style="fill: none"/>'
        '<text style="font: 10px sans-serif">a lone  1.23456 Ligature</text></svg>'
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return load(rows.run_folder(tmp_path_factory.mktemp("runs") / "made"))


@pytest.mark.parametrize("name", registry.list_plugins("figures"))
def test_every_figure_is_the_same_picture_and_smaller(name: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    whole: list[str] = []
    monkeypatch.setattr(draw, "simplify", lambda text, own: whole.append(text) or simplify(text, own))
    thin = draw.inline(draw.draw(name, run), name, "a picture")
    assert drawn(thin)[0] == drawn(whole[0])[0]
    assert drawn(thin)[1] == pytest.approx(drawn(whole[0])[1], abs=0.00501)
    assert len(thin) < 0.8 * len(whole[0])
