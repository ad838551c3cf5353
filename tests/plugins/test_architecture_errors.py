"""Published networks that do not fit, weights that cannot be had, and pretrained ones with a new head."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sweep.config.document import ConfigError, parse
from sweep.config.loader import check
from sweep.core.registry import RegistryError
from sweep.model.layout import find_head, make_layout
from sweep.model.trial import TrialError, try_on_meta
from sweep.status.preflight import check_networks, datasets
from tests.helpers.pretrained import of_timm, of_torchvision
from tests.helpers.zoo_networks import CLASSES, Case, timm, torchvision

ERRORS = [
    (timm("resnet1"), "no `resnet1` in timm (did you mean `resnet18` or `resnet101` or `resnet10t`?)"),
    (timm("convnext_ato"), "no `convnext_ato` in timm (did you mean `convnext_atto`"),
    (timm("resnet18.a9_in1k"), "no `resnet18.a9_in1k` in timm (did you mean `resnet18"),
    (torchvision("resnet"), "no `resnet` in torchvision (did you mean `resnet18` or"),
    (timm("volo_d1_224"), "does not end in one linear layer"),
    (timm("crossvit_9_240", 240), "does not end in one linear layer"),
    (timm("deit_tiny_distilled_patch16_224"), "does not end in one linear layer"),
    (timm("levit_128s", 64), "does not end in one linear layer"),
    (timm("dla34"), "does not end in one linear layer"),
    (torchvision("squeezenet1_1"), "does not end in one linear layer"),
    (torchvision("alexnet", 32), "cannot take images of size 32 with 3 channels: AlexNet gives"),
    (Case("vgg11", 16), "cannot take images of size 16 with 3 channels: SmallVGG gives"),
    (timm("vit_tiny_patch16_224", 28), "patches of 16 do not fill images of size 28 (`upsample: 32` does)"),
    (torchvision("vit_b_16", 28), "patches of 16 do not fill images of size 28 (`upsample: 32` does)"),
    (Case("vit_tiny", 32, {"patch_size": 5}), "patches of 5 do not fill images of size 32"),
    (Case("resnet18", 32, {"upsample": 16}), "`upsample: 16` is below the images' size 32"),
    (Case("resnet18", 32, {"pretrained": True}), "the pretrained weights are those of the imagenet stem"),
    (Case("vgg11", 32, {"pretrained": True}), "the pretrained weights are those of the imagenet head"),
    (Case("vit_b_16", 32, {"pretrained": True}), "the pretrained weights have patches of 16, not 4"),
    (timm("botnet50ts_256", pretrained=True), "timm has no weights for `botnet50ts_256`"),
]


@pytest.mark.parametrize(("case", "what"), ERRORS, ids=str)
def test_settings_that_do_not_fit_are_an_error(case: Case, what: str) -> None:
    with pytest.raises((RegistryError, TrialError)) as caught:
        try_on_meta(case.on_paper(), (CLASSES, 3, case.size))
    assert what in str(caught.value)
    assert "\n" not in str(caught.value)


def test_prepare_tells_the_place_and_the_nearest_names() -> None:
    population = "{architecture: {timm: {name: resnet1}}, dataset: {digits: {size: 8}}}"
    text = f"name: near\npopulations:\n  - {population}\nsubsets: {{pairs: all}}\n"
    sweep = check(parse(text, "f.yaml"))
    with pytest.raises(ConfigError) as caught:
        check_networks(sweep, datasets(sweep))
    assert "f.yaml:3:" in str(caught.value)
    assert "cannot build timm: no `resnet1` in timm (did you mean `resnet18` or" in str(caught.value)


NOWHERE = [
    timm("test_resnet", pretrained=True),
    Case("vit_tiny", 32, {"pretrained": True}),
    torchvision("resnet18", pretrained=True),
    Case("resnet18", 32, {"stem": "imagenet", "pretrained": True}),
    Case("vgg11", 32, {"head": "imagenet", "pretrained": True}),
]


@pytest.mark.parametrize("paper", [True, False])
@pytest.mark.parametrize("case", NOWHERE, ids=str)
def test_weights_that_cannot_be_downloaded_are_an_error_of_one_line(case: Case, paper: bool, caches: Path) -> None:
    with pytest.raises(RegistryError) as caught:
        case.on_paper() if paper else case.build()
    assert f"` are not in {caches}" in str(caught.value)
    assert "cannot be fetched" in str(caught.value)
    assert "or write `pretrained: false`" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("name", ["resnet18", "googlenet", "densenet121"])
def test_pretrained_torchvision_gets_a_new_head_and_fitting_channels(name: str, caches: Path) -> None:
    state = {key: tensor for key, tensor in of_torchvision(caches, name).items() if not key.startswith("aux")}
    case = torchvision(name, pretrained=True)
    model = case.build().state_dict()
    grey = case.build(channels=1).state_dict()
    head = find_head(case.on_paper(), CLASSES)
    same = {key for key in state if torch.equal(state[key], model[key])}
    assert set(state) - same == {f"{head}.weight", f"{head}.bias"}
    assert torch.equal(model[f"{head}.weight"], case.build().state_dict()[f"{head}.weight"])
    assert not torch.equal(model[f"{head}.weight"], case.build(seed=1).state_dict()[f"{head}.weight"])
    first = next(iter(state))
    torch.testing.assert_close(grey[first], state[first].sum(1, keepdim=True))


def test_pretrained_timm_gets_a_new_head(caches: Path) -> None:
    state = of_timm(caches, "test_resnet")
    case = timm("test_resnet", pretrained=True)
    model = case.build().state_dict()
    same = {key for key in state if torch.equal(state[key], model[key])}
    assert set(state) - same == {"fc.weight", "fc.bias"}
    assert model["fc.weight"].shape[0] == CLASSES
    assert make_layout(case.on_paper(), CLASSES).n_parameters == make_layout(case.build(), CLASSES).n_parameters
