"""`analysis cite`: the rows say what is cited, and every name has a work or needs none."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from analysis.report import citations
from analysis.rows.run import Run
from tests.helpers import ROOT, rows
from tests.helpers.analysis_verbs import STATISTICS, ask, right

SWEEP_KINDS = ("methods", "alignments", "scalings", "repairs", "metrics", "architectures", "datasets")


@pytest.fixture(scope="module")
def folder(run: Run) -> Path:
    return run.folder


class TestCite:
    def test_the_rows_say_what_is_cited(self, folder: Path) -> None:
        found = right("cite", folder)
        for key in ("wang2024rethinking", "wortsman2022soups", "frankle2020linear", "brier1950verification"):
            assert found.count(f"{{{key},") == 1
        assert "lecun1998gradient" not in found
        assert re.search(r"^% .*methods/uniform_soup.*\n@inproceedings\{wortsman2022soups,", found, re.MULTILINE)

    def test_a_name_without_a_work_is_told(self, tmp_path: Path) -> None:
        own = rows.candidate(0, (0, 1), "my.module:mine", other_metrics='{"f1": 0.5}')
        result = ask("cite", rows.write(tmp_path / "run", {"candidates": [own]}, {}))
        assert "no work is known for methods/my.module:mine, metrics/f1" in result.stderr

    @pytest.mark.parametrize("kind", SWEEP_KINDS)
    def test_every_name_of_the_folders_has_a_work_or_needs_none(self, kind: str) -> None:
        files = {path.stem for path in (ROOT / "sweep/plugins" / kind).glob("[!_]*.py")}
        assert files - set(citations.CITED[kind]) == set()

    def test_every_statistic_has_a_work_or_needs_none(self) -> None:
        assert set(STATISTICS) - set(citations.CITED["statistics"]) == set()

    def test_works_and_names_belong_together(self) -> None:
        works = citations.entries()
        named = {key for names in citations.CITED.values() for keys in names.values() for key in keys}
        assert named | {*citations.SYSTEM, *citations.FAMILIES} == set(works)

    def test_every_entry_is_bibtex_with_author_title_and_year(self) -> None:
        text = Path(citations.__file__).with_suffix(".bib").read_text(encoding="utf-8")
        works = citations.entries()
        assert text.count("\n@") == len(works)
        for key, entry in works.items():
            assert entry.count("{") == entry.count("}"), key
            fields = dict(re.findall(r"^  (\w+) = \{(.*)\},$", entry, re.MULTILINE))
            assert {"author", "title", "year"} <= set(fields), key
            assert fields["year"] in key
            assert len(fields) == entry.count("\n") - 2
