"""The connection to MLflow, a server or a database file: its address, time limits, errors, and no noise from it."""

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
from urllib.parse import unquote

from sweep.core.file_lock import file_lock
from sweep.core.masking import mask_known
from sweep.core.paths import expand

_LOCAL = "sqlite:///"

_DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}


def is_server(uri: str) -> bool:
    """Whether runs go to a server over the network, and not to a database that this process opens."""
    return uri.startswith(("http://", "https://"))


def tracking_uri(storage: Path) -> str:
    """Where runs go: MLFLOW_TRACKING_URI, or a database file beside the run folders."""
    return os.environ.get("MLFLOW_TRACKING_URI") or database_uri(expand(storage) / "mlflow.db")


def database_uri(file: Path) -> str:
    """The address of a database file, whatever characters its path has: `?` begins a query and `%` a code."""
    return _LOCAL + str(file).replace("%", "%25").replace("?", "%3F")


def database_file(uri: str) -> Path:
    """The file of a database's address."""
    return Path(unquote(uri.removeprefix(_LOCAL).split("?")[0]))


def is_new_database(uri: str) -> bool:
    """Whether the address is that of a database file in which MLflow has no default experiment yet."""
    file = database_file(uri)
    if not uri.startswith(_LOCAL) or not file.exists():
        return uri.startswith(_LOCAL)
    with suppress(sqlite3.Error), closing(sqlite3.connect(file)) as connection:  # it may lack the table, too
        return connection.execute("select 1 from experiments where experiment_id = 0").fetchone() is None
    return True


def ui_command(uri: str) -> str:
    """The command that opens MLflow's page for this machine only, or the address of the server; without a password."""
    shown = mask_known(uri)
    if is_server(uri):
        return shown
    return (
        f"MLFLOW_DISABLE_TELEMETRY=true mlflow ui --backend-store-uri {shlex.quote(shown)} --host 127.0.0.1 --workers 1"
    )


def artifact_location(uri: str, storage: Path) -> str | None:
    """Where the files of runs go: beside the run folders, not in the working folder; None for a server."""
    return None if is_server(uri) else (expand(storage) / "mlflow-artifacts").as_uri()


def registry_name(name: str) -> str:
    """A name in the characters that MLflow's model registry accepts."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name)


def model_name(sweep_name: str, folder_id: str) -> str:
    """The registered model of a run folder: registered names are those of all users of a server."""
    return registry_name(f"{sweep_name}-{folder_id[:8]}")


@contextmanager
def quiet_mlflow() -> Iterator[None]:
    """Silence warnings, log lines and telemetry of MLflow and its libraries, but not the log lines of this package.

    `logging.disable` would silence those, too, which other threads write meanwhile.
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
    """Limit one request to a server, which is tried twice, unless the user has set limits in the environment."""
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
    """Let one process at a time create the tables of a database file: MLflow fails if two do it at once.

    Raises sqlite3.Error for a file that is no database or cannot be opened. Afterwards it can be read while it is
    written (journal mode WAL). Servers and other databases are not touched.
    """
    if not uri.startswith(_LOCAL):
        yield
        return
    file = database_file(uri)
    file.parent.mkdir(parents=True, exist_ok=True)
    with file_lock(file.with_name(f"{file.name}.lock")):
        if file.exists():  # MLflow tries again for minutes
            with closing(sqlite3.connect(file)) as connection:
                connection.execute("pragma schema_version")
        yield
    as_written = Path(uri.removeprefix(_LOCAL)).parent
    if as_written != file.parent:
        with suppress(OSError):
            os.removedirs(as_written)  # MLflow makes the folder with its codes as well, and leaves it empty
    with suppress(sqlite3.OperationalError), closing(sqlite3.connect(file)) as connection:
        connection.execute("pragma journal_mode = wal")  # it only adds speed
