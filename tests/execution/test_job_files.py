"""What `sweep submit` sends: the file, plug-ins and what they import, and data with relative paths; nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sweep.config.loader import load
from sweep.core.errors import UserError
from sweep.core.provenance import code_version
from sweep.execution import job_files, job_script
from sweep.execution.job_files import SubmitError, write_job
from sweep.execution.jobs import Unseen
from tests.helpers.pictures import two_classes

SWEEP = """
name: sent
dataset: {imagefolder: {root: data/pictures, size: 8}}
populations:
  - {architecture: 'sent_package.networks:network', checkpoints: ['models/*.pt'], base: models/base.bin}
  - {architecture: mlp, checkpoints: [/cluster/one.pt, /cluster/two.pt], dataset: {digits: {size: 8}}}
subsets: {sizes: [2]}
methods: [uniform_soup]
metrics: [accuracy]
execution: {storage: /shared/runs}
"""
NETWORK = '''"""A network of one's own."""

from torch import nn

import sent_beside

CITES = ()


def network(classes: int, channels: int, size: int) -> nn.Module:
    """A linear classifier."""
    return nn.Sequential(nn.Flatten(), nn.Linear(sent_beside.SQUARE * channels * size**2, classes))
'''


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a sweep, its plug-in, data and checkpoints, and what belongs to none of them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "sent.yaml").write_text(SWEEP)
    (tmp_path / "sent_package").mkdir()
    (tmp_path / "sent_package/networks.py").write_text(NETWORK)
    (tmp_path / "sent_package/table.csv").write_text("1,2\n")
    (tmp_path / "sent_beside.py").write_text("SQUARE = 1\n")
    (tmp_path / "other.py").write_text("raise SystemExit\n")
    (tmp_path / "models").mkdir()
    for name in ("1.pt", "2.pt", "base.bin", "notes.txt"):
        torch.save({}, tmp_path / "models" / name)
    two_classes(tmp_path / "data/pictures")
    return tmp_path


def sent(folder: Path, *overrides: str) -> set[str]:
    """The files of the job."""
    target = folder / "job"
    write_job(load("sent.yaml", overrides, elsewhere=True), Path("sent.yaml"), overrides, target)
    return {str(file.relative_to(target)) for file in target.rglob("*") if file.is_file()}


def test_what_a_sweep_names_is_sent_and_no_more(here: Path) -> None:
    found = sent(here)
    pictures = {name for name in found if name.startswith("data/pictures/")}
    assert len(pictures) > 2
    assert found - pictures == {
        *("sent.yaml", job_script.JOB, job_script.SCRIPT),
        *("sent_package/networks.py", "sent_package/table.csv", "sent_beside.py"),
        *("models/1.pt", "models/2.pt", "models/base.bin"),
    }
    job = json.loads((here / "job" / job_script.JOB).read_text())
    assert job["words"] == ["sent.yaml"]


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("execution.storage=runs", "execution.storage=runs is a relative path"),
        ("populations.0.checkpoints=['none/*.pt']", "no file"),
        ("populations.0.base=models/absent", "no file"),
        ("dataset.imagefolder.root=../elsewhere", "does not lie in the working folder"),
        ("dataset.imagefolder.root=absent", "there is no "),
    ],
)
def test_what_cannot_be_sent_is_named(here: Path, override: str, problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        sent(here, override)


def test_more_than_a_cluster_takes_is_refused(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_files, "LARGEST_BYTES", 2**20)
    (here / "models/3.pt").write_bytes(bytes(2**22))
    with pytest.raises(SubmitError, match=r"the largest file is models/3.pt \(4 MiB\)"):
        sent(here)


@pytest.mark.parametrize(
    ("change", "code", "printed"),
    [
        ({"code_version": "9.9.9"}, 2, "and this job was submitted by 9.9.9"),
        ({"versions": {"torch": "1.0"}}, 0, "(here 1.0)"),
        ({"code_version": code_version().removesuffix(".dirty") + ".dirty"}, 0, "not committed"),
    ],
)
def test_versions_are_compared_on_the_cluster(here: Path, change: dict[str, object], code: int, printed: str) -> None:
    """The script runs by itself; `sweep run --help` stands for the run."""
    sent(here)
    place = here / "job" / job_script.JOB
    place.write_text(json.dumps(json.loads(place.read_text()) | {"words": ["--help"]} | change))
    command = [sys.executable, job_script.SCRIPT]
    done = subprocess.run(command, cwd=here / "job", capture_output=True, text=True, check=False)
    assert (done.returncode, printed in done.stderr) == (code, True), done.stderr
    assert ("Train the missing members" in done.stdout) == (code == 0)


@given(st.text(max_size=40), st.lists(st.integers(0, 40), max_size=6))
def test_a_log_that_is_read_again_is_written_once(log: str, breaks: list[int]) -> None:
    """The connection breaks after some characters, several times, and the whole log is read at the end."""
    written: list[str] = []
    unseen = Unseen(written.append)
    for end in (*breaks, len(log)):
        unseen.restart()
        for start in range(0, min(end, len(log)), 7):
            unseen(log[start : min(start + 7, end, len(log))])
    assert "".join(written) == log
