"""The verbs on an unfinished run: what is done, failed, left or damaged, and questions in SQL."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from sweep.config.loader import load
from sweep.plan.planner import make_plan
from sweep.status.state import write_plan_files
from sweep.storage.run_folder import RunFolder
from sweep.storage.tables import SCHEMA_VERSION
from tests.helpers.verbs import ask, right, wrong


@pytest.fixture
def unfinished(small: Callable[..., Path]) -> Path:
    """A run folder with a frozen plan, the rows of two candidates, one failed, and one failed member."""
    sweep = load(small())
    folder = RunFolder(sweep.folder)
    plan = make_plan(sweep)
    folder.create({"schema_version": SCHEMA_VERSION, "sweep": sweep.name, "created_at": "2025-01-01T00:00:00Z"})
    write_plan_files(folder, sweep, plan)
    origin = {"architecture": "mlp", "dataset": "digits", "pool_id": plan.pools[0].id}
    population = sweep.populations[0]
    of_member = {"training": json.dumps({"epochs": 2}), "role": "member", "train_seconds": 1.5}
    of_member |= {f"{key}_settings": getattr(population, key).settings_json for key in ("architecture", "dataset")}
    trained = origin | of_member
    first, second, *_ = plan.members
    failure = {"member_id": first.id, "status": "failed", "error": "ValueError: no luck"}
    folder.append("members", "a", [trained | failure])
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


def test_status_tells_what_is_done_what_failed_and_what_is_left(unfinished: Path) -> None:
    plan = make_plan(load(unfinished / "sweep.yaml"))
    every = len(plan.candidates)
    found = right("status", unfinished)
    assert found["candidates"] == {"planned": every, "new": every - 2, "done": 1, "failed": 1}
    assert found["members"] == {"planned": 8, "new": 6, "failed": 1}
    assert found["estimate"]["from_rows"] == 4
    assert 0 < found["estimate"]["low_seconds"] <= found["estimate"]["high_seconds"]
    assert f"{every} = {every - 2} new + 1 done + 1 failed" in ask("status", unfinished).stdout


def test_a_run_folder_may_be_moved(unfinished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = right("status", unfinished)
    moved = tmp_path / "a b" / "it"
    moved.parent.mkdir()
    unfinished.rename(moved)
    monkeypatch.chdir(moved.parent)
    after = right("status", "it")
    assert after["candidates"] == before["candidates"]
    assert (after["sweep"], after["folder"]) == ("it", str(moved))


def test_another_runs_damage_does_not_stop_a_plan(unfinished: Path, small: Callable[..., Path]) -> None:
    (unfinished / "tables" / "members" / "parts" / "a.parquet").write_bytes(b"PAR1")
    assert right("plan", small(), "name=another")["estimate"] is None


def test_failures_are_listed_by_cause(unfinished: Path) -> None:
    causes = right("failures", unfinished)
    rows = [(cause["table"], cause["status"], cause["cause"], cause["count"]) for cause in causes]
    assert rows == [("members", "failed", "ValueError: no luck", 1), ("candidates", "failed", "member failed", 1)]
    result = ask("failures", unfinished)
    assert all(cause["ids"][0][:8] in result.stdout for cause in causes)
    assert result.stderr == f"next: sweep one {unfinished} CANDIDATE, or sweep run FILE --retry\n"
    for file in (unfinished / "tables").rglob("*.parquet"):
        file.unlink()
    assert right("failures", unfinished) == []
    assert ask("failures", unfinished).stdout == "no failures\n"


def test_an_id_of_no_candidate_or_several_is_reported(unfinished: Path) -> None:
    every = len(make_plan(load(unfinished / "sweep.yaml")).candidates)
    assert wrong("one", unfinished, "zz").startswith("0 candidates begin with 'zz'\n  hint: sweep sql RUN")
    assert wrong("one", unfinished, "").startswith(f"{every} candidates begin with ''")


def test_ls_runs_lists_run_folders(unfinished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(unfinished.parent.parent)
    assert right("ls", "runs") == [{"run": "runs/small", "begun": "2025-01-01T00:00:00Z", "rows": 2}]
    assert "runs/small" in ask("ls", "runs").stdout


@pytest.mark.parametrize("table", ["members", "candidates"])
def test_doctor_finds_what_is_damaged(unfinished: Path, table: str) -> None:
    assert all(finding["good"] for finding in right("doctor", unfinished))
    part = next((unfinished / "tables" / table / "parts").glob("*.parquet"))
    RunFolder(unfinished).part_file(table, "twice").write_bytes(part.read_bytes())
    result = ask("doctor", unfinished, "--json")
    assert result.exit_code == 1
    (repeated,) = [
        finding for finding in json.loads(result.stdout) if not finding["good"] and finding["subject"] == table
    ]
    assert "3 rows in 3 parts, 1 repeated" in repeated["message"]
    part.write_bytes(b"PAR1")
    result = ask("doctor", unfinished, "--json")
    assert result.exit_code == 1
    assert any(str(part) in finding["message"] for finding in json.loads(result.stdout) if not finding["good"])
    assert f"BAD part          cannot read {part}" in ask("doctor", unfinished).stdout


def test_sql_answers_questions(unfinished: Path) -> None:
    assert right("sql", unfinished, "select count(*) as n, avg(accuracy) as a from candidates") == [{"n": 2, "a": 0.5}]
    assert right("sql", unfinished, "select cross_entropy from candidates limit 1") == [{"cross_entropy": None}]
    found = right("sql", unfinished, "select a.status, b.status from candidates a, members b order by all limit 1")
    assert found == [{"status": "failed", "status_2": "failed"}]
    for query in ("describe members", "from members", "show tables", "summarize candidates"):
        assert right("sql", unfinished, query)
    lines = ask("sql", unfinished, "select status, accuracy from candidates order by 1").stdout.splitlines()
    assert lines == ["status  accuracy", "failed  0.5", "ok      0.5"]
    assert ask("sql", unfinished, "select 1 where false").stdout == "1\n"
    assert right("sql", unfinished, "select 1 where false") == []


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
def test_sql_reads_the_run_and_nothing_else(unfinished: Path, tmp_path: Path, query: str) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("treasure")
    before = files(tmp_path)
    message = wrong("sql", unfinished, query.format(secret=secret, outside=tmp_path, run=unfinished))
    assert "treasure" not in message
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
def test_invalid_queries_are_reported(unfinished: Path, query: str) -> None:
    assert wrong("sql", unfinished, query).endswith('  hint: sweep sql RUN "describe candidates" lists the columns\n')


def test_sql_reads_folders_with_any_name(unfinished: Path) -> None:
    odd = unfinished.parent / "it's a [run]"
    unfinished.rename(odd)
    assert right("sql", odd, "select count(*) as n from candidates") == [{"n": 2}]


def test_verbs_that_read_report_a_damaged_part(unfinished: Path) -> None:
    part = unfinished / "tables" / "candidates" / "parts" / "0.parquet"
    part.write_bytes(part.read_bytes()[:-9])
    for verb in ("status", "failures"):
        assert wrong(verb, unfinished).startswith(f"cannot read {part}: ")
    assert "0.parquet" in wrong("sql", unfinished, "from candidates")


def test_a_folder_of_a_newer_version_is_refused_by_all(unfinished: Path) -> None:
    info = json.loads((unfinished / "run.json").read_text())
    (unfinished / "run.json").write_text(json.dumps(info | {"schema_version": SCHEMA_VERSION + 1}))
    for verb, more in {
        "status": [],
        "failures": [],
        "doctor": [],
        "sync": [],
        "sql": ["from members"],
        "one": ["a"],
    }.items():
        assert "was made by a newer version" in wrong(verb, unfinished, *more)
    file = unfinished.parent.parent / "small.yaml"
    assert "was made by a newer version" in wrong("plan", file)


def test_a_folder_without_its_configuration_is_reported(unfinished: Path) -> None:
    (unfinished / "sweep.yaml").unlink()
    assert wrong("status", unfinished).startswith(
        f"{unfinished}/sweep.yaml: cannot read it: No such file or directory\n"
    )
