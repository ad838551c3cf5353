"""Laws of published networks: heads, roles, seeds, sizes and channels, over a spread of names."""

from __future__ import annotations

import copy
import pickle
import random

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from sweep.core.registry import list_plugins
from sweep.core.state_dict import state_dict_mismatches
from sweep.core.weights import TRAINABLE_ROLES, ParameterLayout
from sweep.model.flops import forward_flops
from sweep.model.forward import forward_split
from sweep.model.layout import find_head, flatten_state_dict, make_layout, unflatten_state_dict
from sweep.model.split import Batching, DeviceSplit
from tests.helpers.zoo_networks import CLASSES, Case, timm, torchvision

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
    *(Case(name) for name in list_plugins("architectures") if name not in ("timm", "torchvision")),
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
    found = forward_split(model, split_of(case), Batching(4), head)
    assert found.features is not None
    with torch.inference_mode():
        assert torch.equal(head(found.features), found.logits)
    assert found.logits.shape == (4, CLASSES)
    assert found.features.ndim == 2


@pytest.mark.parametrize("case", AS_TIMM_HAS_THEM, indirect=True, ids=str)
def test_features_of_timm_are_what_it_calls_so(case: Case, model: nn.Module) -> None:
    """After the last normalisation, which skipping the head by hand leaves out."""
    split = split_of(case)
    found = forward_split(model, split, Batching(4), model.get_submodule(find_head(model, CLASSES))).features
    with torch.inference_mode():
        theirs = model.forward_head(model.forward_features(next(split.batches(4))), pre_logits=True)
    torch.testing.assert_close(found, theirs)


def test_rows_and_state_dicts_are_the_same_thing(model: nn.Module) -> None:
    layout = make_layout(model, CLASSES)
    states = model.state_dict()
    state = unflatten_state_dict(
        flatten_state_dict(states, layout), layout, {name: states[name] for name in layout.counters}
    )
    assert state_dict_mismatches(state, layout) == []
    assert state.keys() == states.keys()
    assert all(torch.equal(state[name], tensor) for name, tensor in states.items())


def test_every_tensor_has_its_role(model: nn.Module) -> None:
    check_roles(model, make_layout(model, CLASSES))


def check_roles(model: nn.Module, layout: ParameterLayout) -> None:
    """Against torch's own classes, and names that timm and torchvision use."""
    roles = {entry.name: entry.role for entry in layout.entries}
    assert set(roles) | set(layout.counters) | {name for name, _ in layout.tied} == set(model.state_dict())
    assert set(roles.values()) <= {*TRAINABLE_ROLES, "mean", "variance", "buffer"}
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
    assert make_layout(paper, CLASSES) == make_layout(model, CLASSES)
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
    check_roles(model, make_layout(model, CLASSES))


@pytest.mark.parametrize("case", LIGHT, ids=str)
def test_grey_images_and_more_channels(case: Case) -> None:
    """The try on paper passes such images through the network."""
    grey = case.on_paper(channels=1)
    more = case.on_paper(channels=5)
    assert make_layout(grey, CLASSES).n_parameters < make_layout(more, CLASSES).n_parameters


def test_tied_tensors_are_laid_out_once() -> None:
    """CoaT shares position encodings among the blocks of a stage."""
    model = timm("coat_lite_tiny", 64).on_paper()
    tied = dict(make_layout(model, CLASSES).tied)
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
    model = case.build().eval()
    plain = Case("resnet18", 48).build().eval()
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
