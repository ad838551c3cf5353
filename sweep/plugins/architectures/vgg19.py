"""VGG-19 of arXiv 1409.1556."""

from __future__ import annotations

from sweep.plugins.architectures import _vgg

CITES = ("simonyan2015deep",)
RECIPE = _vgg.RECIPE
FINE_TUNING = _vgg.FINE_TUNING

vgg19 = _vgg.vgg(19)
