"""`analysis report`: formats follow endings, Markdown is escaped, and a failing browser is reported."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from analysis.core import registry
from analysis.core.errors import AnalysisError
from analysis.report import page as report
from analysis.rows.run import Run
from tests.helpers import rows
from tests.helpers.analysis_verbs import right, wrong


@pytest.fixture(scope="module")
def folder(run: Run) -> Path:
    return run.folder


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with one figure to draw."""
    made = {"curves": rows.curves(pools=1), "members": rows.members(pools=1)}
    return rows.write(tmp_path_factory.mktemp("runs") / "small", made, {"sweep": "small"})


@pytest.fixture(scope="module")
def written_down(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a run in Markdown."""
    path = tmp_path_factory.mktemp("reports") / "my report.md"
    right("report", folder, "-o", path)
    return path


class TestReport:
    def test_the_format_follows_the_ending_and_the_ending_the_format(self, small: Path, tmp_path: Path) -> None:
        assert right("report", small, "-o", tmp_path / "x.md") == f"{tmp_path / 'x.md'}\n"
        assert (tmp_path / "x.md").read_text(encoding="utf-8").startswith("# small\n")
        assert right("report", small, "--format", "md") == f"{small / 'report.md'}\n"
        assert right("report", small, "-o", tmp_path / "x.htm") == f"{tmp_path / 'x.htm'}\n"
        assert (tmp_path / "x.htm").read_text(encoding="utf-8").startswith("<!doctype html>")

    def test_markdown_links_to_files_that_are_there(self, written_down: Path) -> None:
        links = re.findall(r"\]\(<([^>]+)>\)", written_down.read_text(encoding="utf-8"))
        assert {Path(link).stem for link in links} == set(registry.list_plugins("figures"))
        assert {Path(link).suffix for link in links} == {".svg", ".csv"}
        assert all((written_down.parent / link).stat().st_size for link in links)

    def test_markdown_tables_have_as_many_cells_as_heads(self, written_down: Path) -> None:
        text = written_down.read_text(encoding="utf-8")
        blocks = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
        assert len(blocks) >= 4
        for head, rule, *body in blocks:
            assert set(rule) <= set("|-: ")
            assert body
            assert {len(re.split(r"(?<!\\)\|", line)) for line in (head, rule, *body)} == {head.count("|") + 1}

    def test_markdown_of_odd_names_is_text(self, tmp_path: Path) -> None:
        odd = "a|b *c* <i> $x$ [d](e) `f`\n# g"
        made = {"candidates": rows.candidates(pools=2, members=3, sizes=(2,), population=odd)}
        folder = rows.write(tmp_path / "run", made, {"sweep": odd})
        right("report", folder, "--format", "md")
        text = (folder / "report.md").read_text(encoding="utf-8")
        assert r"a\|b \*c\* \<i\> \$x\$ \[d\](e) \`f\` # g" in text
        assert "<i>" not in text
        assert "\n# g" not in text

    def test_markdown_says_the_same_twice(self, folder: Path, written_down: Path, tmp_path: Path) -> None:
        right("report", folder, "-o", tmp_path / written_down.name)
        files = [path.relative_to(written_down.parent) for path in written_down.parent.rglob("*.*")]
        assert len(files) > 2
        assert all((written_down.parent / file).read_bytes() == (tmp_path / file).read_bytes() for file in files)

    def test_without_a_browser_a_pdf_is_refused(
        self, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        message = wrong("report", small, "--format", "pdf")
        assert "no browser for PDF output found" in message
        assert "print it there" in message

    def test_a_failing_browser_is_reported(self, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        program = tmp_path / "chromium"
        program.write_text("#!/bin/sh\necho 'no display' >&2\nexit 1\n", encoding="utf-8")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
        assert "the browser wrote no PDF: no display" in wrong("report", small, "-o", tmp_path / "x.pdf")
        assert not (tmp_path / "x.pdf").exists()


def test_an_unknown_form_is_refused(run: Run, tmp_path: Path) -> None:
    with pytest.raises(AnalysisError, match="no report in `docx`"):
        report.write(run, tmp_path / "x.docx", form="docx")
