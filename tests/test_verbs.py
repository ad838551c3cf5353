"""The verbs as a user meets them: data on stdout, talk on stderr, exit codes, and help that tells the truth."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from sweep.cli import main
from sweep.config import load
from sweep.plan import make_plan
from sweep.registry import NEEDS, names
from sweep.state import freeze
from sweep.store import RunFolder
from sweep.table import SCHEMA_VERSION

ROOT = Path(__file__).parent.parent
VERBS = {"check", "plan", "run", "status", "failures", "one", "stop", "ls", "show", "doctor", "compact", "sql", "sync"}
VERBS |= {"fetch", "export"}


def ask(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def right(*arguments: object) -> Any:
    """The JSON that a verb prints."""
    result = ask(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout, parse_constant=pytest.fail)


def wrong(*arguments: object) -> str:
    """What a verb tells of wrong use, having printed no data."""
    result = ask(*arguments)
    assert (result.exit_code, result.stdout) == (2, ""), result.output
    assert "Traceback" not in result.stderr
    return result.stderr


@pytest.fixture
def begun(small: Callable[..., Path]) -> Path:
    """A run folder with a frozen plan, the rows of two candidates, one failed, and one failed member."""
    sweep = load(small())
    folder, plan = RunFolder(sweep.folder), make_plan(sweep)
    folder.create({"schema_version": SCHEMA_VERSION, "sweep": sweep.name, "created_at": "2025-01-01T00:00:00Z"})
    freeze(folder, sweep, plan)
    origin = {"architecture": "mlp", "dataset": "digits", "pool_id": plan.pools[0].id}
    population = sweep.populations[0]
    of_member = {"training": json.dumps({"epochs": 2}), "role": "member", "train_seconds": 1.5}
    of_member |= {f"{key}_settings": getattr(population, key).settings_json for key in ("architecture", "dataset")}
    trained = origin | of_member
    first, second, *_ = plan.members
    lost = {"member_id": first.id, "status": "failed", "error": "ValueError: no luck"}
    folder.append("members", "a", [trained | lost])
    digest, size = folder.save_weights(second.id, {})
    kept = {"member_id": second.id, "status": "ok", "weights_sha256": digest, "weights_bytes": size}
    folder.append("members", "b", [trained | kept])
    for number, status in enumerate(("ok", "failed")):
        candidate = plan.candidates[number]
        named = {"candidate_id": candidate.id, "split": "test", "status": status, "method": candidate.method.name}
        measured = {"accuracy": 0.5, "cross_entropy": float("nan"), "evaluate_seconds": 0.1, "error": "member failed"}
        measured |= {"n_examples": 360}
        folder.append("candidates", str(number), [origin | named | measured])
    return sweep.folder


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


def test_a_right_file_is_told_right(small: Callable[..., Path]) -> None:
    file = small()
    result = ask("check", file, "train.epochs=2", "name=it's")
    assert result.exit_code == 2
    result = ask("check", file, "train.epochs=2", "subsets.sizes=[2, 3]")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == f"{file} is right\nnext: sweep plan {file} train.epochs=2 'subsets.sizes=[2, 3]'\n"


def test_what_only_shows_when_networks_are_made_is_told(small: Callable[..., Path]) -> None:
    file = small()
    told = wrong("check", file, "architecture=cnn", "dataset.digits.size=4")
    assert "`populations[0].architecture`: cannot build cnn: cnn halves images three times: size 4 is below 8" in told
    told = wrong("check", file, "scalings={magnify: {tensors: nowhere}}")
    assert "`scalings`: magnify: no tensor matches `nowhere` in mlp" in told
    told = wrong("check", file, "dataset={imagefolder: {root: /nowhere}}")
    assert "imagefolder: no folder /nowhere/train\n  hint: images belong in root/" in told


@pytest.mark.parametrize("verb", ["check", "plan", "run"])
def test_wrong_files_and_overrides_are_told(verb: str, small: Callable[..., Path]) -> None:
    assert wrong(verb, "nope.yaml").startswith("nope.yaml: cannot read it: No such file or directory")
    file = small()
    assert wrong(verb, file, "train.epochs=x").startswith(
        "override train.epochs=x: `populations[0].train.epochs`: input should be a valid integer"
    )
    file.write_text("name: x\nnmae: y\n")
    assert wrong(verb, file).startswith(f"{file}:2:1: `nmae`: unknown key\n  hint: did you mean `name`?\n{file}:1:1: ")


@pytest.mark.parametrize(
    "arguments",
    [("nope",), ("check",), ("plan", "--nope", "x"), ("show",), ("sql", "x"), ("status",), ("ls", "a", "b")],
    ids=str,
)
def test_wrong_use_is_told(arguments: tuple[str, ...]) -> None:
    assert wrong(*arguments).startswith("Usage: ")


@pytest.mark.parametrize("verb", ["status", "failures", "doctor", "sync", "sql", "one"])
def test_a_run_that_is_not_there_is_told(verb: str, tmp_path: Path) -> None:
    more = {"sql": ["select 1"], "one": ["a"]}.get(verb, [])
    told = wrong(verb, tmp_path / "nowhere", *more)
    assert told == f"no run folder at {tmp_path}/nowhere\n  hint: sweep run FILE makes one; see sweep ls runs\n"


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
    assert "not known: nothing like it was run in this storage folder yet" in result.stdout
    assert result.stderr == f"next: sweep run {small()}\n"


def test_status_tells_what_is_done_what_failed_and_what_is_left(begun: Path) -> None:
    plan = make_plan(load(begun / "sweep.yaml"))
    every = len(plan.candidates)
    found = right("status", begun)
    assert found["candidates"] == {"planned": every, "new": every - 2, "done": 1, "failed": 1}
    assert found["members"] == {"planned": 8, "new": 6, "failed": 1}
    assert found["estimate"]["from_rows"] == 4
    assert 0 < found["estimate"]["low_seconds"] <= found["estimate"]["high_seconds"]
    assert f"{every} = {every - 2} new + 1 done + 1 failed" in ask("status", begun).stdout


def test_a_run_folder_may_be_moved(begun: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = right("status", begun)
    moved = tmp_path / "a b" / "it"
    moved.parent.mkdir()
    begun.rename(moved)
    monkeypatch.chdir(moved.parent)
    after = right("status", "it")
    assert after["candidates"] == before["candidates"]
    assert (after["sweep"], after["folder"]) == ("it", str(moved))


def test_another_runs_damage_does_not_stop_a_plan(begun: Path, small: Callable[..., Path]) -> None:
    (begun / "tables" / "members" / "parts" / "a.parquet").write_bytes(b"PAR1")
    assert right("plan", small(), "name=another")["estimate"] is None


def test_failures_are_told_by_cause(begun: Path) -> None:
    causes = right("failures", begun)
    told = [(cause["table"], cause["status"], cause["cause"], cause["count"]) for cause in causes]
    assert told == [("members", "failed", "ValueError: no luck", 1), ("candidates", "failed", "member failed", 1)]
    result = ask("failures", begun)
    assert all(cause["ids"][0][:8] in result.stdout for cause in causes)
    assert result.stderr == f"next: sweep one {begun} CANDIDATE, or sweep run FILE --retry\n"
    for file in (begun / "tables").rglob("*.parquet"):
        file.unlink()
    assert right("failures", begun) == []
    assert ask("failures", begun).stdout == "no failures\n"


def test_an_id_that_means_no_candidate_or_several_is_told(begun: Path) -> None:
    every = len(make_plan(load(begun / "sweep.yaml")).candidates)
    assert wrong("one", begun, "zz").startswith("0 candidates begin with 'zz'\n  hint: sweep sql RUN")
    assert wrong("one", begun, "").startswith(f"{every} candidates begin with ''")


def test_ls_lists_what_the_folders_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert right("ls") == {kind: names(kind) for kind in NEEDS}
    for kind in NEEDS:
        assert [row["name"] for row in right("ls", kind)] == names(kind)
        assert all(re.search(rf"^{name}\s+\S", ask("ls", kind).stdout, re.MULTILINE) for name in names(kind))
    monkeypatch.chdir(tmp_path)
    assert right("ls", "runs") == []
    assert ask("ls", "runs").stdout == "no runs yet under runs/\n"
    assert wrong("ls", "method") == "nothing is called 'method' here\n  hint: did you mean `methods`?\n"


def test_ls_runs_lists_run_folders(begun: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(begun.parent.parent)
    assert right("ls", "runs") == [{"run": "runs/small", "begun": "2025-01-01T00:00:00Z", "rows": 2}]
    assert "runs/small" in ask("ls", "runs").stdout


def test_show_tells_everything_of_a_name() -> None:
    (found,) = right("show", "interpolation")
    assert found["settings"] == [{"name": "weight", "type": "float ≥ 0 ≤ 1", "default": 0.5}]
    assert "write: interpolation: {weight: 0.5}" in ask("show", "interpolation").stdout
    everywhere = [kind for kind in NEEDS if "none" in names(kind)]
    assert [entry["kind"] for entry in right("show", "none")] == everywhere
    assert [entry["kind"] for entry in right("show", "scalings/none")] == ["scalings"]
    told = wrong("show", "unifrom_soup")
    assert told.startswith("nothing is called `unifrom_soup` (did you mean `uniform_soup`")
    assert "no `magnfy` in scalings (did you mean `magnify`?)" in wrong("show", "scalings/magnfy")


def test_doctor_looks_at_this_machine() -> None:
    result = ask("doctor", "--json")
    findings = json.loads(result.stdout)
    assert {"python", "torch", "machine", "disk", "storage"} <= {finding["subject"] for finding in findings}
    assert result.exit_code == (0 if all(finding["good"] for finding in findings) else 1)
    assert ask("doctor").stdout.count("\n") == len(findings)


@pytest.mark.parametrize("table", ["members", "candidates"])
def test_doctor_finds_what_is_damaged(begun: Path, table: str) -> None:
    assert all(finding["good"] for finding in right("doctor", begun))
    part = next((begun / "tables" / table / "parts").glob("*.parquet"))
    RunFolder(begun).part(table, "twice").write_bytes(part.read_bytes())
    result = ask("doctor", begun, "--json")
    assert result.exit_code == 1
    (repeated,) = [
        finding for finding in json.loads(result.stdout) if not finding["good"] and finding["subject"] == table
    ]
    assert "3 rows in 3 parts, 1 repeated" in repeated["told"]
    part.write_bytes(b"PAR1")
    result = ask("doctor", begun, "--json")
    assert result.exit_code == 1
    assert any(str(part) in finding["told"] for finding in json.loads(result.stdout) if not finding["good"])
    assert f"BAD part          cannot read {part}" in ask("doctor", begun).stdout


def test_sql_answers_questions(begun: Path) -> None:
    assert right("sql", begun, "select count(*) as n, avg(accuracy) as a from candidates") == [{"n": 2, "a": 0.5}]
    assert right("sql", begun, "select cross_entropy from candidates limit 1") == [{"cross_entropy": None}]
    found = right("sql", begun, "select a.status, b.status from candidates a, members b order by all limit 1")
    assert found == [{"status": "failed", "status_2": "failed"}]
    for query in ("describe members", "from members", "show tables", "summarize candidates"):
        assert right("sql", begun, query)
    lines = ask("sql", begun, "select status, accuracy from candidates order by 1").stdout.splitlines()
    assert lines == ["status  accuracy", "failed  0.5", "ok      0.5"]
    assert ask("sql", begun, "select 1 where false").stdout == "1\n"
    assert right("sql", begun, "select 1 where false") == []


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "query",
    [
        "select * from read_text('{secret}')",
        "select * from read_csv('{secret}')",
        "select * from '{secret}'",
        "select * from glob('{outside}/*')",
        "copy (select 1) to '{outside}/x.csv'",
        "copy (select 1) to '{run}/x.csv'",
        "copy (select 1 as candidate_id) to '{run}/tables/candidates/parts/0.parquet'",
        "attach '{outside}/x.duckdb'",
        "attach '{run}/x.duckdb'",
        "export database '{run}/x'",
        "create table x as select 1",
        "insert into candidates values (1)",
        "delete from candidates",
        "drop view candidates",
        "set enable_external_access = true",
        "install httpfs",
        "select 1; copy (select 1) to '{run}/x.csv'",
        "explain analyze copy (select 1) to '{run}/x.csv'",
    ],
)
def test_sql_reads_the_run_and_nothing_else(begun: Path, tmp_path: Path, query: str) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("treasure")
    before = files(tmp_path)
    told = wrong("sql", begun, query.format(secret=secret, outside=tmp_path, run=begun))
    assert "treasure" not in told
    assert files(tmp_path) == before


@pytest.mark.parametrize(
    "query",
    [
        "selec 1",
        "select nope from candidates",
        "select * from nope",
        "",
        ";",
        "select cast(status as int) from members",
    ],
)
def test_wrong_queries_are_told(begun: Path, query: str) -> None:
    assert wrong("sql", begun, query).endswith('  hint: sweep sql RUN "describe candidates" lists the columns\n')


def test_sql_reads_folders_with_any_name(begun: Path) -> None:
    odd = begun.parent / "it's a [run]"
    begun.rename(odd)
    assert right("sql", odd, "select count(*) as n from candidates") == [{"n": 2}]


def test_a_damaged_part_is_told_by_the_verbs_that_read(begun: Path) -> None:
    part = begun / "tables" / "candidates" / "parts" / "0.parquet"
    part.write_bytes(part.read_bytes()[:-9])
    for verb in ("status", "failures"):
        assert wrong(verb, begun).startswith(f"cannot read {part}: ")
    assert "0.parquet" in wrong("sql", begun, "from candidates")


def test_a_folder_of_a_newer_version_is_refused_by_all(begun: Path) -> None:
    info = json.loads((begun / "run.json").read_text())
    (begun / "run.json").write_text(json.dumps(info | {"schema_version": SCHEMA_VERSION + 1}))
    for verb, more in {
        "status": [],
        "failures": [],
        "doctor": [],
        "sync": [],
        "sql": ["from members"],
        "one": ["a"],
    }.items():
        assert "was made by a newer version" in wrong(verb, begun, *more)
    file = begun.parent.parent / "small.yaml"
    assert "was made by a newer version" in wrong("plan", file)


def test_a_folder_without_its_configuration_is_told(begun: Path) -> None:
    (begun / "sweep.yaml").unlink()
    assert wrong("status", begun).startswith(f"{begun}/sweep.yaml: cannot read it: No such file or directory\n")
