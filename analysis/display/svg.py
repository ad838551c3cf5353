"""Make matplotlib's SVG smaller without changing the picture, so that a page of many figures loads faster."""

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
    """Round coordinates to a hundredth of a point, write repeated styles once, and drop unused ids.

    Remaining ids and classes begin with the name, because they are shared by the whole page.
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
    """A coordinate rounded to a hundredth; never `0.` or `-0`."""
    text = f"{float(number[0]):.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _joined(path: re.Match[str]) -> str:
    """The commands of a path without blanks around their letters."""
    return re.sub(r"\s*([A-Za-z]|\s)\s*", r"\1", path[0].strip())


def _classes(svg: str, name: str) -> str:
    """Move repeated styles to classes of a style sheet in the picture."""
    counts = Counter(_STYLE.findall(svg))
    names = {style: f"{name}-{k}" for k, (style, count) in enumerate(counts.items()) if count > 1}
    sheet = "".join(f".{short}{{{style}}}" for style, short in names.items())
    svg = _STYLE.sub(lambda found: f' class="{names[found[1]]}"' if found[1] in names else found[0], svg)
    head = svg.index(">") + 1
    return f"{svg[:head]}<style>{sheet}</style>{svg[head:]}" if sheet else svg
