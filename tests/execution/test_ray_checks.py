"""An address where no Ray answers, and folders that Ray cannot use: one line within seconds, with cause and remedy."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from sweep.config.spec import Execution
from sweep.execution import ray_checks
from sweep.execution.cluster import BackgroundCluster
from sweep.execution.ray_checks import LaunchError, RayAddress, check_reachable, check_temporary_folder, ray_address
from tests.helpers.mounts import apart, tmpfs


@contextmanager
def listening(backlog: int) -> Iterator[socket.socket]:
    """A socket that accepts nothing and never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(backlog)
        yield server


@contextmanager
def nobody() -> Iterator[int]:
    with listening(1) as server:
        port = server.getsockname()[1]
    yield port


@contextmanager
def silent() -> Iterator[int]:
    with listening(8) as server:
        yield server.getsockname()[1]


@contextmanager
def dropping() -> Iterator[int]:
    """A port whose queue is full: the system drops what arrives, as a firewall does."""
    with listening(0) as server, socket.socket() as first:
        first.connect(server.getsockname())
        yield server.getsockname()[1]


@contextmanager
def web_page() -> Iterator[int]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@contextmanager
def closing() -> Iterator[int]:
    """A service that ends each connection at once."""

    def serve() -> None:
        connection, _ = server.accept()
        connection.close()

    with listening(8) as server:
        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]


SERVICES = {
    nobody: "nothing listens there",
    silent: "no answer in 1 seconds",
    dropping: "no answer in 1 seconds",
    web_page: "what listens there is not Ray",
    closing: "",  # either the end of the connection or its reset is seen
}


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.__name__)
@pytest.mark.parametrize("origin", ["RAY_ADDRESS", "execution.ray_address"])
def test_an_address_without_ray_is_named_with_its_origin(
    service: Any, origin: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_checks, "CONNECT_SECONDS", 1)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with service() as port:
        address = f"127.0.0.1:{port}"
        if origin == "RAY_ADDRESS":
            monkeypatch.setenv(origin, address)
        execution = Execution(ray_address=None if origin == "RAY_ADDRESS" else address)
        started = time.monotonic()
        with pytest.raises(LaunchError) as error, BackgroundCluster(execution):
            pass
        assert time.monotonic() - started < 30
    assert f"no Ray at {origin}={address}: {SERVICES[service]}" in str(error.value)
    assert ("unset RAY_ADDRESS" if origin == "RAY_ADDRESS" else "leave execution.ray_address out") in error.value.hint


@pytest.mark.parametrize(
    ("address", "cause"),
    [
        ("head.invalid:6379", "the host head.invalid is not known"),
        ("127.0.0.1", "expected host:port"),
        ("127.0.0.1:port", "expected host:port"),
        ("127.0.0.1:99999", "expected host:port"),
        ("", "expected host:port"),
        ("http://127.0.0.1:8265", "the address of a dashboard"),
        ("ray://10.0.0.1:10001", "Ray Client (ray://) cannot run a sweep"),
        ("[::1]:1", "::1"),
    ],
)
def test_an_address_of_another_form_is_explained(address: str, cause: str) -> None:
    with pytest.raises(LaunchError, match=r"^no Ray at RAY_ADDRESS=") as error:
        check_reachable(RayAddress(address, "RAY_ADDRESS"))
    assert cause in str(error.value)


@pytest.mark.parametrize(
    ("setting", "variable", "expected"),
    [
        (None, None, RayAddress("local")),
        (None, "", RayAddress("local")),
        (None, "a:1", RayAddress("a:1", "RAY_ADDRESS")),
        ("b:2", "a:1", RayAddress("b:2", "execution.ray_address")),
        ("auto", "a:1", RayAddress("a:1", "RAY_ADDRESS")),
        ("auto", None, RayAddress("auto", "execution.ray_address")),
        ("local", "a:1", RayAddress("local", "execution.ray_address")),
    ],
)
def test_the_setting_comes_before_the_variable(
    setting: str | None, variable: str | None, expected: RayAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if variable is not None:
        monkeypatch.setenv("RAY_ADDRESS", variable)
    assert ray_address(Execution(ray_address=setting)) == expected


@pytest.mark.parametrize("name", ["TMPDIR", "RAY_TMPDIR"])
@pytest.mark.parametrize("kind", ["long", "missing", "file"])
def test_a_temporary_folder_that_ray_cannot_use_is_named_with_its_variable(
    name: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / ("x" * 60 if kind == "long" else kind)
    if kind == "long":
        place.mkdir()
    if kind == "file":
        place.touch()
    causes = {"long": "too long for the names of its sockets", "missing": "no such folder", "file": "not a folder"}
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv("TMPDIR", "/tmp")
    monkeypatch.setenv(name, str(place))
    with pytest.raises(LaunchError) as error, BackgroundCluster(Execution()):
        pass
    assert f"{name}={place}" in str(error.value)
    if kind != "long":  # the folder of a test may be too long itself
        assert causes[kind] in str(error.value) or causes["long"] in str(error.value)
    assert "RAY_TMPDIR=/tmp" in error.value.hint


def test_the_limit_of_a_socket_name_is_met_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    """The longest folder that passes leaves room for a socket in it, and one byte more does not."""
    session = "ray/session_2026-01-02_03-04-05_678901_4194304/sockets/plasma_store"
    longest = 107 - len(session) - 1
    folder = Path("/tmp") / ("y" * (longest - len("/tmp/")))
    folder.mkdir(exist_ok=True)
    try:
        monkeypatch.setenv("RAY_TMPDIR", str(folder))
        check_temporary_folder()
        monkeypatch.setenv("RAY_TMPDIR", f"{folder}y")
        with pytest.raises(LaunchError, match="too long"):
            check_temporary_folder()
    finally:
        folder.rmdir()


@pytest.mark.parametrize(
    ("options", "cause"), [("size=64k", "no space left on device"), ("ro", "read-only file system")]
)
def test_a_full_or_read_only_folder_is_named(options: str, cause: str, tmp_path: Path) -> None:
    code = "from sweep.execution.ray_checks import check_temporary_folder as check; check()"
    script = f"{tmpfs(Path('/mnt'), options)} && RAY_TMPDIR=/mnt '{sys.executable}' -c '{code}'"
    done = subprocess.run([*apart(), "sh", "-c", script], capture_output=True, text=True, check=False)
    assert f"RAY_TMPDIR=/mnt for its temporary files: {cause}" in done.stderr


def test_a_folder_that_is_fine_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv("TMPDIR", "/tmp")
    check_temporary_folder()
    assert os.environ["TMPDIR"] == "/tmp"
