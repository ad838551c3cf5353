"""The folder is the registry: `analysis/figures/paths.py` defines the figure `paths`."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from typing import Any

from analysis.core.errors import AnalysisError
from sweep.core.text import did_you_mean

KINDS = ("claims", "figures", "statistics")


def list_plugins(kind: str) -> list[str]:
    """Names in a plural folder, sorted; nothing is imported but the empty package."""
    package = importlib.import_module(f"analysis.{kind}")
    return sorted(module.name for module in pkgutil.iter_modules(package.__path__) if not module.name.startswith("_"))


def get_plugin(kind: str, name: str) -> Callable[..., Any]:
    """The function of that name.

    Raises AnalysisError for an unknown name, with the nearest ones.
    """
    if name not in list_plugins(kind):
        raise AnalysisError(f"analysis/{kind}", f"no `{name}`", did_you_mean(name, list_plugins(kind)))
    function: Callable[..., Any] = getattr(importlib.import_module(f"analysis.{kind}.{name}"), name)
    return function


def caption(function: Callable[..., Any]) -> list[str]:
    """The paragraphs of the documentation, each as one line."""
    return [" ".join(paragraph.split()) for paragraph in (inspect.getdoc(function) or "").split("\n\n")]


def tables(function: Callable[..., Any]) -> list[str]:
    """The tables that a figure or statistic takes: its parameters without a default."""
    return [one.name for one in _parameters(function) if one.default is inspect.Parameter.empty]


def optional_tables(function: Callable[..., Any]) -> list[str]:
    """The tables that it takes where the run has them: its parameters that are a data frame or None."""
    return [one.name for one in _parameters(function) if _is_optional_table(one)]


def settings(function: Callable[..., Any]) -> dict[str, Any]:
    """The settings that it takes, with their defaults: its other parameters."""
    parameters = [one for one in _parameters(function) if not _is_optional_table(one)]
    return {one.name: one.default for one in parameters if one.default is not inspect.Parameter.empty}


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    """The parameters in their order."""
    return list(inspect.signature(function).parameters.values())


def _is_optional_table(parameter: inspect.Parameter) -> bool:
    """Whether a parameter is a data frame that may be None."""
    return parameter.default is None and "DataFrame" in str(parameter.annotation)
