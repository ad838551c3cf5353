"""ResNet-18 of arXiv 1512.03385."""

from __future__ import annotations

from sweep.plugins.architectures import _resnet

CITES = ("he2016residual",)
RECIPE = _resnet.RECIPE
FINE_TUNING = _resnet.FINE_TUNING

resnet18 = _resnet.resnet(18)
