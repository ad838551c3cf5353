"""A magnification that multiplies running statistics too."""

from __future__ import annotations

from typing import Any


def scale_buffers(scaling: dict[str, Any]) -> dict[str, Any]:
    """`magnify` multiplies running means and variances as it multiplies parameters (`tensors: all`).

    The script of arXiv 2411.09263 does so. Takes and returns a scaling as in a configuration, {name: settings}.
    """
    settings = scaling.get("magnify", {})
    return {"magnify": {**settings, "tensors": "all"}} if settings.get("tensors") == "parameters" else scaling
