"""Kept digests: an unchanged file is read once, a changed one again, and no state of the cache is an error."""

from __future__ import annotations

import logging
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sweep.core import hash_cache
from sweep.core.hash_cache import cached_digests, hash_bytes

NOBODY = 65534


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MERGE_SWEEP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def write_old(folder: Path, count: int, content: str = "content") -> list[Path]:
    """Files that were last changed an hour ago."""
    folder.mkdir(exist_ok=True)
    files = [folder / f"{number:04d}" for number in range(count)]
    for number, file in enumerate(files):
        file.write_text(f"{content} {number}")
        os.utime(file, (time.time() - 3600,) * 2)
    return files


class Reader:
    """Counts the files that are read."""

    def __init__(self) -> None:
        self.read: list[Path] = []

    def __call__(self, file: Path) -> str:
        self.read.append(file)
        return hash_bytes(file)


def look(files: list[Path], kind: str = "bytes") -> tuple[list[str], int]:
    """The digests, and how many files were read for them."""
    reader = Reader()
    return cached_digests(files, kind, reader), len(reader.read)


def test_an_unchanged_file_is_read_once(tmp_path: Path) -> None:
    files = write_old(tmp_path / "files", 9000)
    expected = [hash_bytes(file) for file in files]
    assert look(files) == (expected, 9000)
    assert look(files) == (expected, 0)
    assert look(files[::-1] + files[:1]) == (expected[::-1] + expected[:1], 0)
    assert look(files[:3], "another kind") == (expected[:3], 3)
    assert look([]) == ([], 0)


def change_content(file: Path) -> None:
    file.write_text("CONTENT 0")
    os.utime(file, (time.time() - 3600,) * 2)


def change_keeping_the_times(file: Path) -> None:
    status = file.stat()
    file.write_text("CONTENT 0")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def replace_keeping_the_times(file: Path) -> None:
    status = file.stat()
    other = file.with_name("other")
    other.write_text("CONTENT 0")
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(file)


def point_elsewhere(file: Path) -> None:
    other = file.with_name("other")
    change = file.read_text().upper()
    other.write_text(change)
    file.unlink()
    file.symlink_to(other)


@pytest.mark.parametrize(
    "change", [change_content, change_keeping_the_times, replace_keeping_the_times, point_elsewhere]
)
def test_a_changed_file_is_read_again(tmp_path: Path, change: object) -> None:
    files = write_old(tmp_path / "files", 2)
    before, _ = look(files)
    assert callable(change)
    change(files[0])
    after, read = look(files)
    assert (after[0] != before[0], after[1], read) == (True, before[1], 1)


def test_a_file_that_has_just_changed_is_not_kept(tmp_path: Path) -> None:
    file = tmp_path / "new"
    file.write_text("x")
    assert look([file])[1] == 1
    assert look([file])[1] == 1


def test_names_of_any_bytes_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9 ?'\""))
    files = write_old(place, 2)
    assert look(files)[1] == 2
    monkeypatch.chdir(place)
    assert look([Path(file.name) for file in files])[1] == 0, "a relative path is the same file"


def unusable(cache: Path, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bring the cache into a state in which it cannot be used."""
    database = cache / "digests.sqlite"
    if how == "no home":
        monkeypatch.delenv("MERGE_SWEEP_CACHE")
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    elif how == "no folder":
        cache.write_text("a file")
    else:
        cache.mkdir()
        if how == "garbage":
            database.write_bytes(b"no database" * 1000)
        elif how == "another table":
            with sqlite3.connect(database) as connection:
                connection.execute("create table digests (x)")
            connection.close()
        elif how == "a folder":
            database.mkdir()


@pytest.mark.parametrize("how", ["no home", "no folder", "garbage", "another table", "a folder"])
def test_digests_are_right_without_a_usable_cache(
    how: str, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = write_old(tmp_path / "files", 3)
    unusable(cache, how, monkeypatch)
    assert look(files) == ([hash_bytes(file) for file in files], 3)
    assert look(files)[1] == 3
    if how == "garbage":
        assert look(files)[1] == 0, "a damaged database is made anew"


def test_a_damaged_page_is_found_and_the_database_made_anew(tmp_path: Path, cache: Path) -> None:
    files = write_old(tmp_path / "files", 500)
    expected, _ = look(files)
    database = cache / "digests.sqlite"
    content = bytearray(database.read_bytes())
    content[4096:] = bytes(len(content) - 4096)
    database.write_bytes(content)
    for _ in range(3):
        digests, read = look(files)
        assert digests == expected
    assert read == 0


def test_a_locked_database_is_not_waited_for_long(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hash_cache, "_LOCK_SECONDS", 0.1)
    files = write_old(tmp_path / "files", 3)
    expected, _ = look(files)
    holder = sqlite3.connect(cache / "digests.sqlite", isolation_level=None)
    holder.execute("begin exclusive")
    assert look(files) == (expected, 3)
    holder.execute("rollback")
    holder.execute("begin immediate")  # a writer: what is kept can be read, and nothing added
    assert look(files) == (expected, 0)
    assert look(files, "other")[1] == 3
    holder.close()
    assert look(files, "other")[1] == 3
    assert look(files, "other")[1] == 0


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A folder that every user may read; that of the test is for its owner alone."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


@contextmanager
def ordinary_user() -> Iterator[None]:
    """Without the rights of the superuser, for whom nothing is read-only."""
    user = os.geteuid()
    os.seteuid(user or NOBODY)
    try:
        yield
    finally:
        os.seteuid(user)


def test_a_read_only_database_is_read(public_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = public_folder / "cache"
    monkeypatch.setenv("MERGE_SWEEP_CACHE", str(cache))
    files = write_old(public_folder / "files", 3)
    look(files[:2])
    (cache / "digests.sqlite").chmod(0o444)
    cache.chmod(0o555)
    with ordinary_user():
        assert look(files)[1] == 1
        assert look(files)[1] == 1
    cache.chmod(0o700)


def test_many_processes_use_it_at_once(tmp_path: Path) -> None:
    files = write_old(tmp_path / "files", 300)
    code = (
        "import sys\nfrom pathlib import Path\nfrom sweep.core.hash_cache import cached_digests, hash_bytes\n"
        "for _ in range(10): print(*cached_digests(sorted(Path(sys.argv[1]).iterdir()), 'bytes', hash_bytes))"
    )
    command = [sys.executable, "-W", "error", "-c", code, str(tmp_path / "files")]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(6)]
    line = " ".join(hash_bytes(file) for file in files) + "\n"
    assert [process.communicate(timeout=120) for process in started] == [(line * 10, "")] * 6
    assert look(files)[1] == 0


def test_errors_of_files_are_raised_and_what_was_computed_is_kept(tmp_path: Path) -> None:
    files = write_old(tmp_path / "files", 3)
    with pytest.raises(FileNotFoundError):
        cached_digests([*files, tmp_path / "none"], "bytes", hash_bytes)

    def refuse_last(file: Path) -> str:
        if file == files[-1]:
            raise ValueError("not this one")
        return hash_bytes(file)

    with pytest.raises(ValueError, match="not this one"):
        cached_digests(files, "bytes", refuse_last)
    assert look(files)[1] == 1


def test_a_long_look_reports_how_far_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    files = write_old(tmp_path / "files", 30)
    look(files)
    assert not caplog.messages
    monkeypatch.setattr(hash_cache, "_FIRST_REPORT", 0.1)
    with caplog.at_level(logging.WARNING):
        cached_digests(files, "slow", lambda file: time.sleep(0.02 * (os.cpu_count() or 1)) or "x")
    assert len(caplog.messages) == 1, "the next one would come after 10 s"
    assert caplog.messages[0].startswith("reading files: ")
    assert " of 30, about " in caplog.messages[0]


def test_a_long_look_without_a_cache_names_the_cause(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    files = write_old(tmp_path / "files", 30)
    cache.write_text("a file")
    monkeypatch.setattr(hash_cache, "_FIRST_REPORT", 0)
    look(files)
    assert caplog.messages[-1].startswith("the digests of these files are not kept: ")
    assert caplog.messages[-1].endswith("; MERGE_SWEEP_CACHE names another folder for it")
