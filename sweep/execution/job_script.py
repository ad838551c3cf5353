"""What runs on a cluster for `sweep submit` and `sweep report`: the checks of its versions, then the verb.

For `submit` this file is sent along and run by itself: the cluster may have another merge-sweep, or none. So it imports
nothing of it before the versions are known.
"""

from __future__ import annotations

import base64
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

JOB = "merge_sweep_job.json"
SCRIPT = "merge_sweep_job.py"
REPORT_MARK = "merge-sweep-report:"
_PACKAGE = "merge-sweep"
_CHANGED = ".dirty"
_WRONG = 2


def main(words: list[str]) -> None:
    """Run the job in the working folder, or print the report of a run folder as text: `report FOLDER`."""
    if words[:1] == ["report"]:
        print_report(words[1])
        return
    job = json.loads(Path(JOB).read_text("utf-8"))
    problem = version_problem(job["code_version"])
    if problem:
        sys.stderr.write(f"{problem}\n")
        sys.exit(_WRONG)
    if job["code_version"].endswith(_CHANGED):
        sys.stderr.write("changes that are not committed there may not be on this cluster\n")
    for line in other_versions(job["versions"]):
        sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, "-m", "sweep", "run", *job["words"]])


def version_problem(submitted: str) -> str:
    """Why the cluster's merge-sweep is not the submitted one; empty if it is. Unknown commits are equal to any."""
    hint = f"\n  hint: install the same merge-sweep on the cluster and here; there it is used by {sys.executable}"
    try:
        installed = importlib.metadata.version(_PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        return f"the cluster has no merge-sweep{hint}; `sweep submit --python PATH` names another Python"
    from sweep.core.provenance import code_version

    found = code_version().removesuffix(_CHANGED)  # such as an edited launcher
    submitted = submitted.removesuffix(_CHANGED)
    both_commits = "+" in found and "+" in submitted
    if found == submitted or (not both_commits and installed == submitted.partition("+")[0]):
        return ""
    return f"the cluster has merge-sweep {found}, and this job was submitted by {submitted}{hint}"


def other_versions(submitted: dict[str, str]) -> list[str]:
    """A line on the libraries that the cluster has in other versions: numbers are those of the cluster's."""
    found = {name: _version(name) for name in submitted}
    others = [f"{name} {found[name]} (here {here})" for name, here in submitted.items() if found[name] != here]
    return [f"the cluster has {', '.join(others)}"] if others else []


def _version(name: str) -> str:
    if name == "python":
        return platform.python_version()
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def print_report(folder: str) -> None:
    """Write the report of a run folder and print it as one line of text, since a job hands back its log alone."""
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "report.html"
        command: list[Any] = [sys.executable, "-m", "analysis.cli", "report", folder, "-o", file]
        done = subprocess.run(command, check=False)
        if done.returncode:
            sys.exit(done.returncode)
        sys.stdout.write(f"\n{REPORT_MARK}{base64.b64encode(file.read_bytes()).decode()}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
