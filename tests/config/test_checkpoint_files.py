"""Which files the `checkpoints` of a population mean, whatever characters their names have."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sweep.config.checkpoint_files import PoolFiles, as_pattern, find_pool_files, from_pattern
from sweep.core.errors import UserError

NASTY = [
    *("m[1].pth", "m[!1].pth", "lr=[0.1]*.pth", "what?.pth", "a*b.pth", "**", "[", "]", "[]", "[[]", "a[[]b.pth"),
    *("it's.pth", 'a"b.pth', "50%.pth", "a%20b.pth", "a#b.pth", "a|b<c>.pth", "a b.pth", " a", "a;b&c=$d`e`", "{a,b}"),
    *("~", "~x", "-rf", "file:x", "ünï.pth", "a\\b.pth", "...", "a:b"),
]


@pytest.fixture(params=["plain", "lr[0.1]", "a?*b", "it's 50% #1|<x>"])
def folder(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder, of a nasty name itself, with every nasty file in it and in a nasty folder."""
    place = tmp_path / request.param
    for name in NASTY:
        for parent in (place, place / "only[1]*"):
            parent.mkdir(parents=True, exist_ok=True)
            (parent / name).write_text(name)
    monkeypatch.chdir(place)
    return place


def test_a_name_that_is_there_means_this_file(folder: Path) -> None:
    for name in NASTY:
        written = f"./{name}" if name.startswith("~") else name
        for pattern in (written, str(folder / name), f"only[1]*/{name}"):
            found = find_pool_files([pattern]).members
            assert [file.name for file in found] == [name]
            assert found[0].read_text() == name


def test_only_what_was_written_is_a_pattern_and_no_folder_on_the_way(folder: Path) -> None:
    (folder / "m1.pth").write_text("another")
    (folder / "only1").mkdir()
    (folder / "only1" / "m7.pth").write_text("another")
    assert [file.name for file in find_pool_files(["m*].pth"]).members] == ["m[1].pth", "m[!1].pth"]
    assert len(find_pool_files(["only[1]*/*.pth"]).members) == sum(name.endswith(".pth") for name in NASTY)
    assert find_pool_files(["m[1].pth", "m1.pth"]).members == (folder / "m[1].pth", folder / "m1.pth")
    (folder / "m[1].pth").unlink()
    assert find_pool_files(["m[1].pth"]).members == (folder / "m1.pth",)


def test_resolved_names_are_read_back(folder: Path) -> None:
    for name in NASTY:
        file = folder / "only[1]*" / name
        assert find_pool_files([as_pattern(file)]).members == (file,)
        assert from_pattern(as_pattern(file)) == file
        file.unlink()
        with pytest.raises(FileNotFoundError):
            find_pool_files([as_pattern(file)])


def test_files_come_in_natural_order_and_the_home_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home[1]"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    for name in ("m10.pth", "m2.pth", "m1.pth"):
        (home / name).touch()
    assert [file.name for file in find_pool_files(["~/m*.pth"]).members] == ["m1.pth", "m2.pth", "m10.pth"]
    assert [file.name for file in find_pool_files(["~/m10.pth", "~/m1.pth"]).members] == ["m10.pth", "m1.pth"]


def test_a_folder_with_a_model_is_its_file(tmp_path: Path) -> None:
    inside = ["model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json"]
    for number, name in enumerate(inside):
        (tmp_path / f"run{number}").mkdir()
        (tmp_path / f"run{number}" / "config.json").touch()
        (tmp_path / f"run{number}" / name).touch()
    (tmp_path / "empty").mkdir()
    found = find_pool_files([f"{tmp_path}/*"]).members
    assert [file.name for file in found] == inside
    assert find_pool_files([f"{tmp_path}/run1"]).members == (tmp_path / "run1" / inside[1],)
    with pytest.raises(FileNotFoundError):
        find_pool_files([f"{tmp_path}/empty"])


def test_the_base_is_no_member(tmp_path: Path) -> None:
    for name in ("1.pth", "2.pth", "start.pth"):
        (tmp_path / name).touch()
    os.link(tmp_path / "start.pth", tmp_path / "hard.pth")
    (tmp_path / "soft").symlink_to(tmp_path)
    members = tmp_path / "1.pth", tmp_path / "2.pth"
    for base in (tmp_path / "start.pth", tmp_path / "soft" / "start.pth"):
        left_out = tmp_path / "hard.pth", tmp_path / "start.pth"
        assert find_pool_files([f"{tmp_path}/*.pth"], base) == PoolFiles(members, left_out)
        for patterns in (["start.pth"], ["1.pth", "hard.pth"], ["start*"], ["soft/start.pth"]):
            with pytest.raises(UserError, match="is the base of this population"):
                find_pool_files([f"{tmp_path}/{pattern}" for pattern in patterns], base)
