"""Errors of the system, of libraries and of a user's own code are explained; only other errors are bugs."""

from __future__ import annotations

import errno
import importlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from sweep.cli.main import main
from sweep.core.causes import describe, explain
from sweep.core.errors import UserError
from sweep.core.registry import Plugin, RegistryError, get_plugin

CODES = (errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EMFILE, errno.ENAMETOOLONG, errno.ELOOP, errno.EIO)


@pytest.mark.parametrize("code", CODES, ids=errno.errorcode.get)
def test_an_error_of_the_system_names_its_path_and_a_remedy(code: int) -> None:
    found = explain(OSError(code, os.strerror(code), "/data/caf\udce9"))
    assert found is not None
    assert str(found) == f"/data/caf\\udce9: {os.strerror(code)}"
    assert found.hint


def test_a_lack_of_memory_is_known_by_the_text_of_torch_too() -> None:
    with pytest.raises(RuntimeError) as raised:
        torch.empty(1 << 50)
    for error in (raised.value, MemoryError(), torch.OutOfMemoryError("CUDA out of memory.")):
        found = explain(error)
        assert found is not None
        assert str(found).startswith("out of memory")


@pytest.mark.parametrize("error", [KeyError("x"), TypeError("x"), RecursionError(), AssertionError()], ids=repr)
def test_an_error_that_begins_here_is_a_bug(error: Exception) -> None:
    assert explain(error) is None
    assert describe(error).startswith(type(error).__name__)


@pytest.mark.parametrize(
    ("code", "what"),
    [
        ("import nowhere_at_all", ":1: ModuleNotFoundError"),
        ("def net(:", ":1: SyntaxError"),
        ("raise SystemExit(3)", ":1: SystemExit"),
        ("\n1 / 0", ":2: ZeroDivisionError"),
        ("def other(): ...", "defines no `net`"),
        ("net = 3", "has no signature"),
    ],
)
def test_a_mistake_in_a_module_of_ones_own_is_named_with_its_place(
    code: str, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"own_{abs(hash(code))}"
    (tmp_path / f"{name}.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    with pytest.raises(RegistryError, match=what) as raised:
        get_plugin("architectures", f"{name}:net")
    assert f"{name}" in str(raised.value)


def test_code_of_ones_own_that_fails_later_is_named_with_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_late.py").write_text("def run(call):\n    return call()\n\ndef fail():\n    return {}['x']\n")
    monkeypatch.syspath_prepend(tmp_path)
    fail: Callable[[], object] = importlib.import_module("own_late").fail
    with pytest.raises(KeyError) as raised:
        fail()
    assert str(explain(raised.value)) == f"{tmp_path}/own_late.py:5: KeyError: 'x'"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of installed packages on the path."""
    folder = tmp_path / "site-packages"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    importlib.invalidate_caches()
    return folder


def test_the_package_of_an_installed_plug_in_is_a_users(installed: Path) -> None:
    for name in ("plugged", "library"):
        (installed / name).mkdir()
        (installed / name / "__init__.py").write_text("")
        (installed / name / "table.py").write_text("def look(key):\n    return {}[key]\n")
    (installed / "plugged" / "scores.py").write_text(
        "from library.table import look as other\nfrom plugged.table import look as own\n\n"
        "def fail(logits):\n    return other(logits)\n"
    )
    get_plugin("metrics", "plugged.scores:fail")
    module = importlib.import_module("plugged.scores")

    def explained(name: str) -> UserError | None:
        """The error of a function of the module, as merge-sweep calls it."""
        with pytest.raises(KeyError) as raised:
            Plugin("metrics", name, getattr(module, name)).call({"logits": "x", "key": "x"}, {})
        return explain(raised.value)

    for name, place in (("fail", "plugged/scores.py:5"), ("own", "plugged/table.py:2")):
        found = explained(name)
        assert found is not None
        assert str(found) == f"{installed}/{place}: KeyError: 'x'"
        assert "report it to its authors" in found.hint
    assert explained("other") is None, "a library that holds no plug-in"


@pytest.mark.parametrize(("code", "what"), [("1 / 0", "ZeroDivisionError"), ("def f(:", "SyntaxError")])
def test_an_installed_plug_in_that_cannot_be_imported_is_named_with_its_place(
    code: str, what: str, installed: Path
) -> None:
    name = f"installed_{what.lower()}"
    (installed / f"{name}.py").write_text(f"\n{code}\n")
    with pytest.raises(RegistryError, match=f"{installed}/{name}.py:2: {what}"):
        get_plugin("architectures", f"{name}:net")


def test_an_error_of_an_installed_plug_in_is_no_bug_of_a_verb(installed: Path) -> None:
    (installed / "third_party_data.py").write_text("def broken():\n    return {}['x']\n")
    file = installed.parent / "s.yaml"
    file.write_text(
        "name: s\ndataset: 'third_party_data:broken'\npopulations: [{architecture: mlp}]\nsubsets: {pairs: all}\n"
    )
    outcome = CliRunner().invoke(main, ["check", str(file)])
    assert outcome.exit_code == 2
    assert f"{installed}/third_party_data.py:2: KeyError: 'x'" in outcome.stderr
    assert "bug" not in outcome.stderr


def test_a_reader_that_ends_early_is_no_error() -> None:
    script = f"'{sys.executable}' -m sweep show none | head -c 1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", script], capture_output=True, text=True)
    assert done.returncode in (0, 141)
    assert done.stderr == ""


def test_a_terminal_of_another_encoding_prints_every_name() -> None:
    variables = os.environ | {"PYTHONIOENCODING": "latin-1"}
    done = subprocess.run([sys.executable, "-m", "sweep", "show", "interpolation"], capture_output=True, env=variables)
    assert done.returncode == 0
    assert b"\\u2265 -1" in done.stdout
