"""Laws of published networks: heads, roles, seeds, sizes, channels and weights, over a spread of names."""

from __future__ import annotations

import copy
import pickle
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from pretrained import of_timm, of_torchvision
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from sweep.config import check
from sweep.document import ConfigError, parse
from sweep.evaluate import DeviceSplit, outputs
from sweep.flops import forward_flops
from sweep.models import build, differences, find_head, flatten, layout_of, to_state
from sweep.prepare import check_networks, datasets
from sweep.registry import RegistryError, find, names
from sweep.weights import LEARNABLE, Layout

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
        return build(find("architectures", self.architecture).function, shape, seed, **self.settings)

    def on_paper(self, channels: int = 3) -> nn.Module:
        with torch.device("meta"):
            return self.build(channels)


def timm(name: str, size: int = 32, **settings: Any) -> Case:
    return Case("timm", size, {"name": name, **settings})


def torchvision(name: str, size: int = 64, **settings: Any) -> Case:
    return Case("torchvision", size, {"name": name, **settings})


LIGHT = [
    *(Case(name) for name in ("linear", "mlp", "mlp_bn", "cnn", "resnet18", "densenet121", "vit_tiny", "deit_tiny")),
    *(Case("vgg11", settings={"batch_norm": norm}) for norm in (False, True)),
    Case("resnet50", 32, {"stem": "imagenet"}),
    Case("resnet18", 16, {"upsample": 48}),
    Case("vit_tiny", 16, {"patch_size": 8, "upsample": 32}),
    *(timm(name) for name in ("convnext_atto", "efficientnet_b0", "mobilenetv3_small_100", "regnetx_002", "resnet26d")),
    *(timm(name) for name in ("resmlp_12_224", "mixer_s32_224", "deit3_small_patch16_224", "vit_tiny_patch16_224")),
    *(timm(name) for name in ("ghostnet_050", "test_vit", "nf_regnet_b0", "test_resnet")),
    *(timm(name, 64) for name in ("coat_lite_tiny", "swinv2_cr_tiny_224", "xcit_nano_12_p16_224", "poolformer_s12")),
    timm("swin_tiny_patch4_window7_224", 16, upsample=64),
    timm("legacy_xception", 64),
    *(torchvision(name) for name in ("alexnet", "mobilenet_v2", "shufflenet_v2_x0_5", "googlenet", "swin_t")),
    *(torchvision(name) for name in ("regnet_x_400mf", "mnasnet0_5", "swin_v2_t")),
]
DEEP = [
    *(Case(name) for name in names("architectures") if name not in ("timm", "torchvision")),
    Case("vgg16", settings={"head": "imagenet", "batch_norm": True}),
    Case("densenet201", 224, {"stem": "imagenet"}),
    Case("vit_b_16", 28, {"upsample": 224}),
    *(torchvision(name) for name in ("convnext_tiny", "efficientnet_v2_s", "wide_resnet50_2", "vit_l_32")),
    torchvision("inception_v3", 96),
    torchvision("maxvit_t", 32, upsample=224),
    *(
        timm(name, 64)
        for name in ("caformer_s18", "tresnet_m", "hrnet_w18_small", "cait_xxs24_224", "beit_base_patch16_224")
    ),
]


@pytest.fixture(scope="module", params=LIGHT, ids=str)
def case(request: pytest.FixtureRequest) -> Case:
    found: Case = request.param
    return found


@pytest.fixture(scope="module")
def model(case: Case) -> nn.Module:
    return case.build()


def images(case: Case, count: int = 4) -> Tensor:
    return torch.randint(256, (count, 3, case.size, case.size), generator=torch.Generator().manual_seed(0)).byte()


AS_TIMM_HAS_THEM = [
    case for case in LIGHT if case.architecture in ("timm", "vit_tiny", "deit_tiny") and "upsample" not in case.settings
]


def split_of(case: Case) -> DeviceSplit:
    return DeviceSplit(images(case), torch.arange(4), torch.tensor(128.0), torch.tensor(64.0))


def test_logits_are_the_head_of_the_features(case: Case, model: nn.Module) -> None:
    head = model.get_submodule(find_head(model, CLASSES))
    found = outputs(model, split_of(case), 4, head)
    assert found.features is not None
    with torch.inference_mode():
        assert torch.equal(head(found.features), found.logits)
    assert found.logits.shape == (4, CLASSES)
    assert found.features.ndim == 2


@pytest.mark.parametrize("case", AS_TIMM_HAS_THEM, indirect=True, ids=str)
def test_features_of_timm_are_what_it_calls_so(case: Case, model: nn.Module) -> None:
    """After the last normalisation, which skipping the head by hand leaves out."""
    split = split_of(case)
    found = outputs(model, split, 4, model.get_submodule(find_head(model, CLASSES))).features
    with torch.inference_mode():
        theirs = model.forward_head(model.forward_features(next(split.batches(4))), pre_logits=True)
    torch.testing.assert_close(found, theirs)


def test_rows_and_state_dicts_are_the_same_thing(model: nn.Module) -> None:
    layout, states = layout_of(model, CLASSES), model.state_dict()
    state = to_state(flatten(states, layout), layout, {name: states[name] for name in layout.counters})
    assert differences(state, layout) == []
    assert state.keys() == states.keys()
    assert all(torch.equal(state[name], tensor) for name, tensor in states.items())


def test_every_tensor_has_its_role(model: nn.Module) -> None:
    check_roles(model, layout_of(model, CLASSES))


def check_roles(model: nn.Module, layout: Layout) -> None:
    """Against torch's own classes, and names that timm and torchvision use."""
    roles = {entry.name: entry.role for entry in layout.entries}
    assert set(roles) | set(layout.counters) | {name for name, _ in layout.tied} == set(model.state_dict())
    assert set(roles.values()) <= {*LEARNABLE, "mean", "variance", "buffer"}
    assert layout.n_parameters == sum(parameter.numel() for parameter in model.parameters())
    head = find_head(model, CLASSES)
    assert {name for name, role in roles.items() if role == "head"} == {
        name for name in roles if name.rpartition(".")[0] == head
    }
    normal = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm)
    for prefix, module in model.named_modules():
        if isinstance(module, normal) and module.weight is not None:
            assert (roles[f"{prefix}.weight"], roles.get(f"{prefix}.bias", "norm")) == ("norm", "norm")
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            assert (roles[f"{prefix}.running_mean"], roles[f"{prefix}.running_var"]) == ("mean", "variance")
            assert f"{prefix}.num_batches_tracked" in layout.counters
        if isinstance(module, nn.Linear | nn.Conv2d) and prefix != head and f"{prefix}.weight" in roles:
            assert roles[f"{prefix}.weight"] == "weight"
            assert roles.get(f"{prefix}.bias", "bias") == "bias"
    for name, role in roles.items():
        last = name.rpartition(".")[2]
        if last.startswith(("gamma", "layer_scale", "alpha", "logit_scale", "gain")):
            assert role == "norm", name
        if last in ("pos_embed", "cls_token", "pos_embedding", "class_token", "relative_position_bias_table"):
            assert role == "weight", name


def test_weights_come_from_the_seed_alone(case: Case, model: nn.Module) -> None:
    torch.manual_seed(1)
    random.seed(1)
    before = torch.get_rng_state()
    again = case.build().state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(tensor, again[name]) for name, tensor in model.state_dict().items())


def test_paper_and_memory_hold_the_same_tensors(case: Case, model: nn.Module) -> None:
    before = torch.get_rng_state()
    paper = case.on_paper()
    assert all(tensor.is_meta for tensor in paper.state_dict().values())
    assert layout_of(paper, CLASSES) == layout_of(model, CLASSES)
    assert paper.training == model.train().training
    assert torch.equal(torch.get_rng_state(), before)


def test_operations_are_as_many_as_torch_counts(case: Case, model: nn.Module) -> None:
    with torch.enable_grad(), FlopCounterMode(display=False) as counter:
        model.eval()(images(case, 1).float())
    assert forward_flops(model, images(case, 1).float()) == counter.get_total_flops() > 0


def test_one_step_of_training(case: Case, model: nn.Module) -> None:
    trained = copy.deepcopy(model).train()
    optimiser = torch.optim.SGD(trained.parameters(), lr=1e-3)
    loss = functional.cross_entropy(trained(next(split_of(case).batches(4))), torch.arange(4))
    loss.backward()
    optimiser.step()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(tensor).all() for tensor in trained.state_dict().values())
    assert any(not torch.equal(a, b) for a, b in zip(trained.parameters(), model.parameters(), strict=True))


@pytest.mark.parametrize("case", DEEP, ids=str)
def test_deep_networks_on_paper(case: Case) -> None:
    model = case.on_paper()
    check_roles(model, layout_of(model, CLASSES))


@pytest.mark.parametrize("case", LIGHT, ids=str)
def test_grey_images_and_more_channels(case: Case) -> None:
    """The try on paper passes such images through the network."""
    grey, more = case.on_paper(channels=1), case.on_paper(channels=5)
    assert layout_of(grey, CLASSES).n_parameters < layout_of(more, CLASSES).n_parameters


def test_tied_tensors_are_laid_out_once() -> None:
    """CoaT shares position encodings among the blocks of a stage."""
    model = timm("coat_lite_tiny", 64).on_paper()
    tied = dict(layout_of(model, CLASSES).tied)
    tensors = model.state_dict(keep_vars=True)
    assert tied["serial_blocks1.1.cpe.proj.weight"] == "cpe1.proj.weight"
    assert all(tensors[name] is tensors[source] for name, source in tied.items())


def test_names_are_those_of_torchvision() -> None:
    """So that published weights fit, whatever the stem and the resizing."""
    from torchvision import models

    for case in (Case("resnet18", 16, {"upsample": 48}), Case("densenet121"), Case("vgg11"), Case("vit_b_16", 64)):
        with torch.device("meta"):
            theirs = models.get_model(case.architecture).state_dict()
        assert case.on_paper().state_dict().keys() == theirs.keys()


def test_resizing_is_what_would_be_done_outside() -> None:
    case = Case("resnet18", 16, {"upsample": 48})
    model, plain = case.build().eval(), Case("resnet18", 48).build().eval()
    batch = images(case).float()
    larger = functional.interpolate(batch, size=(48, 48), mode="bilinear", align_corners=False)
    assert torch.equal(pickle.loads(pickle.dumps(model))(batch), plain(larger))
    assert torch.equal(copy.deepcopy(model)(batch), plain(larger))


@pytest.mark.parametrize("name", ["resnet18", "vgg11", "densenet121"])
def test_a_grey_image_gives_what_its_copy_in_colour_gives(name: str) -> None:
    settings = {"vgg11": {}}.get(name, {"stem": "imagenet"})
    grey, colour = (Case(name, 32, settings).build(channels).eval() for channels in (1, 3))
    batch = torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(grey(batch), colour(batch.expand(-1, 3, -1, -1)), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("size", "patch"), [(8, 1), (16, 2), (28, 2), (32, 4), (64, 8), (96, 12), (128, 16), (224, 16), (384, 16)]
)
def test_patches_follow_the_size(size: int, patch: int) -> None:
    shape = dict(Case("vit_tiny", size).on_paper().named_parameters())["patch_embed.proj.weight"].shape
    assert shape[-2:] == (patch, patch)


TOLD = [
    (timm("resnet1"), "no `resnet1` in timm (did you mean `resnet18` or `resnet101` or `resnet10t`?)"),
    (timm("convnext_ato"), "no `convnext_ato` in timm (did you mean `convnext_atto`"),
    (timm("resnet18.a9_in1k"), "no `resnet18.a9_in1k` in timm (did you mean `resnet18"),
    (torchvision("resnet"), "no `resnet` in torchvision (did you mean `resnet18` or"),
    (timm("volo_d1_224"), "VOLO does not end in one linear layer"),
    (timm("crossvit_9_240", 240), "CrossVit does not end in one linear layer"),
    (timm("deit_tiny_distilled_patch16_224"), "VisionTransformerDistilled does not end in one linear layer"),
    (timm("levit_128s", 64), "LevitDistilled does not end in one linear layer"),
    (timm("dla34"), "DLA does not end in one linear layer"),
    (torchvision("squeezenet1_1"), "SqueezeNet does not end in one linear layer"),
    (torchvision("alexnet", 32), "AlexNet cannot take images of size 32"),
    (Case("vgg11", 16), "SmallVGG cannot take images of size 16"),
    (timm("vit_tiny_patch16_224", 28), "patches of 16 do not fill images of size 28 (`upsample: 32` does)"),
    (torchvision("vit_b_16", 28), "patches of 16 do not fill images of size 28 (`upsample: 32` does)"),
    (Case("vit_tiny", 32, {"patch_size": 5}), "patches of 5 do not fill images of size 32"),
    (Case("resnet18", 32, {"upsample": 16}), "`upsample: 16` is below the images' size 32"),
    (Case("resnet18", 32, {"pretrained": True}), "the pretrained weights are those of the imagenet stem"),
    (Case("vgg11", 32, {"pretrained": True}), "the pretrained weights are those of the imagenet head"),
    (Case("vit_b_16", 32, {"pretrained": True}), "the pretrained weights have patches of 16, not 4"),
    (timm("botnet50ts_256", pretrained=True), "timm has no weights for `botnet50ts_256`"),
]


@pytest.mark.parametrize(("case", "what"), TOLD, ids=str)
def test_what_does_not_fit_is_told(case: Case, what: str) -> None:
    with pytest.raises(RegistryError) as caught:
        case.on_paper()
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
def test_weights_that_cannot_be_had_are_told_in_one_line(case: Case, paper: bool, caches: Path) -> None:
    with pytest.raises(RegistryError) as caught:
        case.on_paper() if paper else case.build()
    assert f"` are not in {caches}" in str(caught.value)
    assert "cannot be fetched" in str(caught.value)
    assert "or say `pretrained: false`" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("name", ["resnet18", "googlenet", "densenet121"])
def test_pretrained_torchvision_gets_a_new_head_and_fitting_channels(name: str, caches: Path) -> None:
    state = {key: tensor for key, tensor in of_torchvision(caches, name).items() if not key.startswith("aux")}
    case = torchvision(name, pretrained=True)
    model, grey = case.build().state_dict(), case.build(channels=1).state_dict()
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
    assert layout_of(case.on_paper(), CLASSES).n_parameters == layout_of(case.build(), CLASSES).n_parameters
