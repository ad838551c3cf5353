"""Published networks by name, with settings and the size of their images."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from sweep.core.registry import get_plugin
from sweep.model.build import build

CLASSES = 7


@dataclass(frozen=True)
class Case:
    """An architecture, its settings and the size of its images."""

    architecture: str
    size: int = 32
    settings: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return "-".join([self.architecture, *(str(value) for value in self.settings.values())])

    def build(self, channels: int = 3, seed: int = 0) -> nn.Module:
        shape = (CLASSES, channels, self.size)
        return build(get_plugin("architectures", self.architecture).function, shape, seed, **self.settings)

    def on_paper(self, channels: int = 3) -> nn.Module:
        with torch.device("meta"):
            return self.build(channels)


def timm(name: str, size: int = 32, **settings: Any) -> Case:
    return Case("timm", size, {"name": name, **settings})


def torchvision(name: str, size: int = 64, **settings: Any) -> Case:
    return Case("torchvision", size, {"name": name, **settings})
