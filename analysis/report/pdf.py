"""A page printed to PDF by a browser that is already there."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from analysis.core.errors import AnalysisError

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_HINT = "write the report as html, open it in a browser and print it from there"
_SECONDS = 180
_OPTIONS = ("--headless", "--no-sandbox", "--disable-gpu", "--no-pdf-header-footer")


def browser() -> str:
    """The first Chromium or Chrome on PATH. Raises AnalysisError where there is none."""
    found = next((path for path in map(shutil.which, BROWSERS) if path), None)
    if found is None:
        raise AnalysisError("PATH", f"no browser that prints ({', '.join(BROWSERS)})", _HINT)
    return found


def print_pdf(program: str, page: Path, path: Path) -> None:
    """Prints an HTML file to a PDF file. Raises AnalysisError where the browser fails, with its last words."""
    with tempfile.TemporaryDirectory() as profile:
        target = Path(profile) / "page.pdf"
        command = [program, *_OPTIONS, f"--user-data-dir={profile}/profile", f"--print-to-pdf={target}"]
        try:
            done = subprocess.run(
                [*command, page.resolve().as_uri()], capture_output=True, text=True, timeout=_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            raise AnalysisError(program, f"was not done after {_SECONDS} seconds", _HINT) from None
        if not target.is_file():
            last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise AnalysisError(program, f"printed nothing: {last}", _HINT)
        path.write_bytes(target.read_bytes())
