"""The verbs as a user meets them: data on stdout, talk on stderr, exit codes, and help that tells the truth."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from sweep.cli.listing import description
from sweep.cli.main import main
from sweep.config.loader import load
from sweep.core.registry import NEEDS, get_plugin, list_plugins
from sweep.plan.planner import make_plan
from tests.helpers import ROOT
from tests.helpers.verbs import ask, right, wrong

VERBS = {"check", "plan", "run", "status", "failures", "one", "stop", "ls", "show", "doctor", "compact", "sql", "sync"}
VERBS |= {"fetch", "export", "token", "submit", "log", "report"}


def test_the_verbs_are_these() -> None:
    assert set(main.commands) == VERBS


def test_help_waits_for_nothing_heavy() -> None:
    script = "import sys, sweep.cli; print(sorted({n.split('.')[0] for n in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    heavy = {"torch", "ray", "mlflow", "pandas", "pyarrow", "pydantic", "numpy", "duckdb", "rich", "yaml", "sklearn"}
    assert "'click'" in loaded
    assert not {name for name in heavy if f"'{name}'" in loaded}


def commands() -> list[tuple[str, click.Command]]:
    return [("", main), *main.commands.items()]


def examples(command: click.Command) -> list[list[str]]:
    """The lines of a command's help that begin with `sweep`, as a shell splits them; remarks stand apart."""
    lines = [line.strip() for line in (command.help or "").splitlines()]
    return [shlex.split(re.split(r"\s{2,}", line)[0])[1:] for line in lines if line.startswith("sweep ")]


@pytest.mark.parametrize(("name", "command"), commands(), ids=lambda part: part if isinstance(part, str) else "")
def test_every_example_in_the_help_is_right(name: str, command: click.Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert examples(command), "help without an example"
    for verb, *arguments in examples(command):
        assert not name or verb == name
        context = main.commands[verb].make_context(verb, list(arguments))
        if "overrides" in context.params:
            assert load(context.params["file"], context.params["overrides"]).name
        if verb in ("ls", "show") and context.params.get("what") != "runs":
            assert ask(verb, *arguments).exit_code == 0


@pytest.mark.parametrize(("name", "command"), commands(), ids=lambda part: part if isinstance(part, str) else "")
def test_every_verb_explains_itself(name: str, command: click.Command) -> None:
    result = ask(*([name] if name else []), "--help")
    assert (result.exit_code, result.stderr) == (0, "")
    assert (command.help or "").splitlines()[0] in " ".join(result.stdout.split())
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help
            assert parameter.opts[0] in result.stdout


def test_the_version_is_that_of_the_package() -> None:
    from sweep import __version__

    assert ask("--version").stdout.strip() == __version__


def test_the_module_is_the_command() -> None:
    found = subprocess.run([sys.executable, "-m", "sweep", "--help"], capture_output=True, text=True, check=True)
    assert found.stdout.startswith("Usage: sweep ")


def test_a_valid_file_is_reported_as_valid(small: Callable[..., Path]) -> None:
    file = small()
    result = ask("check", file, "train.epochs=2", "name=it's")
    assert result.exit_code == 2
    result = ask("check", file, "train.epochs=2", "subsets.sizes=[2, 3]")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == f"{file}: valid\nnext: sweep plan {file} train.epochs=2 'subsets.sizes=[2, 3]'\n"


def test_check_reports_errors_of_building_networks(small: Callable[..., Path]) -> None:
    file = small()
    error = wrong("check", file, "architecture=cnn", "dataset.digits.size=4")
    assert "`populations[0].architecture`: cannot build cnn: cnn halves images three times: size 4 is below 8" in error
    error = wrong("check", file, "scalings={magnify: {tensors: nowhere}}")
    assert "`scalings`: magnify: no tensor matches `nowhere` in mlp" in error
    error = wrong("check", file, "dataset={imagefolder: {root: /nowhere}}")
    assert "imagefolder: no folder /nowhere/train\n  hint: images belong in root/" in error


@pytest.mark.parametrize("verb", ["check", "plan", "run"])
def test_invalid_files_and_overrides_are_reported(verb: str, small: Callable[..., Path]) -> None:
    assert wrong(verb, "nope.yaml").startswith("nope.yaml: cannot read it: No such file or directory")
    file = small()
    assert wrong(verb, file, "train.epochs=x").startswith(
        "override train.epochs=x: `populations[0].train.epochs`: expected a whole number, got 'x'"
    )
    file.write_text("name: x\nnmae: y\n")
    assert wrong(verb, file).startswith(f"{file}:2:1: `nmae`: unknown key\n  hint: did you mean `name`?\n{file}:1:1: ")


@pytest.mark.parametrize(
    "arguments",
    [("nope",), ("check",), ("plan", "--nope", "x"), ("show",), ("sql", "x"), ("status",), ("ls", "a", "b")],
    ids=str,
)
def test_wrong_usage_is_reported(arguments: tuple[str, ...]) -> None:
    assert wrong(*arguments).startswith("Usage: ")


@pytest.mark.parametrize("verb", ["status", "failures", "doctor", "sync", "sql", "one"])
def test_a_missing_run_is_reported(verb: str, tmp_path: Path) -> None:
    more = {"sql": ["select 1"], "one": ["a"]}.get(verb, [])
    error = wrong(verb, tmp_path / "nowhere", *more)
    assert error == f"no run folder at {tmp_path}/nowhere\n  hint: sweep run FILE makes one; see sweep ls runs\n"


def test_plan_counts_what_the_plan_holds(small: Callable[..., Path]) -> None:
    plan = make_plan(load(small()))
    found = right("plan", small())
    assert found["candidates"]["planned"] == found["candidates"]["new"] == len(plan.candidates)
    assert sum(found["methods"].values()) == len(plan.candidates)
    assert found["members"]["planned"] == found["members"]["new"] == len(plan.members) + len(plan.starts)
    assert (found["blocks"], found["estimate"]) == (len(plan.blocks), None)
    result = ask("plan", small())
    assert (
        f"candidates          {len(plan.candidates)} = {len(plan.candidates)} new + 0 done + 0 failed" in result.stdout
    )
    assert "unknown: no earlier run in this storage folder is comparable" in result.stdout
    assert result.stderr == f"next: sweep run {small()}\n"


def test_ls_lists_what_the_folders_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert right("ls") == {kind: list_plugins(kind) for kind in NEEDS}
    for kind in NEEDS:
        assert [row["name"] for row in right("ls", kind)] == list_plugins(kind)
        assert all(re.search(rf"^{name}\s+\S", ask("ls", kind).stdout, re.MULTILINE) for name in list_plugins(kind))
    monkeypatch.chdir(tmp_path)
    signatures = right("ls", "methods", "--long")
    expected = [description(get_plugin("methods", name)) for name in list_plugins("methods")]
    assert signatures == json.loads(json.dumps(expected))
    lines = ask("ls", "methods", "--long").stdout.splitlines()
    assert any(re.match(r"ties +weights +members, base, layout +density +float > 0 ≤ 1 +0.2$", line) for line in lines)
    assert len(lines) == 1 + sum(max(1, len(each["settings"])) for each in signatures)
    assert right("ls", "runs") == []
    assert ask("ls", "runs").stdout == "no runs yet under runs/\n"
    assert wrong("ls", "method") == "unknown kind 'method'\n  hint: did you mean `methods`?\n"


def test_show_tells_everything_of_a_name() -> None:
    (found,) = right("show", "interpolation")
    assert found["settings"] == [{"name": "weight", "type": "float ≥ -1 ≤ 2", "default": 0.5}]
    assert "write: interpolation: {weight: 0.5}" in ask("show", "interpolation").stdout
    assert "mergekit keeps an arbitrary one of equal entries" in " ".join(ask("show", "ties").stdout.split())
    everywhere = [kind for kind in NEEDS if "none" in list_plugins(kind)]
    assert [entry["kind"] for entry in right("show", "none")] == everywhere
    assert [entry["kind"] for entry in right("show", "scalings/none")] == ["scalings"]
    error = wrong("show", "unifrom_soup")
    assert error.startswith("no plug-in is called `unifrom_soup` (did you mean `uniform_soup`")
    assert "no `magnfy` in scalings (did you mean `magnify`?)" in wrong("show", "scalings/magnfy")


def test_doctor_looks_at_this_machine() -> None:
    result = ask("doctor", "--json")
    findings = json.loads(result.stdout)
    assert {"python", "torch", "machine", "disk", "storage"} <= {finding["subject"] for finding in findings}
    assert result.exit_code == (0 if all(finding["good"] for finding in findings) else 1)
    assert ask("doctor").stdout.count("\n") == len(findings)
