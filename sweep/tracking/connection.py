"""The place where MLflow's runs go, a server or a data base file: how long to wait for it, and no noise from it."""

from __future__ import annotations

import logging
import os
import re
import shlex
import sqlite3
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from sweep.core.file_lock import file_lock

_LOCAL = "sqlite:///"
_WHO = "401, it does not know you: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"

_DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}


def is_server(uri: str) -> bool:
    """Whether runs go over the network, and not into a data base that this process opens."""
    return uri.startswith(("http://", "https://"))


def tracking_uri(storage: Path) -> str:
    """Where runs go: MLFLOW_TRACKING_URI, or else a data base beside the run folders."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"{_LOCAL}{storage.expanduser().absolute() / 'mlflow.db'}"


def ui_command(uri: str) -> str:
    """What opens MLflow's page: a command on this machine only, or the address of a server."""
    if is_server(uri):
        return uri
    return (
        f"MLFLOW_DISABLE_TELEMETRY=true mlflow ui --backend-store-uri {shlex.quote(uri)} --host 127.0.0.1 --workers 1"
    )


def artifact_place(uri: str, storage: Path) -> str | None:
    """Where files of runs go: without a server MLflow would take the working folder; a server knows its own."""
    return None if is_server(uri) else (storage.expanduser().absolute() / "mlflow-artifacts").as_uri()


def describe_error(uri: str, error: Exception) -> str:
    """What is wrong with the place, in one line and without the password in its address."""
    status = getattr(error, "get_http_status_code", lambda: None)()
    cause = _WHO if status == 401 else f"{type(error).__name__}: {error}"
    line = f"MLflow at {uri} cannot be used ({cause}"
    return " ".join(re.sub(r"//[^/@\s]*@", "//", line).split())[:300] + ")"


def registry_name(sweep_name: str) -> str:
    """The name of a sweep in the letters that a registry of models takes."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", sweep_name)


@contextmanager
def quiet_mlflow() -> Iterator[None]:
    """No warning, no log line and no telemetry of MLflow and what it builds on. Log lines of this package pass.

    So `logging.disable` is no choice: a second thread may have something to report meanwhile.
    """
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        handlers = _log_handlers()
        level = logging.getLogger("torch").level
        logging.getLogger("torch").setLevel(logging.CRITICAL + 1)  # torch.export adds handlers while it traces a model
        for handler in handlers:
            handler.addFilter(_is_own)
        try:
            yield
        finally:
            for handler in handlers:
                handler.removeFilter(_is_own)
            logging.getLogger("torch").setLevel(level)


def _log_handlers() -> list[logging.Handler]:
    """Every log handler of this process, and the one that Python uses where there is none."""
    known = [each for each in logging.root.manager.loggerDict.values() if isinstance(each, logging.Logger)]
    last = [logging.lastResort] if logging.lastResort else []
    return [*{*last, *logging.root.handlers, *(handler for logger in known for handler in logger.handlers)}]


def _is_own(record: logging.LogRecord) -> bool:
    """Whether a log line comes from this package."""
    return record.name.partition(".")[0] == "sweep"


@contextmanager
def request_timeout(uri: str, seconds: int) -> Iterator[None]:
    """How long one request to a server may take, tried twice, where the user has not said it."""
    limits = {"MLFLOW_HTTP_REQUEST_TIMEOUT": str(seconds), "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
    unset = {name: value for name, value in limits.items() if is_server(uri) and name not in os.environ}
    os.environ.update(unset)
    try:
        yield
    finally:
        for name in unset:
            del os.environ[name]


@contextmanager
def exclusive(uri: str) -> Iterator[None]:
    """One process at a time makes the tables of a data base file: MLflow itself fails when two do.

    Afterwards the file can be read while it is written (journal mode WAL); a server or another data base is left alone.
    """
    if not uri.startswith(_LOCAL):
        yield
        return
    file = Path(uri.removeprefix(_LOCAL).split("?")[0])
    file.parent.mkdir(parents=True, exist_ok=True)
    with file_lock(file.with_name(f"{file.name}.lock")):
        yield
    with suppress(sqlite3.OperationalError), closing(sqlite3.connect(file)) as connection:  # it works without, slower
        connection.execute("pragma journal_mode = wal")
