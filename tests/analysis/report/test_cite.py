"""`analysis cite`: the works that the plug-ins in the rows state in their files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from analysis.core.errors import AnalysisError
from analysis.core.registry import KINDS
from analysis.report import citations
from analysis.rows.run import Run, load
from tests.helpers import ROOT, rows
from tests.helpers.analysis_verbs import ask, right

SWEEP_KINDS = ("methods", "alignments", "scalings", "repairs", "metrics", "architectures", "datasets", "statistics")
OWN_WORK = "@article{own2025work,\n  title = {One's own},\n}\n"


def plugin_names(kind: str) -> list[str]:
    folder = ROOT / ("analysis" if kind in KINDS else "sweep/plugins") / kind
    return sorted(path.stem for path in folder.glob("[!_]*.py"))


@pytest.fixture(scope="module")
def folder(run: Run) -> Path:
    return run.folder


class TestCite:
    def test_the_rows_determine_the_citations(self, folder: Path) -> None:
        found = right("cite", folder)
        for key in ("wang2024rethinking", "wortsman2022soups", "frankle2020linear", "brier1950verification"):
            assert found.count(f"{{{key},") == 1
        assert "lecun1998gradient" not in found
        assert re.search(r"^% .*methods/uniform_soup.*\n@inproceedings\{wortsman2022soups,", found, re.MULTILINE)

    def test_a_name_without_a_reference_is_reported(self, tmp_path: Path) -> None:
        own = rows.candidate(0, (0, 1), "my.module:mine", other_metrics='{"f1": 0.5}')
        result = ask("cite", rows.write(tmp_path / "run", {"candidates": [own]}, {}))
        assert "no reference is known for methods/my.module:mine, metrics/f1" in result.stderr

    @pytest.mark.parametrize("kind", SWEEP_KINDS)
    def test_every_name_of_the_folders_has_a_work_or_needs_none(self, kind: str) -> None:
        silent = [name for name in plugin_names(kind) if citations.cited(kind, name) is None]
        assert silent == [], "their files state no CITES"

    def test_the_bibliography_holds_the_works_that_are_cited_and_no_other(self) -> None:
        kinds = (*SWEEP_KINDS, "figures", "claims")
        works = {work for kind in kinds for name in plugin_names(kind) for work in citations.cited(kind, name) or ()}
        keys = {work for work in works if not work.lstrip().startswith("@")}
        assert keys | {*citations.SYSTEM, *citations.FAMILIES} == set(citations.entries())

    def test_a_file_of_ones_own_states_its_work(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "own_cited.py").write_text(f"raise ImportError\nCITES = ({OWN_WORK!r}, 'wortsman2022soups')\n")
        monkeypatch.syspath_prepend(tmp_path)
        run = load(rows.write(tmp_path / "run", {"candidates": [rows.candidate(0, (0, 1), "own_cited:mine")]}, {}))
        found, unknown = citations.cite(run)
        assert unknown == []
        assert f"% methods/own_cited:mine\n{OWN_WORK}" in found
        assert "% methods/own_cited:mine\n@inproceedings{wortsman2022soups," in found

    @pytest.mark.parametrize("cites", ["('wortsman2022soup',)", "('@misc{broken',)", "tuple()"])
    def test_an_unknown_work_is_an_error(self, cites: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "own_wrong.py").write_text(f"CITES = {cites}\n")
        monkeypatch.syspath_prepend(tmp_path)
        run = load(rows.write(tmp_path / "run", {"candidates": [rows.candidate(0, (0, 1), "own_wrong:mine")]}, {}))
        with pytest.raises(AnalysisError, match=r"CITES"):
            citations.cite(run)

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
