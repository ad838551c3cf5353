"""Print a page to PDF with an installed browser."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from analysis.core.errors import AnalysisError
from analysis.core.files import write_file

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_HINT = "write the report as html, open it in a browser and print it there"
_SECONDS = 180
_OPTIONS = ("--headless", "--no-sandbox", "--disable-gpu", "--no-pdf-header-footer")


def browser() -> str:
    """The first Chromium or Chrome on PATH. Raises AnalysisError if there is none."""
    found = next((path for path in map(shutil.which, BROWSERS) if path), None)
    if found is None:
        raise AnalysisError("PATH", f"no browser for PDF output found ({', '.join(BROWSERS)})", _HINT)
    return found


def print_pdf(program: str, page: Path, path: Path) -> None:
    """Print an HTML file to a PDF file. Raises AnalysisError with the last line of stderr if the browser fails."""
    with tempfile.TemporaryDirectory() as profile:
        target = Path(profile) / "page.pdf"
        command = [program, *_OPTIONS, f"--user-data-dir={profile}/profile", f"--print-to-pdf={target}"]
        try:
            done = subprocess.run(
                [*command, page.resolve().as_uri()], capture_output=True, text=True, timeout=_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            raise AnalysisError(program, f"did not finish within {_SECONDS} seconds", _HINT) from None
        if not target.is_file():
            last = (done.stderr.strip().splitlines() or ["no message on stderr"])[-1]
            raise AnalysisError(program, f"the browser wrote no PDF: {last}", _HINT)
        write_file(path, target.read_bytes())
