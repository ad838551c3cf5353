"""The place where MLflow's runs go, a server or a data base file: how long to wait for it, and no noise from it."""

from __future__ import annotations

import fcntl
import logging
import os
import sqlite3
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

LOCAL = "sqlite:///"

_DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}


def is_server(uri: str) -> bool:
    """Whether runs go over the network, and not into a data base that this process opens."""
    return uri.startswith(("http://", "https://"))


@contextmanager
def silence() -> Iterator[None]:
    """No warning, no log line and no telemetry of MLflow and what it builds on."""
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


@contextmanager
def patience(uri: str, seconds: int) -> Iterator[None]:
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
def sole(uri: str) -> Iterator[None]:
    """One process at a time makes the tables of a data base file: MLflow itself fails when two do.

    Afterwards the file can be read while it is written (journal mode WAL); a server or another data base is left alone.
    """
    if not uri.startswith(LOCAL):
        yield
        return
    file = Path(uri.removeprefix(LOCAL).split("?")[0])
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.with_name(f"{file.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("pragma journal_mode = wal")
