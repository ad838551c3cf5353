"""Files on systems that lack what one hopes for: no hard links, by order of the kernel."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

WITHOUT_LINKS = """
import ctypes, os, pathlib, struct, sys

def instruction(code, yes, no, value):
    return struct.pack("HBBI", code, yes, no, value)

LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06
program = b"".join([
    instruction(LOAD, 0, 0, 0),  # the number of the system call
    instruction(EQUAL, 2, 0, 86),  # link
    instruction(EQUAL, 1, 0, 265),  # linkat
    instruction(RETURN, 0, 0, 0x7FFF0000),  # allowed
    instruction(RETURN, 0, 0, 0x00050000 | 1),  # EPERM, as on FAT
])
buffer = ctypes.create_string_buffer(program)
header = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(buffer)))
kernel = ctypes.CDLL(None, use_errno=True)
assert kernel.prctl(38, 1, 0, 0, 0) == 0  # no new privileges
assert kernel.prctl(22, 2, header, 0, 0) == 0, ctypes.get_errno()  # a filter of system calls
folder = pathlib.Path(sys.argv[1])
(folder / "probe").write_text("")
try:
    os.link(folder / "probe", folder / "linked")
except PermissionError:
    pass
else:
    sys.exit("links work")
from sweep.storage.files import create_atomic
"""
ONE = """
assert create_atomic(folder / "a.parquet", b"first")
assert not create_atomic(folder / "a.parquet", b"second")
assert (folder / "a.parquet").read_bytes() == b"first"
assert sorted(path.name for path in folder.iterdir()) == [".turn", "a.parquet", "probe"]
"""
RACE = """
print("ready", flush=True)
while not (folder / "go").exists():
    pass
mine = sys.argv[2].encode() * 50_000
print("".join(str(int(create_atomic(folder / f"{n}.parquet", mine))) for n in range(40)))
"""
ENDLESS = """
print("ready", flush=True)
for number in range(10**6):
    create_atomic(folder / f"{sys.argv[2]}-{number}.parquet", b"x" * 2_000_000)
"""

pytestmark = pytest.mark.skipif(
    (platform.system(), platform.machine()) != ("Linux", "x86_64"), reason="the filter is for Linux on x86-64"
)


def child(script: str, folder: Path, name: str = "") -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WITHOUT_LINKS + script, str(folder), name]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_without_links_a_file_is_whole_and_never_overwritten(tmp_path: Path) -> None:
    process = child(ONE, tmp_path)
    _, errors = process.communicate()
    assert process.returncode == 0, errors


def test_without_links_the_first_of_racing_writers_wins(tmp_path: Path) -> None:
    racers = [child(RACE, tmp_path, name) for name in "abc"]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    (tmp_path / "go").touch()
    won = [racer.communicate()[0].strip() for racer in racers]
    assert [racer.returncode for racer in racers] == [0, 0, 0]
    for number in range(40):
        (winner,) = [name for name, each in zip("abc", won, strict=True) if each[number] == "1"]
        assert (tmp_path / f"{number}.parquet").read_bytes() == winner.encode() * 50_000


def test_without_links_a_killed_writer_leaves_whole_files_and_its_turn_to_others(tmp_path: Path) -> None:
    for name in "abc":
        process = child(ENDLESS, tmp_path, name)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        while not list(tmp_path.glob(f"{name}-3.parquet")):
            assert process.poll() is None
        process.kill()
        process.communicate()
    assert {path.stat().st_size for path in tmp_path.glob("*.parquet")} == {2_000_000}
