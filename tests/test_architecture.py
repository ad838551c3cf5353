"""The structure of the code: which package may import which, one door per heavy library, small files and functions."""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers import ROOT

SOURCE = sorted(path for package in ("sweep", "analysis") for path in (ROOT / package).rglob("*.py"))
OTHERS = sorted(path for folder in ("tests", "benchmarks") for path in (ROOT / folder).rglob("*.py"))

ALLOWED = {
    "sweep.core": set[str](),
    "sweep.plugins": {"core"},
    "sweep.model": {"core"},
    "sweep.storage": {"core"},
    "sweep.config": {"core"},
    "sweep.plan": {"config", "core"},
    "sweep.tracking": {"storage", "core"},
    "sweep.training": {"plan", "storage", "model", "config", "core"},
    "sweep.evaluation": {"plan", "storage", "model", "core"},
    "sweep.status": {"training", "plan", "storage", "model", "config", "core"},
    "sweep.execution": {
        *("status", "evaluation", "training", "tracking"),
        *("plan", "storage", "model", "config", "core"),
    },
    "sweep.cli": {"execution", "status", "tracking", "storage", "config", "core"},
    "analysis.core": set[str](),
    "analysis.inference": {"core"},
    "analysis.rows": {"inference", "core"},
    "analysis.display": {"rows", "inference", "core"},
    "analysis.statistics": {"rows", "inference", "core"},
    "analysis.claims": {"statistics", "rows", "inference", "core"},
    "analysis.figures": {"statistics", "display", "rows", "inference", "core"},
    "analysis.report": {"statistics", "display", "rows", "inference", "core"},
    "analysis.cli": {
        *("report", "claims", "figures", "statistics"),
        *("display", "rows", "inference", "core"),
    },
}
"""Package -> packages beside it that it may import; imports inside functions count."""

SHARED = {
    f"sweep.core.{name}" for name in ("text", "errors", "causes", "command_group", "file_lock", "masking", "paths")
}
TABLES = {"sweep.storage.columns", "sweep.storage.tables"}
DOORS = {
    "click": {
        *("sweep.core.command_group", "sweep.cli.main", "sweep.cli.console", "sweep.cli.jobs", "sweep.cli.tools"),
        *("analysis.cli.main", "analysis.cli.console"),
    },
    "ray": {
        *("sweep.execution.cluster", "sweep.execution.jobs", "sweep.execution.node_checks"),
        "sweep.execution.refusals",
        *("sweep.execution.scheduler", "sweep.execution.training_stop", "sweep.execution.tune"),
        "sweep.execution.worker",
    },
    "mlflow": {"sweep.tracking.tracker", "sweep.tracking.model_registry"},
    "rich": {"sweep.execution.progress"},
    "jinja2": {"analysis.report.page"},
    "duckdb": {"sweep.storage.query"},
    "safetensors": {"sweep.storage.checkpoints"},
    "yaml": {"sweep.config.yaml_nodes", "sweep.config.yaml_syntax"},
    "pydantic": {
        *("sweep.core.registry", "sweep.core.settings", "sweep.status.outline"),
        *("sweep.config.expansion", "sweep.config.loader", "sweep.config.recipe", "sweep.config.spec"),
    },
}
"""Heavy library -> the only modules that import it."""

VAGUE = {
    *("told", "said", "say", "speak", "spoken", "heard", "tell", "brought"),
    *("mend", "kin", "astray", "lost", "held", "begun", "whoever"),
}
"""Words that no identifier is made of: they name anything, and so nothing."""


def module_of(path: Path) -> str:
    """The dotted name of a file."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in SOURCE}


def imports(path: Path, *, typing: bool = True) -> Iterator[str]:
    """Full names of the modules that a file imports anywhere; without `typing`, none that only annotations use."""
    pending: list[ast.AST] = [ast.parse(path.read_text())]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names = (f"{node.module}.{alias.name}" for alias in node.names)
            yield from (name if name in MODULES else node.module or "" for name in names)
        elif typing or not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)):
            pending.extend(ast.iter_child_nodes(node))


def package_of(module: str) -> str:
    """`sweep.core` of `sweep.core.ids`."""
    return ".".join(module.split(".")[:2])


def test_every_package_has_a_line_in_the_table() -> None:
    packages = {package_of(module) for module, path in MODULES.items() if path.parent.parent != ROOT}
    assert packages == set(ALLOWED)


@pytest.mark.parametrize("package", ALLOWED)
def test_a_package_imports_only_what_the_table_allows(package: str) -> None:
    root = package.split(".")[0]
    allowed = {package, *(f"{root}.{name}" for name in ALLOWED[package])}
    allowed |= {root} if package.endswith(".cli") else set()  # the Python API
    for module, path in MODULES.items():
        if package_of(module) == package:
            reached = {name for name in imports(path) if name.split(".")[0] == root}
            assert {package_of(name) for name in reached} <= allowed, f"{module} imports {sorted(reached)}"


def test_packages_stand_on_at_most_seven_floors() -> None:
    heights: dict[str, int] = {}
    for package in graphlib.TopologicalSorter(
        {name: {f"{name.split('.')[0]}.{other}" for other in below} for name, below in ALLOWED.items()}
    ).static_order():
        below = [heights[f"{package.split('.')[0]}.{other}"] for other in ALLOWED[package]]
        heights[package] = 1 + max(below, default=0)
    assert max(heights.values()) <= 7


def test_no_two_files_import_each_other_in_a_circle() -> None:
    graph = {module: set(imports(path, typing=False)) & set(MODULES) - {module} for module, path in MODULES.items()}
    assert list(graphlib.TopologicalSorter(graph).static_order())


def test_analysis_imports_only_texts_errors_and_tables_of_sweep() -> None:
    for module, path in MODULES.items():
        if module.startswith("analysis"):
            allowed = SHARED | (TABLES if package_of(module) in {"analysis.rows", "analysis.report"} else set())
            reached = {name for name in imports(path) if name.split(".")[0] == "sweep"}
            assert reached <= allowed, f"{module} imports {sorted(reached)}"
        else:
            assert not any(name.split(".")[0] == "analysis" for name in imports(path)), module


def test_plugins_of_one_kind_share_only_private_files() -> None:
    for module, path in MODULES.items():
        depth = 3 if module.startswith("sweep.plugins.") else 2
        folder = ".".join(module.split(".")[:depth])
        if depth == 3 or folder in {"analysis.statistics", "analysis.figures", "analysis.claims"}:
            others = "sweep.plugins." if depth == 3 else f"{folder}."
            reached = {name for name in imports(path) if name.startswith(others)}
            assert all(name.startswith(f"{folder}._") for name in reached), f"{module} imports {sorted(reached)}"


def test_claims_import_only_private_files_of_statistics() -> None:
    for module, path in MODULES.items():
        if package_of(module) == "analysis.claims":
            reached = {name for name in imports(path) if name.startswith("analysis.statistics.")}
            assert all(name.startswith("analysis.statistics._") for name in reached), f"{module} imports {reached}"


@pytest.mark.parametrize("library", DOORS)
def test_heavy_libraries_have_one_door(library: str) -> None:
    users = {name for name, path in MODULES.items() if any(each.split(".")[0] == library for each in imports(path))}
    assert users == DOORS[library]


@pytest.mark.parametrize("path", [*SOURCE, *OTHERS], ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_stay_small(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno + 1 <= 40, node.name


def assigns_unrelated_values(node: ast.AST) -> bool:
    """Whether one statement assigns several values: `a, b = x(), y()` or `a = b = 0`, but no swap."""
    if not isinstance(node, ast.Assign):
        return False
    target = node.targets[0]
    value = node.value
    if not isinstance(target, ast.Tuple | ast.List) or not isinstance(value, ast.Tuple | ast.List):
        return len(node.targets) > 1
    return {ast.unparse(each) for each in target.elts} != {ast.unparse(each) for each in value.elts}


@pytest.mark.parametrize("path", [*SOURCE, *OTHERS], ids=lambda path: str(path.relative_to(ROOT)))
def test_a_statement_assigns_one_value(path: Path) -> None:
    statements = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.stmt))
    assert not [f"line {node.lineno}" for node in statements if assigns_unrelated_values(node)]


def identifiers(tree: ast.AST) -> Iterator[str]:
    """Every name that a file defines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr
        elif isinstance(node, ast.arg):
            yield node.arg


@pytest.mark.parametrize("path", [*SOURCE, *OTHERS], ids=lambda path: str(path.relative_to(ROOT)))
def test_identifiers_are_the_words_of_the_field(path: Path) -> None:
    found = set(identifiers(ast.parse(path.read_text())))
    assert not {name for name in found if VAGUE & set(name.lower().replace("held_out", "").split("_"))}


def test_randomness_is_an_argument() -> None:
    """Global generators are seeded in one place, which restores them."""
    for module, path in MODULES.items():
        text = path.read_text()
        assert "np.random.seed" not in text
        if module != "sweep.model.build":
            assert "torch.manual_seed" not in text, path


def test_nothing_stands_at_the_top_that_does_not_belong() -> None:
    allowed = {
        *("pyproject.toml", "sweep", "analysis", "cluster.yaml", "tests", "README.md", "configs", "Makefile"),
        *("benchmarks", "CHANGELOG.md", "CONTRIBUTING.md", "CITATION.cff", "LICENSE", "requirements.lock"),
    }
    made = {"runs", "merge_sweep.egg-info", "build"}
    assert {path.name for path in ROOT.iterdir() if not path.name.startswith(".")} - made <= allowed
