"""Files of other kinds in the place of a checkpoint or an image are named by what they are."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import pickle
import re
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from sweep.config.checkpoint_files import find_pool_files
from sweep.core.errors import UserError
from sweep.core.file_kinds import foreign_kind
from sweep.core.paths import expand
from sweep.model.layout import make_layout
from sweep.plugins.datasets._image_files import Ignored, images_in
from sweep.plugins.datasets._pictures import decode_image
from sweep.storage.checkpoint_forms import read_checkpoint

KINDS = {
    "it is empty": b"",
    "it begins with zeros": bytes(600),
    "a pointer of Git LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
    "it is a web page": b"\n<!DOCTYPE html><title>Sign in</title>",
    "it is compressed by gzip": gzip.compress(b"weights"),
}


def written(write: Callable[[io.BytesIO], object]) -> bytes:
    """What a function writes into a file."""
    file = io.BytesIO()
    write(file)
    return file.getvalue()


def in_zip(file: io.BytesIO) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("run/model.pth", "weights")


def in_tar(file: io.BytesIO) -> None:
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("model.pth"))


def as_script(file: io.BytesIO) -> None:
    with warnings.catch_warnings(action="ignore"):  # torch.jit is deprecated, but its files are around
        torch.jit.save(torch.jit.script(nn.Linear(2, 3)), file)


OTHERS: dict[str, Callable[[io.BytesIO], object]] = {
    "compressed by bzip2": lambda file: file.write(bz2.compress(b"weights")),
    "compressed by xz": lambda file: file.write(lzma.compress(b"weights")),
    "a NumPy array": lambda file: np.save(file, np.ones(3)),
    "an archive of NumPy arrays": lambda file: np.savez(file, weight=np.ones(3)),
    "a zip archive of other files": in_zip,
    "a tar archive": in_tar,
    "a TorchScript archive": as_script,
    "a pickle of protocol 3 or newer": lambda file: file.write(pickle.dumps({"weight": np.ones(3)})),
    "its end is missing": lambda file: file.write(written(lambda own: torch.save(nn.Linear(2, 3).weight, own))[:-99]),
    "holds no state dict": lambda file: torch.save({"epoch": 3}, file),
    "is not a plain CPU tensor": lambda file: torch.save({"weight": torch.empty(3, 2, device="meta")}, file),
}
"""What a message names -> what writes such a file."""


@pytest.mark.parametrize("kind", OTHERS)
def test_files_of_other_programs_are_no_checkpoints(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "member.pth"
    file.write_bytes(written(OTHERS[kind]))
    with pytest.raises(UserError, match=kind):
        read_checkpoint(file, make_layout(nn.Linear(2, 3), 3))


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("__0_0.distcp", "dcp_to_torch"),
        ("global_step1/mp_rank_00_model_states.pt", "DeepSpeed"),
        ("zero_to_fp32.py", "DeepSpeed"),
        ("adapter_model.safetensors", "an adapter"),
        ("notes.txt", r"expected model\.safetensors"),
    ],
)
def test_a_folder_without_a_model_is_named_by_what_it_holds(tmp_path: Path, name: str, hint: str) -> None:
    file = tmp_path / "run" / name
    file.parent.mkdir(parents=True)
    file.touch()
    with pytest.raises(UserError, match="holds no model") as raised:
        find_pool_files([str(tmp_path / "r*")])
    assert re.search(hint, raised.value.hint)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_another_kind_is_named(tmp_path: Path, kind: str) -> None:
    for name in ("member.pth", "member.safetensors"):
        (tmp_path / name).write_bytes(KINDS[kind])
        with pytest.raises(UserError, match=kind):
            read_checkpoint(tmp_path / name, make_layout(nn.Linear(2, 3), 3))
    with pytest.raises(UserError, match=kind):
        decode_image(KINDS[kind], "photo.png", 8, "RGB")


def test_usual_files_are_of_no_other_kind() -> None:
    assert foreign_kind(b"\x89PNG\r\n\x1a\n") == ("", "")


def test_torch_files_are_read_under_the_name_of_safetensors(tmp_path: Path) -> None:
    network = nn.Linear(2, 3)
    torch.save(network.state_dict(), tmp_path / "a.safetensors")
    found = read_checkpoint(tmp_path / "a.safetensors", make_layout(network, 3))
    assert torch.equal(found.state["weight"], network.weight.detach())


def test_parts_that_are_saved_apart_are_one_network(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Linear(2, 4), nn.Linear(4, 3))
    torch.save({"0": network[0].state_dict(), "1": network[1].state_dict()}, tmp_path / "a.pth")
    assert read_checkpoint(tmp_path / "a.pth", make_layout(network, 3)).mismatches == ""


@pytest.mark.parametrize("path", ["s3://bucket/runs", "$HOME/runs", "${SCRATCH}/runs"])
def test_addresses_and_variables_are_no_paths(path: str) -> None:
    with pytest.raises(UserError, match=r"an address|variables are not replaced"):
        expand(path)


def test_a_link_to_a_pipe_is_no_image(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "a.png").symlink_to(tmp_path / "pipe")
    assert images_in(tmp_path, Ignored(tmp_path)) == []
