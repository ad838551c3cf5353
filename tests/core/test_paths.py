"""Paths of users without a home, and of working folders that are gone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sweep.core.memmap import cache_folder
from sweep.core.paths import PathError, expand, expand_home

NOBODY = "~no-such-user-here"


@pytest.mark.parametrize("path", [NOBODY, f"{NOBODY}/runs"])
def test_the_home_of_an_unknown_user_is_an_error_with_a_way_out(path: str) -> None:
    with pytest.raises(PathError, match="no user `no-such-user-here`") as raised:
        expand(path)
    assert f"./{path}" in raised.value.hint


def test_a_home_at_the_beginning_is_replaced_and_nothing_else(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expand("~/a/../b") == tmp_path / "a/../b"
    assert expand_home("a/~/b") == Path("a/~/b")
    monkeypatch.chdir(tmp_path)
    assert expand("a") == tmp_path / "a"


def test_variables_for_caches_may_begin_with_a_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MERGE_SWEEP_CACHE", "~/cache")
    assert cache_folder() == tmp_path / "cache"


def test_every_verb_names_a_working_folder_that_is_gone(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    for command in ("sweep", "analysis.cli"):
        gone.mkdir()
        script = f"cd '{gone}' && rmdir '{gone}' && exec '{sys.executable}' -m {command} ls"
        root = str(Path(__file__).parents[2])
        done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, env={"PYTHONPATH": root})
        assert done.returncode == 2
        assert "the working folder cannot be used" in done.stderr
        assert "Traceback" not in done.stderr
