"""Forms in which training code leaves weights: what a network takes from each, what it leaves out, what it refuses."""

from __future__ import annotations

import argparse
import json
import logging
import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from sweep.core.weights import ParameterLayout
from sweep.model.layout import make_layout
from sweep.storage.checkpoint_forms import Checkpoint, checkpoint_digest, read_checkpoint
from sweep.storage.checkpoints import CheckpointError

CLASSES = 3


class Small(nn.Module):
    """Two blocks and a head, with running statistics and a counter."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([nn.Linear(4, 5), nn.BatchNorm1d(5)])
        self.head = nn.Linear(5, CLASSES)


class Nested(nn.Module):
    """A network whose own names begin as wrappers do."""

    def __init__(self) -> None:
        super().__init__()
        self.module = nn.ModuleDict({"model": nn.Linear(4, 5)})
        self.net = nn.Linear(5, CLASSES)


class Tied(nn.Module):
    """A network that has one tensor under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4, bias=False)
        self.second = nn.Linear(4, 4, bias=False)
        self.second.weight = self.first.weight
        self.head = nn.Linear(4, CLASSES)


def drawn(seed: int = 0, network: type[nn.Module] = Small) -> nn.Module:
    """A network with weights of its own."""
    torch.manual_seed(seed)
    model = network()
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.randn_like(tensor))
    return model


def layout(model: nn.Module) -> ParameterLayout:
    return make_layout(model, CLASSES)


def assert_same(found: Checkpoint, model: nn.Module) -> None:
    """The weights are those of the model, under its names."""
    expected = model.state_dict()
    assert not found.mismatches
    assert found.state.keys() <= expected.keys()
    assert {entry.name for entry in layout(model).entries} <= found.state.keys()
    for name, tensor in found.state.items():
        assert torch.equal(tensor, expected[name]), name


def prefixed(prefix: str, model: nn.Module) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in model.state_dict().items()}


def compiled_blocks(model: nn.Module) -> dict[str, Tensor]:
    """torch.compile of a submodule, in a whole model that is compiled, in DataParallel."""
    model.head.compile()  # compiling in place changes no name
    model.blocks[0] = torch.compile(model.blocks[0])  # type: ignore[index, operator]
    names = nn.DataParallel(torch.compile(model)).state_dict()  # type: ignore[arg-type]
    assert "module._orig_mod.blocks.0._orig_mod.weight" in names
    return names


def averaged(model: nn.Module) -> dict[str, Tensor]:
    state = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9)).state_dict()
    assert "n_averaged" in state
    return state


def lightning(model: nn.Module) -> dict[str, Any]:
    """As Lightning documents its checkpoints; the module holds a weighted loss beside the network."""
    optimizer = torch.optim.AdamW(model.parameters())
    return {
        "epoch": 3,
        "global_step": 120,
        "pytorch-lightning_version": "2.5.0",
        "state_dict": prefixed("model.", model) | {"criterion.weight": torch.ones(CLASSES)},
        "optimizer_states": [optimizer.state_dict()],
        "lr_schedulers": [],
        "hyper_parameters": {"lr": 0.1},
    }


def stepped(model: nn.Module) -> dict[str, Any]:
    """An optimizer's state with tensors in it."""
    twin = drawn(0, type(model))
    optimizer = torch.optim.AdamW(twin.parameters())
    sum((parameter**2).sum() for parameter in twin.parameters()).backward()  # type: ignore[union-attr]
    optimizer.step()
    return optimizer.state_dict()


def fsdp(model: nn.Module) -> dict[str, Tensor]:
    """Names as FSDP and activation checkpoints leave them in the middle of names."""
    return {
        f"_fsdp_wrapped_module.{name.replace('blocks.0.', 'blocks.0._checkpoint_wrapped_module.')}": tensor
        for name, tensor in model.state_dict().items()
    }


FORMS: dict[str, Callable[[nn.Module], Any]] = {
    "plain": lambda model: model.state_dict(),
    "parameters": lambda model: OrderedDict((n, nn.Parameter(t) if t.is_floating_point() else t)
                                            for n, t in model.state_dict().items()),
    "double": lambda model: {n: t.double() if t.is_floating_point() else t for n, t in model.state_dict().items()},
    "data parallel": lambda model: nn.DataParallel(model).state_dict(),
    "compiled": compiled_blocks,
    "fsdp": fsdp,
    "averaged": averaged,
    "lightning": lightning,
    "epoch beside": lambda model: {**model.state_dict(), "epoch": 3, "names": ["a"], "loss": torch.tensor(0.5)},
    "training script": lambda model: {"model": model.state_dict(), "optimizer": stepped(model), "epoch": 3},
    "nested": lambda model: {"checkpoint": {"model": nn.DataParallel(model).state_dict()}, "step": 5},
    "backbone": lambda model: {"state_dict": prefixed("backbone.", model)},
    "encoder and head": lambda model: {
        n if n.startswith("head") else f"encoder.{n}": t for n, t in model.state_dict().items()
    },
    "student and teacher": lambda model: {
        "student": prefixed("module.", model), "teacher": prefixed("module.", drawn(7))
    },
    "only averaged": lambda model: {"ema": model.state_dict(), "epoch": 2},
    "profiled": lambda model: {**model.state_dict(), "total_ops": torch.zeros(1), "head.total_ops": torch.zeros(1)},
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_the_network_finds_its_weights_in_every_form(tmp_path: Path, form: str) -> None:
    file = tmp_path / "a.pth"
    torch.save(FORMS[form](drawn()), file)
    assert_same(read_checkpoint(file, layout(Small())), drawn())
    plain = tmp_path / "plain.safetensors"
    save_file(drawn().state_dict(), plain)
    assert checkpoint_digest(file, layout(Small())) == checkpoint_digest(plain, layout(Small()))


@pytest.mark.parametrize("wrap", ["", "module.", "model.", "net.", "_orig_mod.", "module.module.", "lit.model."])
def test_names_that_are_the_networks_own_stay(tmp_path: Path, wrap: str) -> None:
    model = drawn(1, Nested)
    torch.save(prefixed(wrap, model), tmp_path / "a.pth")
    assert_same(read_checkpoint(tmp_path / "a.pth", layout(Nested())), model)


def test_timm_checkpoints_are_read(tmp_path: Path) -> None:
    import timm
    from timm.utils.checkpoint_saver import CheckpointSaver
    from timm.utils.model_ema import ModelEmaV3

    def network() -> nn.Module:
        made: nn.Module = timm.create_model("test_vit", num_classes=CLASSES)
        return made

    model = network()
    average = ModelEmaV3(model)
    for tensor in average.module.parameters():
        tensor.data.mul_(0.5)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    args = argparse.Namespace(model="test_vit")
    saver = CheckpointSaver(model, optimizer, args=None, model_ema=average, checkpoint_dir=str(tmp_path))
    saver.save_checkpoint(3, metric=0.5)
    file = tmp_path / "last.pth.tar"
    found = read_checkpoint(file, layout(network()))
    assert (found.taken, found.others) == ("state_dict", ("state_dict_ema",))
    assert_same(found, model)
    assert_same(read_checkpoint(file, layout(network()), "ema"), average.module)
    torch.save({"state_dict": model.state_dict(), "args": args}, file)
    with pytest.raises(CheckpointError, match=r"refused: argparse\.Namespace"):
        read_checkpoint(file, layout(network()))


def test_checkpoints_of_torchvisions_reference_script_are_read(tmp_path: Path) -> None:
    model = drawn()
    average = AveragedModel(drawn(2))
    torch.save({"model": model.state_dict(), "optimizer": stepped(model), "model_ema": average.state_dict()},
               tmp_path / "a.pth")  # fmt: skip
    found = read_checkpoint(tmp_path / "a.pth", layout(Small()))
    assert (found.taken, found.others, found.left_out) == ("model", ("model_ema",), ())
    assert_same(found, model)
    found = read_checkpoint(tmp_path / "a.pth", layout(Small()), "ema")
    assert (found.taken, found.left_out) == ("model_ema", ("n_averaged",))
    assert_same(found, average.module)


@pytest.mark.parametrize("key", ["ema", "state_dict_ema", "model_ema", "ema_model", "swa", "modelEma", "params_ema"])
@pytest.mark.parametrize("place", ["keys", "prefixes"])
def test_averaged_weights_are_taken_on_request_and_known_by_their_names(tmp_path: Path, key: str, place: str) -> None:
    if place == "keys":
        content: Mapping[str, Any] = {key: drawn(1).state_dict(), "weights": drawn(2).state_dict()}
    else:
        content = {"state_dict": prefixed(f"{key}.", drawn(1)) | prefixed("model.", drawn(2))}
    torch.save(content, tmp_path / "a.pth")
    raw = read_checkpoint(tmp_path / "a.pth", layout(Small()))
    assert_same(raw, drawn(2))
    assert raw.left_out == ()
    for wanted in ("ema", key, *raw.others):
        assert_same(read_checkpoint(tmp_path / "a.pth", layout(Small()), wanted), drawn(1))
    assert checkpoint_digest(tmp_path / "a.pth", layout(Small()), "ema") != checkpoint_digest(
        tmp_path / "a.pth", layout(Small())
    )
    with pytest.raises(CheckpointError, match="holds no weights `best`") as raised:
        read_checkpoint(tmp_path / "a.pth", layout(Small()), "best")
    assert all(f"`{name}`" in raised.value.hint for name in (raw.taken, *raw.others))


def test_weights_of_another_network_are_no_extras(tmp_path: Path) -> None:
    deeper = drawn().state_dict() | {"blocks.2.weight": torch.zeros(5, 5)}
    torch.save(deeper, tmp_path / "a.pth")
    assert read_checkpoint(tmp_path / "a.pth", layout(Small())).mismatches == "`blocks.2.weight` is unknown"
    layers = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, CLASSES))
    torch.save(layers.state_dict() | {"4.weight": torch.zeros(3, 3)}, tmp_path / "a.pth")
    assert read_checkpoint(tmp_path / "a.pth", layout(layers)).mismatches == "`4.weight` is unknown"


def test_unknown_names_stand_beside_missing_ones(tmp_path: Path) -> None:
    torch.save({f"trunk_{name}": tensor for name, tensor in drawn().state_dict().items()}, tmp_path / "a.pth")
    message = read_checkpoint(tmp_path / "a.pth", layout(Small())).mismatches
    assert "`blocks.0.weight` is missing" in message
    assert "`trunk_blocks.0.weight` is unknown" in message
    assert message.endswith("more)")


@pytest.mark.parametrize("kept", ["first.weight", "second.weight"])
def test_one_of_two_tied_names_is_enough(tmp_path: Path, kept: str) -> None:
    model = drawn(0, Tied)
    state = {name: tensor for name, tensor in model.state_dict().items() if name in (kept, "head.weight", "head.bias")}
    save_file(state, tmp_path / "a.safetensors")
    torch.save(model.state_dict(), tmp_path / "a.pth")
    assert_same(read_checkpoint(tmp_path / "a.safetensors", layout(Tied())), model)
    digests = {checkpoint_digest(tmp_path / name, layout(Tied())) for name in ("a.safetensors", "a.pth")}
    assert len(digests) == 1
    torch.save(model.state_dict() | {"second.weight": torch.ones(4, 4)}, tmp_path / "a.pth")
    message = "`second.weight` differs from `first.weight`, but the network has one tensor for both"
    assert read_checkpoint(tmp_path / "a.pth", layout(Tied())).mismatches == message


def sharded(folder: Path, model: nn.Module, suffix: str = "safetensors") -> Path:
    """A model in two files with their index, as Hugging Face writes large ones; the path of the index."""
    folder.mkdir(parents=True)
    stem = "model" if suffix == "safetensors" else "pytorch_model"
    state = model.state_dict()
    names = list(state)
    weight_map: dict[str, str] = {}
    for number, part in enumerate((names[:3], names[3:]), 1):
        file = folder / f"{stem}-0000{number}-of-00002.{suffix}"
        tensors = {name: state[name] for name in part}
        if suffix == "safetensors":
            save_file(tensors, file)
        else:
            torch.save(tensors, file)
        weight_map |= dict.fromkeys(part, file.name)
    index = folder / f"{stem}.{suffix}.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))
    return index


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_an_index_is_one_model_and_a_part_is_none(tmp_path: Path, suffix: str) -> None:
    index = sharded(tmp_path / "hf", drawn(), suffix)
    assert_same(read_checkpoint(index, layout(Small())), drawn())
    torch.save(drawn().state_dict(), tmp_path / "whole.pth")
    digest = checkpoint_digest(index, layout(Small()))
    assert digest == checkpoint_digest(tmp_path / "whole.pth", layout(Small()))
    part = next(file for file in sorted(index.parent.iterdir()) if "00002-of" in file.name)
    with pytest.raises(CheckpointError, match="is one part of 2") as raised:
        read_checkpoint(part, layout(Small()))
    assert str(index) in raised.value.hint
    content = part.read_bytes()
    part.unlink()
    with pytest.raises(CheckpointError, match=f"lists {part.name}, which is not there"):
        read_checkpoint(index, layout(Small()))
    part.write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match=part.name):
        read_checkpoint(index, layout(Small()))


@pytest.mark.parametrize("name", ["../whole.pth", "/etc/passwd", "", 3, "model.index.json", "."])
def test_an_index_names_files_beside_it_alone(tmp_path: Path, name: object) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(CheckpointError, match="is not the name of a file beside it"):
        read_checkpoint(index, layout(Small()))
    for content in ("[]", "{}", "{", '{"weight_map": 3}', "\xff"):
        index.write_text(content, encoding="latin1")
        with pytest.raises(CheckpointError, match="is no index of a model"):
            read_checkpoint(index, layout(Small()))


def test_safetensors_are_known_by_their_content(tmp_path: Path) -> None:
    save_file(drawn().state_dict(), tmp_path / "a.ckpt")
    assert_same(read_checkpoint(tmp_path / "a.ckpt", layout(Small())), drawn())


def test_every_change_of_the_weights_changes_the_digest(tmp_path: Path) -> None:
    state = drawn().state_dict()
    digests = set()
    for name, tensor in state.items():
        torch.save(state | {name: tensor + 1}, tmp_path / "a.pth")
        digests.add(checkpoint_digest(tmp_path / "a.pth", layout(Small())))
    swapped = {"blocks.1.weight": state["blocks.1.bias"], "blocks.1.bias": state["blocks.1.weight"]}
    for changed in (state, state | swapped):
        torch.save(changed, tmp_path / "a.pth")
        digests.add(checkpoint_digest(tmp_path / "a.pth", layout(Small())))
    assert len(digests) == len(state) + 2


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (argparse.Namespace(lr=0.1), "argparse.Namespace"),
        (Path("a"), "pathlib.PosixPath"),
        (np.float64(0.5), "numpy._core.multiarray.scalar"),
        (nn.Linear(1, 1), "torch.nn.modules.linear.Linear"),
        (logging.getLogger, "logging.getLogger"),
        (warnings.warn, "_warnings.warn"),
    ],
)
@pytest.mark.parametrize("is_archive", [True, False])
def test_what_a_refused_file_asks_for_is_named(tmp_path: Path, value: object, name: str, *, is_archive: bool) -> None:
    content = {"state_dict": drawn().state_dict(), "more": value}
    torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=is_archive)
    with pytest.raises(CheckpointError, match=rf"is refused: {name}$"):
        read_checkpoint(tmp_path / "a.pth", layout(Small()))
