"""What the first layer looks for, in members and in soups of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from analysis.core.errors import NothingToDrawError
from analysis.display import style
from analysis.figures._images import label, pictures, scale_of, strip
from analysis.rows.select import named

TITLE = "Inside: filters of the first layer"

SHOWN = 16


def filters(layers: pd.DataFrame) -> style.Plot:
    """The first layer's filters of a member and of soups that it is in, side by side at one scale.

    Up to sixteen filters of the first member of the first pool, and of merges that begin with it: an example from one
    pool, where the other figures have them all. Red is above zero, blue below and white zero; filters over several
    channels are drawn by their mean. All pictures of a population share one scale, whose ends stand at the right: soups
    of members that are not alike grow pale, which is arithmetic. Members of a shared start keep their filters in place,
    so that a filter of the soup is one of theirs; from scratch a place says nothing.
    """
    rows = layers[layers["filters"].notna() & (layers["n_elements"] > 1)] if len(layers) else layers
    if rows.empty:
        raise NothingToDrawError("layers", "no pictures of first layers")
    strips = [one for _, own in rows.groupby("population", observed=True) for one in _strips(own)]
    figure, axes = style.grid(len(strips), 1, height=0.55)
    for one, panel in zip(strips, axes[:, 0], strict=True):
        strip(panel, one["images"], one["scale"])
        label(panel, one["text"], one["scale"])
        if one["head"]:
            style.title(panel, one["population"], style.recipe(layers[layers["population"] == one["population"]]))
    axes[-1, 0].set_xlabel("the first filters, in their order")
    data = pd.DataFrame(strips)[["population", "method", "settings", "n_members", "filter_shape", "scale", "norm"]]
    return style.Plot(figure, data, f"{style.pools(layers)} Pictures are of one pool.")


def _strips(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """A strip per model of a population: the member, then merges by size; only the largest but of uniform soups."""
    sizes = rows.groupby(["method", "settings"], observed=True)["n_members"].transform("max")
    rows = rows[(rows["n_members"] == sizes) | (rows["method"] == "uniform_soup")]
    rows = rows.sort_values(["kind", "n_members", "method", "settings"], ascending=True)
    images = [_filters(row) for row in rows.itertuples()]
    scale, found = scale_of([image for own in images for image in own]), []
    for place, (row, own) in enumerate(zip(rows.to_dict("records"), images, strict=True)):
        text = "member" if row["kind"] == "member" else named(row["method"], row["settings"]).replace(" (", "\n(")
        text += f" of {row['n_members']}" if row["n_members"] > 1 else ""
        found.append({**row, "images": own, "text": text, "scale": scale, "head": place == 0})
    return found


def _filters(row: Any) -> list[np.ndarray]:
    """The first filters of a row, each as a picture."""
    channels, height, width = (int(length) for length in row.filter_shape.split("x"))
    size = 4 * channels * height * width
    count = min(SHOWN, len(row.filters) // size)
    return [pictures(row.filters[place * size : (place + 1) * size], channels) for place in range(count)]
