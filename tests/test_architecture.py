"""The shape of the house: arrows point down, each heavy package has one door, files and functions stay small."""

from __future__ import annotations

import ast
import graphlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = sorted(path for package in ("sweep", "analysis") for path in (ROOT / package).rglob("*.py"))
OPEN_SETS = {"architectures", "datasets", "methods", "alignments", "scalings", "repairs", "metrics", "protocols"}
BOTTOM = {
    "sweep.registry",
    "sweep.weights",
    "sweep.permutations",
    "sweep.table",
    "sweep.data",
    "sweep.errors",
    "sweep.passes",
}

OTHERS = sorted(path for folder in ("tests", "benchmarks") for path in (ROOT / folder).rglob("*.py"))
DOORS = {
    "click": {"sweep.cli", "sweep.terminal", "sweep.tools", "analysis.cli", "analysis.terminal"},
    "ray": {"sweep.cluster", "sweep.launch", "sweep.population", "sweep.worker"},
    "mlflow": {"sweep.tracking", "sweep.shelf"},
    "rich": {"sweep.progress"},
    "jinja2": {"analysis.report"},
    "duckdb": {"sweep.query"},
    "safetensors": {"sweep.store"},
    "yaml": {"sweep.document"},
    "pydantic": {"sweep.registry", "sweep.grid", "sweep.config", "sweep.spec", "sweep.recipe", "sweep.outline"},
}
LAYERS = (
    {
        "sweep.population",
        "sweep.launch",
        "sweep.worker",
        "sweep.stragglers",
        "sweep.cluster",
        "sweep.tracking",
        "sweep.shelf",
        "sweep.writer",
        "sweep.progress",
    },
    {"sweep.driver", "sweep.sync", "sweep.summary"},
    {"sweep.cli", "sweep.terminal", "sweep.tools", "sweep.__main__"},
)
"""From below: what carries work out, what puts it together, what people type."""


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path, *, lazy: bool = True) -> Iterator[str]:
    """Full names of what a file imports; without `lazy`, only what is imported as soon as the file is."""
    tree = ast.parse(path.read_text())
    body = list(ast.walk(tree)) if lazy else [node for node in tree.body if not _is_typing_only(node)]
    for node in body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (_resolved(node.module or "", alias.name) for alias in node.names)


def _is_typing_only(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def _resolved(module: str, name: str) -> str:
    """`from sweep import plan` imports a module, `from sweep.plan import Plan` a name in one."""
    whole = ROOT / Path(*module.split("."), f"{name}.py")
    return f"{module}.{name}" if whole.exists() else module


@pytest.mark.parametrize("package", DOORS)
def test_heavy_packages_have_one_door(package: str) -> None:
    users = {module_of(path) for path in FILES if any(name.split(".")[0] == package for name in imports(path))}
    assert users == DOORS[package]


def test_no_module_imports_itself_in_a_circle() -> None:
    graph = {
        module_of(path): {name for name in imports(path, lazy=False) if name.startswith(("sweep", "analysis"))}
        for path in FILES
    }
    assert list(graphlib.TopologicalSorter(graph).static_order())


def test_open_sets_reach_only_the_bottom() -> None:
    for path in FILES:
        module = module_of(path)
        if module.split(".")[1:2] and module.split(".")[1] in OPEN_SETS:
            own = ".".join([*module.split(".")[:2], "_"])  # a folder's private modules are its own
            reached = {name for name in imports(path) if name.startswith(("sweep", "analysis"))}
            upward = {name for name in reached - BOTTOM if not name.startswith(own)}
            assert not upward, f"{module} imports {upward}"


def test_analysis_reaches_only_the_tables() -> None:
    for path in FILES:
        if module_of(path).startswith("analysis"):
            reached = {name for name in imports(path) if name.startswith("sweep")}
            assert reached <= {"sweep.keys", "sweep.table"}, f"{module_of(path)} imports {reached}"


@pytest.mark.parametrize("height", range(len(LAYERS)))
def test_arrows_point_down(height: int) -> None:
    above = set().union(*LAYERS[height:])
    below = set().union(*LAYERS[height + 1 :])
    for path in FILES:
        module = module_of(path)
        forbidden = below if module in LAYERS[height] else above if module not in above else set()
        if module == "sweep":
            continue  # the door to the Python API imports what it offers when it is asked for
        reached = set(imports(path)) & forbidden
        assert not reached, f"{module} imports {reached}"


def test_no_two_modules_of_the_tests_have_one_name() -> None:
    """They are imported by it alone, so that one would hide the other."""
    names = Counter(path.name for path in (ROOT / "tests").rglob("*.py") if path.name != "conftest.py")
    assert not [name for name, count in names.items() if count > 1]


@pytest.mark.parametrize("path", [*FILES, *OTHERS], ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_stay_small(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= 250
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno + 1 <= 40, node.name


def test_randomness_is_an_argument() -> None:
    """Global generators are seeded in one place, which puts them back."""
    for path in FILES:
        text = path.read_text()
        assert "np.random.seed" not in text
        if module_of(path) != "sweep.models":
            assert "torch.manual_seed" not in text, path


def test_nothing_stands_at_the_top_that_does_not_belong() -> None:
    allowed = {
        *("pyproject.toml", "sweep", "analysis", "cluster.yaml", "tests", "README.md", "configs", "Makefile"),
        *("benchmarks", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "requirements.lock"),
    }
    made = {"runs", "merge_sweep.egg-info", "build"}
    assert {path.name for path in ROOT.iterdir() if not path.name.startswith(".")} - made <= allowed
