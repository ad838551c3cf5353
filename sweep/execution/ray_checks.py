"""Checks before Ray is started or connected to; each answers within seconds, where Ray may wait for minutes."""

from __future__ import annotations

import os
import re
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from sweep.config.spec import Execution
from sweep.core.errors import UserError

LOCAL = "local"
CONNECT_SECONDS = 10
_SOCKET_BYTES = 107
"""Longest name of a socket (AF_UNIX on Linux)."""
_SOCKET = "ray/session_2026-01-02_03-04-05_678901_{process}/sockets/plasma_store"
_LONGEST_PROCESS_ID = 4_194_304
_WRITTEN = b"\0" * (1 << 20)
"""Ray writes more than this before its first task."""
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5)
"""What a client of HTTP/2, which Ray's services use, sends first: the preface and empty settings (RFC 9113, 3.4)."""
_SETTINGS = 4


class LaunchError(UserError):
    """A cluster that cannot carry out the sweep."""


class RayAddress(NamedTuple):
    """Where Ray is, and the setting or variable that says so."""

    address: str
    origin: str = ""

    def __str__(self) -> str:
        return f"{self.origin}={self.address}"

    @property
    def is_local(self) -> bool:
        """Whether Ray is started on this machine, for this run."""
        return self.address == LOCAL

    @property
    def remedy(self) -> str:
        """How to start Ray on this machine in place of it."""
        if self.origin == "RAY_ADDRESS":
            return "unset RAY_ADDRESS to start Ray here, or set it to a cluster that is up (host:6379)"
        return "leave execution.ray_address out to start Ray here, or set it to a cluster that is up (host:6379)"


def ray_address(execution: Execution) -> RayAddress:
    """The address in `execution.ray_address`, else in RAY_ADDRESS, else `local`.

    As Ray does, `auto` prefers RAY_ADDRESS to the cluster on this machine.
    """
    variable = os.environ.get("RAY_ADDRESS", "")
    setting = execution.ray_address or ""
    if setting and not (setting == "auto" and variable):
        return RayAddress(setting, "execution.ray_address")
    return RayAddress(variable, "RAY_ADDRESS") if variable else RayAddress(LOCAL)


def check_reachable(place: RayAddress) -> None:
    """Raise LaunchError unless a service that could be Ray's answers at host:port within seconds."""
    host, port = _host_and_port(place)
    problem = connection_problem(host, port, lambda opened: _uses_tls() or _is_http2(opened))
    if problem:
        raise LaunchError(f"no Ray at {place}: {problem}", place.remedy)


def connection_problem(host: str, port: int, is_ray: Callable[[socket.socket], bool] = bool) -> str:
    """Why nothing that could be Ray answers at a port within seconds; empty if it does."""
    try:
        with socket.create_connection((host, port), timeout=CONNECT_SECONDS) as connection:
            return "" if is_ray(connection) else "what listens there is not Ray"
    except socket.gaierror:
        return f"the host {host} is not known"
    except TimeoutError:
        return f"no answer in {CONNECT_SECONDS} seconds: is the host off, or a firewall between?"
    except ConnectionRefusedError:
        return "nothing listens there: has the cluster ended?"
    except OSError as error:
        return error.strerror or str(error)


def _host_and_port(place: RayAddress) -> tuple[str, int]:
    """The parts of host:port. Raises LaunchError for an address of another form."""
    found = re.fullmatch(r"\[?([^/\s\]]+)\]?:(\d{1,5})", place.address)
    if found and 0 < int(found[2]) < 1 << 16:
        return found[1], int(found[2])
    problem = "expected host:port of the cluster, such as 10.0.0.1:6379"
    if place.address.startswith("ray://"):
        problem = "Ray Client (ray://) cannot run a sweep; run it on a node of the cluster, with host:port or `auto`"
    elif place.address.startswith("http"):
        problem = f"this is the address of a dashboard; {problem}"
    raise LaunchError(f"no Ray at {place}: {problem}", place.remedy)


def _uses_tls() -> bool:
    """Whether Ray's connections are encrypted: then what listens is not asked."""
    return os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true")


def _is_http2(connection: socket.socket) -> bool:
    """Whether the other side answers with HTTP/2 settings, as Ray's services do. Raises OSError."""
    connection.sendall(_PREFACE)
    head = b""
    while len(head) < 9:
        received = connection.recv(9 - len(head))
        if not received:
            return False
        head += received
    return head[3] == _SETTINGS


def check_temporary_folder() -> None:
    """Raise LaunchError unless Ray can put its files and sockets where RAY_TMPDIR or TMPDIR says."""
    name = next((name for name in ("RAY_TMPDIR", "TMPDIR") if name in os.environ), "")
    folder = os.environ.get(name, "/tmp")
    where = f"{name}={folder}" if name else folder
    problem = _folder_problem(folder)
    if problem:
        raise LaunchError(
            f"Ray cannot use {where} for its temporary files: {problem}", "RAY_TMPDIR=/tmp names another folder"
        )


def _folder_problem(folder: str) -> str:
    """Why a folder is of no use for Ray; empty if it can be used."""
    length = len(os.fsencode(os.path.join(folder, _SOCKET.format(process=_LONGEST_PROCESS_ID))))  # noqa: PTH118
    if length > _SOCKET_BYTES:
        free = _SOCKET_BYTES - length + len(os.fsencode(folder))
        return f"{len(os.fsencode(folder))} bytes are too long for the names of its sockets (at most {free})"
    if not Path(folder).exists():
        return "there is no such folder"
    if not Path(folder).is_dir():
        return "it is not a folder"
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(_WRITTEN)
    except OSError as error:
        return (error.strerror or str(error)).lower()
    return ""
