"""A plug-in is one file: the example of README.md passes every check in a copy of the checkout, with no other edit."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import ROOT

EXAMPLE = "winsorized_mean"
FILE = f"sweep/plugins/methods/{EXAMPLE}.py"
SUITES = (
    "tests/core/test_registry.py",
    "tests/core/test_ids.py",
    "tests/plugins/test_methods.py",
    "tests/plugins/test_method_laws.py",
    "tests/analysis/report/test_cite.py",
    "tests/test_architecture.py",
)
COMMANDS = {
    "ruff check": ("ruff", "check", "."),
    "ruff format": ("ruff", "format", "--check", FILE),
    "mypy": ("mypy", FILE),
    # Of the laws for methods only those of the new one: the others are tested anyway.
    "pytest": ("pytest", "-q", "-p", "no:cacheprovider", *SUITES, "-k", f"not test_method or {EXAMPLE}"),
}


def example() -> str:
    """The block of Python in README.md that defines the example."""
    blocks = re.findall(r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    (code,) = [block for block in blocks if f"def {EXAMPLE}(" in block]
    return str(code)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout with the example in its place."""
    copy = tmp_path_factory.mktemp("checkout") / "copy"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".*", "runs", "build", "*.egg-info", "__pycache__"))
    if (ROOT / ".mypy_cache").is_dir():  # without it mypy reads all of torch
        shutil.copytree(ROOT / ".mypy_cache", copy / ".mypy_cache")
    assert not (copy / FILE).exists()
    (copy / FILE).write_text(example())
    return copy


def test_the_readme_names_the_folder_of_methods() -> None:
    assert f"`{Path(FILE).parent}/`" in (ROOT / "README.md").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_a_new_method_is_one_file(name: str, checkout: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTEST_ADDOPTS")}
    result = subprocess.run(
        [sys.executable, "-m", *COMMANDS[name]],
        cwd=checkout,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.slow
def test_the_new_method_is_listed_and_explained(checkout: Path) -> None:
    command = [sys.executable, "-m", "sweep", "show", EXAMPLE]
    result = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=True)
    assert result.stdout.startswith(f"methods/{EXAMPLE}\n  The mean of each parameter")
    assert f"write: {EXAMPLE}: {{share: 0.2}}" in result.stdout
