"""The page of a report, in text and in a browser, and the verbs that write reports and figures."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from analysis.cli.main import main
from analysis.core import registry
from analysis.display import numbers
from analysis.report import page as report
from analysis.report import pdf
from analysis.rows.run import load
from tests.helpers import rows
from tests.helpers.analysis_verbs import ask, refused
from tests.helpers.pages import parsed

MACHINE = {"host": "node1", "cpu": "CPU", "cores": 2, "memory_bytes": 16 * 2**30, "accelerators": ["GPU"]}
INVOCATION = {
    "started_at": "2026-01-05T10:00:00+00:00",
    "finished_at": "2026-01-05T10:04:00+00:00",
    "command": "sweep run configs/made.yaml",
    "code_version": "0.1.0",
    "commit": "abc1234",
    "dirty": True,
    "versions": {"python": "3.11.9", "torch": "2.9.0"},
    "machine": MACHINE,
}
BROWSER = next((path for path in map(shutil.which, pdf.BROWSERS) if path), None)
in_a_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome on PATH to open the page in")
FACTS = """<script>addEventListener("load", () => {
  const wide = [...document.body.querySelectorAll("*")].filter(one => one.getBoundingClientRect().right > innerWidth);
  const page = document.documentElement, tables = [...document.querySelectorAll("#summary table")];
  parent.postMessage({width: innerWidth, scroll: page.scrollWidth, wide: wide.slice(0, 9).map(one => one.outerHTML),
    tables: tables.map(one => one.innerText), figures: document.querySelectorAll("figure svg").length}, "*");
});</script>"""
FRAME = """<!doctype html><iframe src="page.html" width="{width}" height="900" style="border: 0"></iframe><script>
addEventListener("message", event => document.documentElement.dataset.facts = JSON.stringify(event.data));</script>"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    info = {"schema_version": 1, "sweep": "made", "sweep_id": "ab12", "invocations": [INVOCATION]}
    path = rows.run_folder(tmp_path_factory.mktemp("runs") / "made", info)
    (path / "sweep.yaml").write_text("name: made  # <script>\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def page(folder: Path) -> str:
    report.write(load(folder), folder / "report.html")
    return (folder / "report.html").read_text(encoding="utf-8")


def test_the_page_is_well_formed_with_ids_of_one_use(page: str) -> None:
    found = parsed(page)
    assert found.open == []
    assert len(found.ids) == len(set(found.ids))
    for target in found.loads:
        if target.startswith("#"):
            assert target[1:] in found.ids


def test_the_page_loads_nothing_from_outside(page: str) -> None:
    assert "http://" not in page
    assert "https://" not in page
    assert "//" not in re.sub(r"base64,[\w+/=\s]*", "", re.sub(r"<script>.*</script>", "", page, flags=re.DOTALL))
    inside = ("#", "data:text/csv;base64,", "data:image/png;base64,")
    assert all(target.startswith(inside) for target in parsed(page).loads)
    assert "@import" not in page
    assert "url(" not in re.sub(r"url\(#[\w-]+\)", "", page)


def test_the_page_shows_every_figure_with_caption_unit_and_data(page: str) -> None:
    for name in registry.list_plugins("figures"):
        section = page[page.index(f'<section id="{name}">') :]
        section = section[: section.index("</section>")]
        assert "<svg" in section
        assert f'download="{name}.csv"' in section
        assert "Unit of replication: pool; n = 3" in section


def test_the_page_says_what_was_run_and_what_failed(page: str) -> None:
    for text in ("sweep run configs/made.yaml", "torch 2.9.0", "16 GiB memory", "abc1234 with uncommitted changes"):
        assert text in page
    assert "2026-01-05 10:00 UTC to 2026-01-05 10:04 UTC" in page
    assert "overflow" in page
    assert "is optimistic" in page
    assert 'minus <span class="code">logit_average</span>' in page


def test_the_same_rows_give_the_same_page(folder: Path, page: str, tmp_path: Path) -> None:
    report.write(load(folder), tmp_path / "again.html")
    assert (tmp_path / "again.html").read_text(encoding="utf-8") == page


def test_a_normal_page_is_small(page: str) -> None:
    assert len(page.encode()) <= 3_000_000


def opened(page: str, width: int, folder: Path) -> tuple[dict[str, Any], list[str]]:
    """Facts about the page in a browser at a given width, and the lines on its console.

    The page is shown in a frame of that width, because a window is never narrower than 500 pixels.
    """
    assert BROWSER is not None
    (folder / "page.html").write_text(page.replace("</body>", f"{FACTS}</body>"), encoding="utf-8")
    (folder / "frame.html").write_text(FRAME.format(width=width), encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}"]
    options += ["--enable-logging=stderr", "--virtual-time-budget=5000", "--window-size=1400,1000", "--dump-dom"]
    command = [BROWSER, *options, (folder / "frame.html").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    found = re.search(r'data-facts="([^"]*)"', done.stdout)
    assert found, done.stderr
    return json.loads(html.unescape(found[1])), [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@in_a_browser
@pytest.mark.parametrize("width", [1200, 390])
def test_a_browser_shows_the_page_without_errors_or_overflow(page: str, width: int, tmp_path: Path) -> None:
    facts, console = opened(page, width, tmp_path)
    assert console == []
    assert facts["width"] == width
    assert facts["scroll"] <= width, facts["wide"]
    assert facts["figures"] == len(registry.list_plugins("figures"))
    assert any("people" in text and "uniform_soup" in page for text in facts["tables"])


@in_a_browser
def test_what_is_wrong_with_a_page_is_seen(tmp_path: Path) -> None:
    broken = '<section id="summary"><p style="width: 900px">x</p></section><script>nothing()</script></body>'
    facts, console = opened(broken, 390, tmp_path)
    assert facts["scroll"] > facts["width"] == 390
    assert any("nothing is not defined" in line for line in console)


@in_a_browser
def test_a_pdf_is_the_page_as_printed(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.pdf"
    assert ask("report", folder, "-o", path).exit_code == 0
    assert path.read_bytes().startswith(b"%PDF")
    assert path.stat().st_size > 50_000


def test_report_prints_the_path_and_how_to_open_it(folder: Path, tmp_path: Path) -> None:
    result = ask("report", folder, "-o", tmp_path / "x.html")
    assert result.exit_code == 0
    assert result.stdout == f"{tmp_path / 'x.html'}\n"
    assert "file://" in result.stderr


def test_figure_writes_the_file_and_names_its_data(folder: Path, tmp_path: Path) -> None:
    result = ask("figure", "spaces", folder, "-o", tmp_path / "x.pdf")
    assert (tmp_path / "x.pdf").read_bytes().startswith(b"%PDF")
    assert result.stdout == f"{tmp_path / 'x.pdf'}\n"
    assert f"analysis figure spaces {folder}" in result.stderr


def test_ls_names_every_function() -> None:
    result = ask("ls")
    assert result.exit_code == 0
    for kind in registry.KINDS:
        for name in registry.list_plugins(kind):
            assert f"\n  {name} " in result.stdout


def test_mistakes_are_reported_in_one_message(folder: Path, tmp_path: Path) -> None:
    missing = tmp_path / "nothing"
    assert f"{missing}: no such run folder" in refused("report", missing)
    assert "no rows yet" in refused("report", tmp_path)
    assert "did you mean `spaces`" in refused("figure", "spacs", folder)
    assert "end in one of" in refused("figure", "spaces", folder, "-o", tmp_path / "x.gif")
    assert "is it writable?" in refused("report", folder, "-o", tmp_path / "no" / "x.html")
    (tmp_path / "run.json").write_text("{", encoding="utf-8")
    assert "run.json: not JSON" in refused("report", tmp_path)


def test_help_waits_for_no_heavy_package_and_shows_an_example() -> None:
    code = (
        "import sys, analysis.cli; print([m for m in ('pandas', 'matplotlib', 'scipy', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    for name in main.commands:
        assert "Example: analysis" in ask(name, "--help").stdout


def test_numbers_read_as_a_reader_wants_them() -> None:
    assert numbers.percent(0.91234) == "91.23"
    assert numbers.signed(-1.234, 2) == "\N{MINUS SIGN}1.23"
    assert numbers.signed(-0.0001, 2) == "0.00"
    assert numbers.signed(0.5, 1) == "+0.5"
    assert numbers.fixed(float("nan"), 2) == "\N{EN DASH}"
    assert numbers.interval(float("-inf"), float("inf"), 2) == "no interval"
    assert [numbers.size(n) for n in (0, 512, 2048, 16 * 2**30)] == ["0 B", "512 B", "2 KiB", "16 GiB"]
    assert numbers.when("yesterday") == "yesterday"
