"""Weights as images: rows of small images on one color scale, red above zero, blue below, white at zero."""

from __future__ import annotations

import math
from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes

from analysis.display import style

COLOURS = mpl.colormaps["RdBu_r"]
"""Red above zero, blue below; lighter is closer to zero."""


def pictures(values: bytes, channels: int) -> np.ndarray:
    """One image (height, width) from little-endian float32 bytes (channels, side, side); the mean over channels.

    Infinite values are NaN, which is drawn as nothing.
    """
    flat = np.frombuffer(values, "<f4").astype(float)
    flat = np.where(np.isfinite(flat), flat, np.nan)
    side = math.isqrt(flat.size // channels)
    return np.asarray(flat.reshape(channels, side, -1).mean(0))


def scale_of(images: Sequence[np.ndarray]) -> float:
    """The largest absolute value: the end of the color scale that all images share."""
    return max((float(np.abs(image[np.isfinite(image)]).max(initial=0.0)) for image in images), default=0.0) or 1.0


def strip(axes: Axes, images: Sequence[np.ndarray], scale: float, names: Sequence[str] = ()) -> None:
    """Draw images of one size side by side, with colors from -scale to +scale and `names` below them."""
    height, width = images[0].shape
    gap = max(1, width // 8)
    canvas = np.full((height, len(images) * (width + gap) - gap), np.nan)
    for place, image in enumerate(images):
        canvas[:, place * (width + gap) : place * (width + gap) + width] = image
    axes.imshow(canvas, cmap=COLOURS, vmin=-scale, vmax=scale, interpolation="nearest", aspect="equal")
    axes.set_yticks([])
    places = [place * (width + gap) + (width - 1) / 2 for place in range(len(names))]
    axes.set_xticks(places, list(names))
    axes.tick_params(length=0)
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)


def label(axes: Axes, text: str, scale: float | None = None) -> None:
    """Write what a strip shows at its left, and the value of its strongest color at its right."""
    axes.set_ylabel(text, rotation=0, ha="right", va="center", fontsize=8)
    if scale is not None:
        axes.annotate(
            f"±{scale:.2g}",
            (1, 0.5),
            (5, 0),
            xycoords="axes fraction",
            textcoords="offset points",
            va="center",
            fontsize=8,
            color=style.MUTED,
        )
