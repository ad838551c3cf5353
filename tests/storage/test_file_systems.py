"""Run folders on file systems without locks, without fsync of folders, or with the locks of NFS."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.c_library import compiled

HOLD = """
import logging, sys
from pathlib import Path
from sweep.storage.lock import hold
logging.basicConfig(format="%(message)s")
with hold(Path(sys.argv[1]), "sweep run"):
    print("has it", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that stands before the system's flock and fsync."""
    return compiled(Path(__file__).parent / "file_systems.c", tmp_path_factory.mktemp("file_systems"))


def start(library: Path, script: str, folder: Path, **variables: object) -> subprocess.Popen[str]:
    """A process on such a file system."""
    environment = os.environ | {"LD_PRELOAD": str(library)} | {key: str(value) for key, value in variables.items()}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-c", script, str(folder)], env=environment, text=True, **pipes)


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK])
def test_without_locks_a_run_is_refused_in_one_line(library: Path, tmp_path: Path, number: int) -> None:
    script = f"import sys; from sweep.core.causes import explain\ntry:\n{indented(HOLD)}"
    script += "except Exception as error:\n    sys.exit(str(explain(error)) + '; ' + explain(error).hint)\n"
    process = start(library, script, tmp_path / "runs", FLOCK_ERROR=number)
    output, errors = process.communicate("")
    assert (process.returncode, output) == (1, "")
    what = f"the file system of {tmp_path / 'runs/lock'} cannot lock files: {os.strerror(number)}"
    assert (
        errors
        == f"{what}; mount it with locks (Lustre: -o flock, NFS: with its lock service), or choose another place\n"
    )


def indented(script: str) -> str:
    return "".join(f"    {line}\n" for line in script.splitlines())


WRITE = """
import logging, sys
from pathlib import Path
from sweep.storage.files import create_atomic, write_atomic
logging.basicConfig(format="%(message)s")
folder = Path(sys.argv[1])
assert create_atomic(folder / "part", b"first")
assert not create_atomic(folder / "part", b"second")
write_atomic(folder / "run.json", b"{}")
"""


def test_without_fsync_of_folders_files_are_whole_and_the_loss_is_stated_once(library: Path, tmp_path: Path) -> None:
    process = start(library, WRITE, tmp_path, FOLDER_FSYNC_ERROR=errno.EINVAL)
    _, errors = process.communicate("")
    assert process.returncode == 0, errors
    assert (tmp_path / "part").read_bytes() == b"first"
    (line,) = errors.splitlines()
    assert line.startswith("the file system cannot write folders to the disk (fsync)")


def test_another_error_of_fsync_is_not_passed_over(library: Path, tmp_path: Path) -> None:
    process = start(library, WRITE, tmp_path, FOLDER_FSYNC_ERROR=errno.EIO)
    _, errors = process.communicate("")
    assert process.returncode == 1
    assert "Input/output error" in errors


STOP = """
import sys
from pathlib import Path
from sweep.storage.lock import request_stop
print(request_stop(Path(sys.argv[1])))
"""


def test_with_the_locks_of_nfs_a_run_is_asked_to_stop_and_a_second_one_is_refused(
    library: Path, tmp_path: Path
) -> None:
    driver = start(library, HOLD, tmp_path / "runs", FLOCK_AS_NFS=1)
    assert driver.stdout is not None
    assert driver.stdout.readline() == "has it\n"
    stopping = start(library, STOP, tmp_path / "runs", FLOCK_AS_NFS=1)
    owner, errors = stopping.communicate("")
    assert owner.startswith(f"sweep run, process {driver.pid} on "), errors
    assert (tmp_path / "runs/stop").exists()
    second = start(library, HOLD, tmp_path / "runs", FLOCK_AS_NFS=1)
    _, errors = second.communicate("")
    assert f"is in use by sweep run, process {driver.pid} on " in errors
    driver.communicate("")
    assert driver.returncode == 0
    assert (tmp_path / "runs/lock").read_text().startswith("free, last held by sweep run")
