"""The files around the code: cluster, commands and examples of the documents, links."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from sweep.cli.main import main
from sweep.config.loader import load
from sweep.plan.planner import make_plan
from tests.helpers import rows

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


CLUSTER = ROOT / "configs/cluster"
CONFIGS = sorted(set((ROOT / "configs").rglob("*.yaml")) - set(CLUSTER.iterdir()))  # those are no sweeps


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: str(file.name))
def test_shipped_sweeps_are_valid_and_begin_with_their_command(file: Path) -> None:
    assert file.read_text().splitlines()[0] == f"# sweep run {file.relative_to(ROOT)}"
    assert make_plan(load(file)).candidates


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_of_the_documents_exist(document: str) -> None:
    links = re.findall(r"\]\((?!https?://|#)([^)]+)\)|src=\"([^\"]+)\"", (ROOT / document).read_text())
    assert links
    for link in links:
        assert (ROOT / (link[0] or link[1])).exists(), link


def test_commands_of_the_documents_exist() -> None:
    files = [ROOT / "CONTRIBUTING.md", ROOT / "cluster.yaml", *CONFIGS, *CLUSTER.iterdir()]
    texts = [README, *[file.read_text() for file in files]]
    lines = [line.lstrip("# $").split("  ")[0] for text in texts for line in text.splitlines()]
    verbs = {shlex.split(line)[1] for line in lines if re.match(r"sweep [a-z]+( |$)", line)}
    assert {"check", "plan", "run", "sql"} <= verbs
    assert verbs <= set(main.commands)


def test_targets_of_the_readme_are_in_the_makefile() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    assert set(re.findall(r"\bmake ([a-z]+)", README)) <= targets


def test_the_sweep_of_the_readme_is_valid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shown = [block for block in re.findall(r"```yaml\n(.*?)```", README, re.S) if "populations:" in block]
    assert shown
    for number, block in enumerate(shown):
        (tmp_path / f"{number}.yaml").write_text(block)
        outcome = CliRunner().invoke(main, ["check", f"{number}.yaml"])
        assert outcome.exit_code == 0, outcome.stderr


def test_the_method_of_the_readme_is_a_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sweep.core.registry import get_plugin

    (block,) = (block for block in re.findall(r"```python\n(.*?)```", README, re.S) if "def winsorized_mean" in block)
    (tmp_path / "shown_in_readme.py").write_text(block)
    monkeypatch.syspath_prepend(tmp_path)
    plugin = get_plugin("methods", "shown_in_readme:winsorized_mean")
    assert plugin.space == "weights"
    assert list(plugin.settings.model_fields) == ["share"]


def test_the_python_example_of_the_readme_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (block,) = (block for block in re.findall(r"```python\n(.*?)```", README, re.S) if "import analysis" in block)
    rows.run_folder(tmp_path / "runs" / "digits")
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "README.md", "exec"), {})
    assert "margin" in capsys.readouterr().out
    assert (tmp_path / "spaces.pdf").stat().st_size > 1000
