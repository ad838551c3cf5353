"""The SVG that matplotlib writes, without what no reader sees: a page of many figures is sent and opened faster."""

from __future__ import annotations

import re
from collections import Counter

_TAG = re.compile(r"<[^>]+>")
_ID = re.compile(r'(?<= id=")([^"]*)(?=")')
_USE = re.compile(r'(?<=href="#)([^"]*)(?=")|(?<=url\(#)([^)]*)(?=\))')
_PATH = re.compile(r'(?<= d=")([^"]*)(?=")')
_STYLE = re.compile(r' style="([^"]*)"')
_LONG = re.compile(r"-?\d+\.\d{3,}")


def simplify(svg: str, name: str) -> str:
    """The same picture: coordinates to a hundredth of a point, repeated styles once, ids that nothing uses gone.

    Ids and classes that stay begin with the name, for those of one picture hold for a whole page.
    """
    used = {found[1] or found[2] for found in _USE.finditer(svg)}
    short = {one: f"{name}-{k}" for k, one in enumerate(sorted(used))}
    svg = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in used else "", svg)
    svg = _ID.sub(lambda found: short[found[1]], svg)
    svg = _USE.sub(lambda found: short[found[1] or found[2]], svg)
    svg = re.sub(r">\s+<", "><", svg)
    svg = _TAG.sub(lambda tag: _LONG.sub(_rounded, tag[0]), svg)
    return _classes(_PATH.sub(_joined, svg), name)


def _rounded(number: re.Match[str]) -> str:
    """A coordinate to a hundredth, which stays a number: `0.` and `-0` do not appear."""
    text = f"{float(number[0]):.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _joined(path: re.Match[str]) -> str:
    """The steps of a path without blanks around their letters."""
    return re.sub(r"\s*([A-Za-z]|\s)\s*", r"\1", path[0].strip())


def _classes(svg: str, name: str) -> str:
    """Styles that are written more than once as classes of a style sheet in the picture."""
    counts = Counter(_STYLE.findall(svg))
    names = {style: f"{name}-{k}" for k, (style, count) in enumerate(counts.items()) if count > 1}
    sheet = "".join(f".{short}{{{style}}}" for style, short in names.items())
    svg = _STYLE.sub(lambda found: f' class="{names[found[1]]}"' if found[1] in names else found[0], svg)
    head = svg.index(">") + 1
    return f"{svg[:head]}<style>{sheet}</style>{svg[head:]}" if sheet else svg
