"""A network is tried before anything is trained: what cannot be trained, evaluated or merged is named in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch import Tensor, nn
from torch.nn import functional

from sweep.cli.main import main
from sweep.core.choice import PluginConfig
from sweep.core.registry import get_plugin, list_plugins
from sweep.model.build import fork_rng, layout_on_meta
from sweep.model.trial import TrialError, try_with_values

SHAPE = (5, 1, 8)
CLASSES = SHAPE[0]
UNFIT = ("timm", "torchvision")  # they need a name


class Own(nn.Module):
    """A perceptron whose parts the tests replace."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.ReLU())
        self.head = nn.Linear(12, CLASSES)

    def forward(self, images: Tensor) -> object:
        return self.head(self.body(images))


class TwoHeads(Own):
    def __init__(self) -> None:
        super().__init__()
        self.other = nn.Linear(12, CLASSES)

    def forward(self, images: Tensor) -> object:
        features = self.body(images)
        return (self.head(features) + self.other(features)) / 2


class HeadFirst(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.classify = nn.Linear(CLASSES, CLASSES)
        self.body = nn.Linear(64, CLASSES)

    def forward(self, images: Tensor) -> object:
        return self.classify(self.body(images.flatten(1)).relu())


class LogProbabilities(Own):
    def forward(self, images: Tensor) -> object:
        return functional.log_softmax(self.head(self.body(images)), 1)


class WithAuxiliary(Own):
    def forward(self, images: Tensor) -> object:
        features = self.body(images)
        return (self.head(features), features) if self.training else self.head(features)


class AsMapping(Own):
    def forward(self, images: Tensor) -> object:
        return {"logits": self.head(self.body(images))}


class WithMask(Own):
    def forward(self, images: Tensor, mask: Tensor) -> object:  # type: ignore[override]
        return self.head(self.body(images * mask))


class OtherClasses(Own):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(12, 7)


class OtherSize(Own):
    def __init__(self) -> None:
        super().__init__()
        self.body[1] = nn.Linear(100, 12)


class Squeezed(Own):
    def forward(self, images: Tensor) -> object:
        return self.head(self.body(images)).squeeze()


class InPlace(Own):
    def forward(self, images: Tensor) -> object:
        return self.head(self.body(images.mul_(2)))


class AlwaysDropout(Own):
    def forward(self, images: Tensor) -> object:
        return self.head(functional.dropout(self.body(images), 0.5))


class BatchStatistics(Own):
    def __init__(self) -> None:
        super().__init__()
        self.body.append(nn.InstanceNorm1d(12, affine=True))

    def forward(self, images: Tensor) -> object:
        features = self.body[:3](images)
        return self.head(features - features.mean(0))


class Counting(Own):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, images: Tensor) -> object:
        self.calls += 1
        return self.head(self.body(images))


class InAList(Own):
    def __init__(self) -> None:
        super().__init__()
        self.layers = [nn.Linear(12, 12)]

    def forward(self, images: Tensor) -> object:
        return self.head(self.layers[0](self.body(images)))


class PlainTensor(Own):
    def __init__(self) -> None:
        super().__init__()
        self.gain = torch.ones(12, requires_grad=True)


class Lazy(Own):
    def __init__(self) -> None:
        super().__init__()
        self.body[1] = nn.LazyLinear(12)


class Complex(Own):
    def __init__(self) -> None:
        super().__init__()
        self.phase = nn.Parameter(torch.zeros(3, dtype=torch.complex64))


class HalfOutput(Own):
    def forward(self, images: Tensor) -> object:
        logits = self.head(self.body(images))
        return logits.half()


class WithoutGradient(Own):
    def forward(self, images: Tensor) -> object:
        with torch.no_grad():
            return self.head(self.body(images))


MISTAKES: dict[Callable[[], nn.Module], str] = {
    TwoHeads: "does not end in one linear layer",
    HeadFirst: "ends in the linear layer `classify`, but `body` is registered after it",
    LogProbabilities: "does not end in one linear layer",
    WithAuxiliary: "returns a tuple, expected a tensor",
    AsMapping: "returns a dict, expected a tensor",
    WithMask: "cannot be called with images alone",
    OtherClasses: "returns a tensor of shape (2, 7) for 2 images and 5 classes, expected (2, 5)",
    OtherSize: "cannot take images of size 8 with 1 channel",
    Squeezed: "returns a tensor of shape (5,) for 1 image",
    InPlace: "changes the images that it is given",
    AlwaysDropout: "gives other outputs for the same images in evaluation mode",
    BatchStatistics: "gives an image another output in another batch",
    Counting: "changes `calls` in evaluation mode",
    InAList: "holds weights in `layers`, where state_dict does not find them",
    PlainTensor: "holds weights in `gain`, where state_dict does not find them",
    Lazy: "has lazy layers: the shape of `body.1.weight` is unknown",
    Complex: "has weights that are no real numbers: `phase` is torch.complex64",
    HalfOutput: "returns torch.float16, expected torch.float32",
    WithoutGradient: "cannot be trained: its output has no gradient",
    nn.Flatten: "has no parameters",
}


@pytest.mark.parametrize("network", MISTAKES, ids=lambda network: network.__name__)
def test_what_cannot_be_merged_is_named(network: Callable[[], nn.Module]) -> None:
    with fork_rng(0), pytest.raises(TrialError) as raised:
        try_with_values(network(), SHAPE)
    assert str(raised.value).startswith(MISTAKES[network])
    assert "\n" not in str(raised.value)


class Branching(Own):
    """What a network may do: look at values, print, tie weights, count in a buffer while it is trained."""

    def __init__(self) -> None:
        super().__init__()
        self.again = self.body
        self.scale = float(torch.linspace(1, 2, 3)[1])
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))

    def forward(self, images: Tensor) -> object:
        if self.training:
            self.batches += 1
        if float(images.mean()) > 1e6:
            return self.head(self.again(images * 0))
        return self.head(self.body(images * self.scale)).view(-1, CLASSES)


@pytest.mark.parametrize("network", [Own, Branching])
def test_a_network_that_can_be_merged_is_left_as_it_is(network: Callable[[], nn.Module]) -> None:
    model = network()
    weights = {name: tensor.clone() for name, tensor in model.named_parameters()}
    with fork_rng(0):
        try_with_values(model, SHAPE)
    assert model.training
    assert all(p.grad is None and torch.equal(p, weights[name]) for name, p in model.named_parameters())


@pytest.mark.parametrize("name", sorted(set(list_plugins("architectures")) - set(UNFIT)))
def test_every_registered_architecture_passes(name: str) -> None:
    choice = PluginConfig("architectures", name, get_plugin("architectures", name).validate({}))
    assert layout_on_meta(choice, (CLASSES, 3, 32)).n_parameters


MODULE = """
from tests.model import test_trial as made
def net(classes: int, channels: int, size: int):
    return made.{0}()
"""


@pytest.mark.parametrize(("network", "code"), [("TwoHeads", 2), ("AlwaysDropout", 2), ("Branching", 0)])
def test_check_tries_a_network_of_ones_own(
    network: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.model.test_trial.CLASSES", 10)
    (tmp_path / f"own_{network.lower()}.py").write_text(MODULE.format(network))
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "f.yaml"
    architecture = f'"own_{network.lower()}:net"'
    file.write_text(
        f"name: t\ndataset: {{digits: {{size: 8}}}}\npopulations:\n  - {{architecture: {architecture}}}\n"
        "subsets: {sizes: [2]}\n"
    )
    done = CliRunner().invoke(main, ["check", str(file)])
    assert done.exit_code == code, done.output
    if code:
        assert f"f.yaml:4:6: `populations[0].architecture`: `own_{network.lower()}:net` " in done.stderr
        assert "hint: " in done.stderr
