"""Files of other kinds in the place of a checkpoint or an image are named by what they are."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest
import torch
from torch import nn

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
