"""Run folders and working folders of any name: nothing in a name is read as a pattern, query, address or markup."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from sweep.storage.query import query_tables
from sweep.storage.run_folder import RunFolder
from sweep.tracking.connection import database_file, database_uri
from tests.helpers import ROOT
from tests.helpers.analysis_verbs import right
from tests.helpers.command import sweep
from tests.helpers.mlflow import NAME, Place, run_folder

EARLIER = ROOT / "tests/golden/earlier_run/run"
NASTY = [
    *("lr=0.1", "lr[0.1]", "[", "a*", "**", "a?b", "it's", 'a"b', "50%", "a%20b", "a#b", "a;b", "a&b=c", "$HOME"),
    *("a|b<c>", "{a,b}", "`ls`", "a b ", "ünï", "日本", "😀", "a\\b", "-rf", "a:b", "method=x", "(copy)", "a*[b]\\c"),
]


@pytest.mark.parametrize("name", NASTY)
def test_sql_reads_the_tables_of_this_folder_and_adds_no_column(tmp_path: Path, name: str) -> None:
    for other in ("ax", "axb", "lr0", name):
        shutil.copytree(EARLIER, tmp_path / other / "run", dirs_exist_ok=True)
    for part in (tmp_path / "ax").rglob("*.parquet"):
        part.unlink()
    query = "select * from candidates order by candidate_id"
    rows, _ = query_tables(tmp_path / name / "run", query)
    assert rows == query_tables(EARLIER, query)[0]
    assert len(rows) == RunFolder(EARLIER).read("candidates").num_rows


@pytest.mark.parametrize("name", NASTY)
def test_the_address_of_a_database_leads_back_to_its_file(tmp_path: Path, name: str) -> None:
    file = tmp_path / name / "mlflow.db"
    assert database_file(database_uri(file)) == file
    assert "?" not in database_uri(file)


def test_mlflow_keeps_its_files_where_the_address_leads(tmp_path: Path) -> None:
    storage = tmp_path / "a?b #c%20d [1]|'x'&y=1"
    place = Place(storage, [])
    place.uri = database_uri(storage / "mlflow.db")
    place.mirror(run_folder(storage / NAME))
    assert (storage / "mlflow.db").stat().st_size > 0
    assert len(place.runs("member")) == 2
    assert list(tmp_path.iterdir()) == [storage]


def test_every_reading_verb_works_on_a_folder_of_any_name(tmp_path: Path) -> None:
    name = '(copy) it\'s 50% [a]*?#1 lr=0.1|b<c>&"d" `e` $f ünï 😀;{a,b}\\c'
    run = tmp_path / name / name
    shutil.copytree(EARLIER, run)
    soup = next(row for row in RunFolder(run).read("candidates").to_pylist() if row["space"] == "weights")
    (counted,) = json.loads(sweep("sql", run, "select count(*) as n from candidates", "--json", cwd=tmp_path).stdout)
    assert counted["n"] == RunFolder(EARLIER).read("candidates").num_rows
    status = json.loads(sweep("status", run, "--json", cwd=run.parent).stdout)
    assert status["candidates"]["new"] == status["members"]["new"] == 0
    sweep("export", name, soup["candidate_id"], "--to", f"{name}.pth", cwd=run.parent)
    card = (run.parent / f"{name}.md").read_text()
    table = [line.replace("\\|", "") for line in card.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in table} == {3}
    right("report", run)
    assert "<html" in (run / "report.html").read_text()
