"""The run folder under real processes, real signals and real full discs."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from sweep.storage.compact import compact
from sweep.storage.files import StoreError, create_atomic, write_atomic
from sweep.storage.run_folder import RunFolder, folder_id, new_folder_id
from sweep.storage.tables import SCHEMA_VERSION, part_files
from tests.helpers.logs import logged
from tests.helpers.mounts import apart, tmpfs


def child(script: str, *arguments: object) -> subprocess.Popen[str]:
    """A process of its own with `folder` (a RunFolder) and `argument` (the rest)."""
    head = (
        "import os, sys, time, pathlib\n"
        "from sweep.storage.files import StoreError, create_atomic\nfrom sweep.storage.run_folder import RunFolder\n"
        "folder, argument = RunFolder(pathlib.Path(sys.argv[1])), sys.argv[2:]\n"
    )
    command = [sys.executable, "-c", head + script, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@contextlib.contextmanager
def killed(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """The process, gone at the end without a chance to tidy up."""
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_what_is_published_stays(tmp_path: Path) -> None:
    file = tmp_path / "a" / "b.parquet"
    assert create_atomic(file, b"first")
    assert not create_atomic(file, b"second")
    assert file.read_bytes() == b"first"
    assert [path.name for path in file.parent.iterdir()] == ["b.parquet"], "no temporary file is left"
    write_atomic(file, b"third")
    assert file.read_bytes() == b"third"
    assert len(list(file.parent.iterdir())) == 1


def test_the_first_of_racing_writers_wins(folder: RunFolder) -> None:
    script = """
print("ready", flush=True)
go = folder.path / "go"
while not go.exists(): pass
won = [create_atomic(folder.path / "parts" / f"{n}.parquet", argument[0].encode() * 50_000) for n in range(40)]
print("".join(str(int(each)) for each in won))
"""
    racers = [child(script, folder.path, name) for name in "abc"]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    (folder.path / "go").touch()
    won = [racer.communicate()[0].strip() for racer in racers]
    assert [racer.returncode for racer in racers] == [0, 0, 0]
    for number in range(40):
        content = (folder.path / "parts" / f"{number}.parquet").read_bytes()
        assert len(content) == 50_000
        (winner,) = [name for name, each in zip("abc", won, strict=True) if each[number] == "1"]
        assert content == winner.encode() * 50_000
    assert len(list((folder.path / "parts").iterdir())) == 40


def test_a_process_killed_while_it_writes_leaves_no_part_of_a_part(folder: RunFolder) -> None:
    script = """
rows = [{"candidate_id": os.urandom(16).hex(), "status": "ok", "error": os.urandom(400).hex()} for _ in range(3000)]
for number in range(10**6):
    folder.append("candidates", f"{os.getpid()}-{number}", rows)
"""
    parts = folder.path / "tables" / "candidates" / "parts"
    caught = 0
    for _ in range(6):
        with killed(child(script, folder.path)):
            end = time.monotonic() + 30
            while time.monotonic() < end and not list(parts.glob(".*.tmp")):
                pass
        caught += bool(list(parts.glob(".*.tmp")))
        for file in part_files(folder.path, "candidates"):
            assert pq.read_table(file).num_rows == 3000
        assert {path.suffix for path in parts.iterdir()} <= {".tmp", ".parquet"}
        for path in parts.glob(".*.tmp"):
            path.rename(folder.path / path.name)  # so that the next one is seen
        if caught >= 2:
            break
    assert caught, "no process was killed in the middle of a write"
    assert folder.read("candidates").num_rows % 3000 == 0


def test_the_hash_of_one_member_is_read_from_its_part_alone(folder: RunFolder) -> None:
    for name, digest in (("a", "1"), ("b", None)):
        folder.append("members", name, [{"member_id": name, "status": "ok", "weights_sha256": digest}])
    damaged = folder.part_file("members", "z")
    damaged.write_bytes(b"no Parquet")
    assert folder.weight_hash("a") == "1"
    assert folder.weight_hash("b") is None
    damaged.unlink()
    compact(folder)
    assert (folder.weight_hash("a"), folder.weight_hash("b"), folder.weight_hash("c")) == ("1", None, None)


def test_the_lock_names_its_holder_and_is_free_when_the_holder_is_dead(folder: RunFolder) -> None:
    script = """
with folder.lock("sweep run mine.yaml"):
    print("held", flush=True)
    time.sleep(600)
"""
    for _ in range(2):
        with killed(child(script, folder.path)) as holder:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "held\n"
            with pytest.raises(StoreError) as raised, folder.lock("sweep run other.yaml"):
                pass
            message = (
                rf"is in use by sweep run mine\.yaml, process {holder.pid} on \S+ since \d{{4}}-\d\d-\d\d [\d:]+ UTC$"
            )
            assert re.search(message, str(raised.value))
            assert raised.value.hint == "wait for it, or sweep stop it first"
            holder.send_signal(signal.SIGKILL)
            holder.wait()
            with logged() as lines, folder.lock("sweep run other.yaml"):
                pass
            (line,) = lines
            assert line.startswith(f"taking over from sweep run mine.yaml, process {holder.pid} on ")
            assert line.endswith("(it died without releasing the lock)")
        assert (folder.path / "lock").read_text().startswith("free, last held by sweep run other.yaml, process")
    with logged() as lines, folder.lock("one"):
        pass
    assert lines == []
    with folder.lock("a much shorter story"):
        assert (folder.path / "lock").read_text().startswith("a much shorter story, process")


def test_no_folder_and_odd_descriptions_are_reported(folder: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"^no run folder at .*nowhere$") as raised:
        RunFolder(tmp_path / "nowhere").run_info()
    assert raised.value.hint == "sweep run FILE makes one; see sweep ls runs"
    for content in ("{", "[]", "3", '{"schema_version": "x"}', "\xff"):
        (folder.path / "run.json").write_bytes(content.encode("latin-1"))
        with pytest.raises(StoreError, match=r"^cannot read .*run\.json: "):
            folder.run_info()


def test_a_newer_schema_is_refused(folder: RunFolder) -> None:
    folder.write_run_info({"schema_version": SCHEMA_VERSION + 1})
    with pytest.raises(StoreError) as raised:
        folder.run_info()
    newer = f"{folder.path} was made by a newer version (schema {SCHEMA_VERSION + 1}, this one knows {SCHEMA_VERSION})"
    assert (str(raised.value), raised.value.hint) == (newer, "upgrade merge-sweep, or give the sweep another name")
    folder.write_run_info({"schema_version": SCHEMA_VERSION})
    assert folder.run_info() == {"schema_version": SCHEMA_VERSION}
    folder.create({"schema_version": SCHEMA_VERSION, "again": True})
    assert "again" not in folder.run_info(), "a folder is begun once"


FILL = """
import json
try:
    for number in range(100):
        folder.append("candidates", str(number), [{"candidate_id": os.urandom(10**5).hex()}])
except StoreError as error:
    print(json.dumps([str(error), error.hint, number]))
parts = folder.path / "tables" / "candidates" / "parts"
print(json.dumps(sorted(path.suffix for path in parts.iterdir())))
print(folder.read("candidates").num_rows)
"""


def assert_reported(output: str, reason: str, hint: str) -> None:
    message, suffixes, rows = (json.loads(line) for line in output.splitlines())
    assert re.fullmatch(rf"cannot write .*/parts/{message[2]}\.parquet: {reason}", message[0])
    assert message[1] == hint
    assert suffixes == [".parquet"] * message[2], "what was written before is whole, what could not be is gone"
    assert rows == message[2]


def test_a_file_that_may_not_grow_is_reported(folder: RunFolder) -> None:
    limit = "import resource, signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
    limit += "folder.append('candidates', '0', [{'candidate_id': 'a'}])\n"
    limit += "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
    process = child(limit + FILL.replace("range(100)", "range(1, 100)"), folder.path)
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    assert_reported(output, "File too large", "")


def mounted(tmp_path: Path, options: str, script: str) -> str:
    """What a script prints with a file system in memory at tmp_path/disc."""
    disc = tmp_path / "disc"
    disc.mkdir()
    file = tmp_path / "script.py"
    head = "import os, sys, pathlib\nfrom sweep.storage.run_folder import RunFolder, StoreError\n"
    file.write_text(head + f"folder = RunFolder(pathlib.Path({str(disc / 'run')!r}))\n{script}")
    mount = f"{tmpfs(disc, options)} && exec '{sys.executable}' '{file}'"
    found = subprocess.run([*apart(), "sh", "-c", mount], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    return found.stdout


def test_a_full_disc_is_reported(tmp_path: Path) -> None:
    output = mounted(tmp_path, "size=1m", FILL)
    assert_reported(
        output, "No space left on device", "free some space and run the same command again: nothing is lost"
    )


READ_ONLY = """
appended = lambda: folder.append("tasks", "a", [{}])
for attempt in (lambda: folder.create({}), appended, lambda: folder.lock("x").__enter__()):
    try:
        attempt()
    except StoreError as error:
        print(error)
"""


def test_storage_that_is_read_only_is_reported(tmp_path: Path) -> None:
    if os.geteuid() == 0:  # whom no permission stops
        lines = mounted(tmp_path, "ro", READ_ONLY).splitlines()
        reason = "Read-only file system"
    else:
        shut = tmp_path / "shut"
        shut.mkdir(mode=0o500)
        lines = child(READ_ONLY, shut / "run").communicate()[0].splitlines()
        reason = "Permission denied"
    assert len(lines) == 3
    assert all(re.fullmatch(rf"cannot write .*: {reason}", line) for line in lines)


def test_a_file_in_the_place_of_a_folder_is_reported(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(StoreError, match=rf"^cannot write {tmp_path}/run: File exists$"):
        RunFolder(tmp_path / "run").create({})
    with pytest.raises(StoreError, match=r"^cannot write .*: Not a directory$"):
        RunFolder(tmp_path / "run").append("tasks", "a", [{"created_at": datetime.now(UTC).replace(tzinfo=None)}])


def test_a_run_folder_keeps_its_id_and_shares_it_with_no_other() -> None:
    """Also one of an earlier version, which has none in its run.json."""
    first = {"folder_id": new_folder_id()}
    assert folder_id(first) != new_folder_id()
    assert folder_id(first | {"invocations": [{"started_at": "later"}]}) == folder_id(first)
    earlier: list[dict[str, Any]] = [
        {"sweep": "a", "created_at": at, "invocations": [{"machine": {"host": "h"}}]} for at in ("1", "2")
    ]
    assert len({folder_id(info) for info in earlier}) == 2
    again = earlier[0] | {"invocations": [*earlier[0]["invocations"], {"started_at": "later"}]}
    assert folder_id(again) == folder_id(earlier[0])
