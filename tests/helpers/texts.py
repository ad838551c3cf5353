"""Small sweeps as text, and what they mean."""

from __future__ import annotations

from sweep.config.document import override, parse
from sweep.config.loader import _BROADCAST, check
from sweep.config.spec import Sweep

KNOWN = (
    "known: `alignments`, `claims`, `dataset`, `execution`, `grids`, `inspect`, `margin`, `methods`, `metrics`, "
    "`name`, `pools_planned`, `populations`, `protocols`, `repairs`, `scalings`, `seed`, `splits`, `subsets`"
)
ANCHORS_HINT = "; a key that begins with `x-` is a place for anchors"


def text(extra: str = "", population: str = "architecture: linear, members: 4", subsets: str = "sizes: [2]") -> str:
    """A small sweep: its population stands in line 3, subsets in line 4, anything more from line 5 on."""
    return f"name: t\npopulations:\n  - {{{population}}}\nsubsets: {{{subsets}}}\n{extra}"


def checked(written: str, *overrides: str) -> Sweep:
    document = parse(written, "f.yaml")
    override(document, overrides, _BROADCAST)
    return check(document)


def again(sweep: Sweep) -> Sweep:
    """The sweep that its resolved configuration means."""
    return check(parse(sweep.to_yaml(), "resolved.yaml"))
