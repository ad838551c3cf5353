"""A magnification of running statistics, too."""

from __future__ import annotations

from typing import Any


def scale_buffers(scaling: dict[str, Any]) -> dict[str, Any]:
    """`magnify` multiplies running means and variances like parameters (`tensors: all`), as the published script does.

    A scaling as a configuration writes it, {name: settings}, to another one (arXiv 2411.09263).
    """
    settings = scaling.get("magnify", {})
    return {"magnify": {**settings, "tensors": "all"}} if settings.get("tensors") == "parameters" else scaling
