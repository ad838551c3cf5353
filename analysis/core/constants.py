"""Constants that a plug-in's file states, read from its source: nothing is imported."""

from __future__ import annotations

import ast
import importlib.util
import sys
from pathlib import Path
from typing import Any

from analysis.core.errors import AnalysisError
from analysis.core.registry import KINDS


def plugin_file(kind: str, name: str) -> Path | None:
    """The file of a plug-in of `analysis` or `sweep`, or of `package.module:function` on the path; None if missing."""
    if ":" in name:
        parts = name.partition(":")[0].split(".")
        candidates = [Path(folder, *parts).with_suffix(".py") for folder in sys.path]
    else:
        spec = importlib.util.find_spec("analysis" if kind in KINDS else "sweep")
        assert spec is not None
        assert spec.origin is not None
        package = Path(spec.origin).parent
        candidates = [(package if kind in KINDS else package / "plugins") / kind / f"{name}.py"]
    return next((file for file in candidates if file.is_file()), None)


def read_constant(kind: str, name: str, constant: str) -> Any:
    """The value of a constant in the file of a plug-in; None where the file or the constant is missing.

    Raises AnalysisError for a constant that is not written as a literal.
    """
    file = plugin_file(kind, name)
    if file is None:
        return None
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == constant for t in node.targets):
            try:
                return ast.literal_eval(node.value)
            except ValueError:
                raise AnalysisError(f"{file}:{node.lineno}", f"`{constant}` is not a literal") from None
    return None
