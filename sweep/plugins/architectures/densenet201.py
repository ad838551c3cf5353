"""DenseNet-201 of arXiv 1608.06993."""

from __future__ import annotations

from sweep.plugins.architectures import _densenet

CITES = ("huang2017densely",)
RECIPE = _densenet.RECIPE
FINE_TUNING = _densenet.FINE_TUNING

densenet201 = _densenet.densenet(201)
