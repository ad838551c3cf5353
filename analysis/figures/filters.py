"""Filters of the first layer, in members and in soups of them."""

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
    """The first layer's filters of a member and of soups that contain it, side by side on one scale.

    Up to sixteen filters of the first member of the first pool, and of merges whose first member it is: an example from
    one pool; the other figures show all pools. Red is above zero, blue below, white zero; filters over several channels
    are drawn as their mean. All images of a population share one scale, whose ends are written at the right. Soups of
    dissimilar members are paler, which is arithmetic. Members of a shared start keep their filters in the same
    positions, so a filter of the soup can be compared with theirs; for members from scratch the position has no
    meaning.
    """
    rows = layers[layers["filters"].notna() & (layers["n_elements"] > 1)] if len(layers) else layers
    if rows.empty:
        raise NothingToDrawError("layers", "no images of first layers")
    strips = [one for _, own in rows.groupby("population", observed=True) for one in _strips(own)]
    figure, axes = style.grid(len(strips), 1, height=0.55)
    for one, panel in zip(strips, axes[:, 0], strict=True):
        strip(panel, one["images"], one["scale"])
        label(panel, one["text"], one["scale"])
        if one["head"]:
            style.title(panel, one["population"], style.recipe(layers[layers["population"] == one["population"]]))
    axes[-1, 0].set_xlabel("first filters, in order")
    data = pd.DataFrame(strips)[["population", "method", "settings", "n_members", "filter_shape", "scale", "norm"]]
    return style.Plot(figure, data, f"{style.pools(layers)} Images are from one pool.")


def _strips(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """A strip per model of a population: the member, then merges; all sizes of uniform soups, else the largest."""
    sizes = rows.groupby(["method", "settings"], observed=True)["n_members"].transform("max")
    rows = rows[(rows["n_members"] == sizes) | (rows["method"] == "uniform_soup")]
    rows = rows.sort_values(["kind", "n_members", "method", "settings"], ascending=True)
    images = [_filters(row) for row in rows.itertuples()]
    scale = scale_of([image for own in images for image in own])
    found = []
    for place, (row, own) in enumerate(zip(rows.to_dict("records"), images, strict=True)):
        text = "member" if row["kind"] == "member" else named(row["method"], row["settings"]).replace(" (", "\n(")
        text += f" of {row['n_members']}" if row["n_members"] > 1 else ""
        found.append({**row, "images": own, "text": text, "scale": scale, "head": place == 0})
    return found


def _filters(row: Any) -> list[np.ndarray]:
    """The first filters of a row, each as an image."""
    channels, height, width = (int(length) for length in row.filter_shape.split("x"))
    size = 4 * channels * height * width
    count = min(SHOWN, len(row.filters) // size)
    return [pictures(row.filters[place * size : (place + 1) * size], channels) for place in range(count)]
