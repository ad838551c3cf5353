"""Why MLflow cannot be used, in one line, and what to do about it."""

from __future__ import annotations

import re

from sweep.core.errors import UserError
from sweep.core.masking import mask_secrets

_LONGEST = 300
_UNAUTHORIZED = "401 unauthorized: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
_REMEDIES = {
    r"error code 403|PERMISSION_DENIED": "use an account that may write there (MLFLOW_TRACKING_USERNAME)",
    r"error code 404|not in a valid JSON format": "is the address complete? It may need a path, as https://host/path",
    r"unsupported URI|Databricks": "MLFLOW_TRACKING_URI is an address such as http://host:5000 or sqlite:///file.db",
    r"must be in the 'active' state": "a run or its experiment was deleted there",
    r"database schema": "back it up and run `mlflow db upgrade {uri}`, or use the MLflow that wrote it",
    r"is locked": "another program holds the data base: end it",
    r"not a database|malformed": "move the file of the data base aside: a new one is made from the tables",
    r"unable to open|readonly|Read-only|Permission denied|Not a dir": "make it writable, or set MLFLOW_TRACKING_URI",
    r"No module named": "install the driver of the data base",
    r"(?i)connection|timed out|too many \d+ error": "is the server up? Without MLFLOW_TRACKING_URI a file is used",
}
"""What an error's text contains -> what to do; the first that fits."""


class TrackingError(UserError):
    """MLflow answers, and cannot be used as it is."""


def describe_error(uri: str, error: Exception) -> str:
    """One line on why MLflow cannot be used, without the password in its address."""
    line = f"MLflow at {uri} cannot be used ({_cause(error)}"
    return " ".join(mask_secrets(line).split())[:_LONGEST] + ")"


def remedy(uri: str, error: Exception) -> str:
    """What to do about an error; empty if nothing is known."""
    if isinstance(error, TrackingError):
        return error.hint
    cause = f"{_cause(error)} {error}"
    found = next((text for pattern, text in _REMEDIES.items() if re.search(pattern, cause)), "")
    return found.format(uri=mask_secrets(uri))


def _cause(error: Exception) -> str:
    """The part of an error that tells most: of a failed request, what it was caused by."""
    if getattr(error, "get_http_status_code", lambda: None)() == 401:
        return _UNAUTHORIZED
    if isinstance(error, TrackingError):
        return str(error)
    inner = re.search(r"Caused by \w+\((.*)\)", str(error))
    return f"{type(error).__name__}: {inner[1].rstrip(')') if inner else error}"
