"""VGG-16 of arXiv 1409.1556."""

from __future__ import annotations

from sweep.plugins.architectures import _vgg

CITES = ("simonyan2015deep",)
RECIPE = _vgg.RECIPE
FINE_TUNING = _vgg.FINE_TUNING

vgg16 = _vgg.vgg(16)
