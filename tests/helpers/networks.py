"""Networks of the house, and an awkward one, all of one shape."""

from __future__ import annotations

from torch import Tensor, nn

from sweep.core.registry import get_plugin
from sweep.core.weights import ParameterLayout
from sweep.model.build import build
from sweep.model.layout import make_layout

ARCHITECTURES = [
    get_plugin("architectures", name) for name in ("cnn", "linear", "mlp", "mlp_bn")
]  # the zoo has its own laws
SHAPE = (7, 3, 16)


class Awkward(nn.Module):
    """Tied weights, batch statistics, a layer norm, a counter and a head without bias."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.again = nn.Conv2d(3, 8, 3, padding=1)
        self.again.weight = self.conv.weight
        self.last = nn.LayerNorm(8)
        self.head = nn.Linear(8, 7, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.norm(self.conv(images)) + self.again(images)
        logits: Tensor = self.head(self.last(maps.mean((2, 3))))
        return logits


def models() -> list[tuple[str, nn.Module]]:
    return [(e.name, build(e.function, SHAPE, 0)) for e in ARCHITECTURES] + [
        ("awkward", build(lambda *_: Awkward(), SHAPE, 0))
    ]


def awkward_layout() -> ParameterLayout:
    return make_layout(dict(models())["awkward"], 7)
