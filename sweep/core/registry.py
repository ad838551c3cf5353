"""Plug-in registry: the folder lists the names, the signature is the schema of settings and names the needs.

`sweep/plugins/methods/uniform_soup.py` defines the function `uniform_soup`, which a configuration selects by its name.
Keyword-only parameters are settings, with the bounds of their annotations; positional parameters are needs: inputs
that the engine provides by name.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import sys
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import PurePath
from typing import Any

from pydantic import ValidationError, create_model

from sweep.core.causes import add_plugin_module, own_place, root_line
from sweep.core.errors import UserError
from sweep.core.paths import PathError, expand_home
from sweep.core.settings import Problem, SettingsModel, describe_errors
from sweep.core.text import did_you_mean

NEEDS: dict[str, frozenset[str]] = {
    "architectures": frozenset({"classes", "channels", "size"}),
    "datasets": frozenset(),
    "methods": frozenset({"members", "unscaled", "base", "score", "layout", "logits", "features", "heads"})
    | {"generator", "record"},
    "alignments": frozenset({"members", "model", "permutations", "generator"}),
    "scalings": frozenset({"count", "layout", "members", "member", "generator"}),
    "repairs": frozenset({"model", "images", "members", "generator"}),
    "metrics": frozenset({"logits", "probabilities", "log_probabilities", "labels"}),
    "protocols": frozenset({"model", "reported", "extractor", "mean", "std", "train", "validation", "generator"})
    | {"method", "scaling", "recipe"},
}
"""Kind of plug-in -> the needs that its functions may name; the engine provides exactly these."""

_PROVIDED = {
    "features": ("features", "heads", "logits", "members", "unscaled", "base", "score", "generator", "record"),
    "logits": ("logits", "members", "unscaled", "base", "score", "generator", "record"),
    "weights": ("members", "unscaled", "base", "score", "layout", "generator", "record"),
}
"""Space -> the needs that the engine provides to a method there."""

_SPACES = {"members": "weights", "features": "features", "heads": "features", "logits": "logits"}


class RegistryError(UserError):
    """An unknown name, invalid settings, or a function that breaks the rules of its kind.

    `problems` holds (path within the settings, message, hint); an empty path means the name itself.
    """

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        super().__init__("; ".join(what + (f" ({hint})" if hint else "") for _, what, hint in problems))


@dataclass(frozen=True)
class Plugin:
    """One plug-in function."""

    kind: str
    name: str
    function: Callable[..., Any]

    @cached_property
    def signature(self) -> inspect.Signature:
        """The signature of the function, annotations unevaluated."""
        return inspect.signature(self.function)

    @cached_property
    def hints(self) -> dict[str, Any]:
        """Evaluated annotations, with their bounds."""
        return typing.get_type_hints(self.function, include_extras=True)

    @cached_property
    def needs(self) -> tuple[str, ...]:
        """Names of the positional parameters: the inputs that the engine provides."""
        return tuple(p.name for p in self.signature.parameters.values() if p.kind is not p.KEYWORD_ONLY)

    @cached_property
    def space(self) -> str:
        """What a method averages: features, logits or weights; the first of these among its needs."""
        spaces = {_SPACES[need] for need in self.needs if need in _SPACES}
        return next(space for space in _PROVIDED if space in spaces)

    @cached_property
    def arity(self) -> int:
        """Number of members that a method takes; 0 for any number."""
        marks = getattr(self.hints.get("members"), "__metadata__", ())
        return next((mark.count for mark in marks if hasattr(mark, "count")), 0)

    @cached_property
    def settings(self) -> type[SettingsModel]:
        """The settings as a model: one field per keyword-only parameter, nothing else allowed."""
        fields: dict[str, Any] = {
            p.name: (self.hints[p.name], ... if p.default is p.empty else p.default)
            for p in self.signature.parameters.values()
            if p.kind is p.KEYWORD_ONLY
        }
        return create_model(self.name, __base__=SettingsModel, **fields)

    @property
    def documentation(self) -> str:
        """The docstring without its indentation."""
        return inspect.getdoc(self.function) or ""

    @property
    def summary(self) -> str:
        """The first paragraph of the docstring, as one line."""
        return " ".join(self.documentation.split("\n\n")[0].split())

    def constant(self, constant: str) -> Any:
        """A constant of the plug-in's module, such as the `RECIPE` of an architecture; None if it has none."""
        return getattr(sys.modules.get(self.function.__module__), constant, None)

    def call(self, provided: Mapping[str, Any], settings: Mapping[str, Any]) -> Any:
        """The function's result for the needs that its signature names, taken from `provided`, and these settings.

        Raises TypeError for a need that is not provided.
        """
        missing = [need for need in self.needs if need not in provided]
        if missing:
            available = ", ".join(sorted(provided)) or "nothing"
            raise TypeError(f"{self.kind}: `{self.name}` needs `{missing[0]}`, got only {available}")
        return self.function(*(provided[need] for need in self.needs), **settings)

    def validate(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The settings with defaults filled in.

        Raises RegistryError with one problem per wrong setting, and for settings that the file's `check_settings`, if
        it has one, refuses together by a ValueError.
        """
        try:
            found = dict(self.settings(**settings))
        except ValidationError as error:
            raise RegistryError(describe_errors(error, settings, self.settings)) from None
        _check_paths(found)
        try:
            (self.constant("check_settings") or dict)(**found)
        except ValueError as error:
            raise RegistryError([((), str(error), "")]) from None
        return found


def _check_paths(settings: Mapping[str, Any]) -> None:
    """Raise RegistryError for paths that begin with the home folder of a user that is not known here."""
    problems: list[tuple[tuple[str | int, ...], str, str]] = []
    for key, value in settings.items():
        try:
            _ = expand_home(value) if isinstance(value, PurePath) else None
        except PathError as error:
            problems.append(((key,), str(error), error.hint))
    if problems:
        raise RegistryError(problems)


@cache
def list_plugins(kind: str) -> list[str]:
    """Sorted names of a kind of plug-ins; imports no plug-in."""
    package = importlib.import_module(_module_name(kind))
    return sorted(module.name for module in pkgutil.iter_modules(package.__path__) if not module.name.startswith("_"))


@cache
def get_plugin(kind: str, name: str) -> Plugin:
    """The plug-in of that name, or the function `package.module:function` outside the package.

    Raises RegistryError for an unknown name, with similar names, and for a function that breaks the rules of its kind.
    """
    if ":" in name.strip(":"):
        module, _, attribute = name.partition(":")
    elif name in list_plugins(kind):
        module = _module_name(kind, name)
        attribute = name
    else:
        raise RegistryError([((), f"no `{name}` in {kind}", did_you_mean(name, list_plugins(kind)))])
    function = _load_function(name, module, attribute)
    try:
        plugin = _check_signature(Plugin(kind, name, function))
    except RegistryError:
        raise
    except Exception as error:  # no function, or annotations that mean nothing
        what = f"`{name}` has no signature to read settings from: {error}"
        raise RegistryError([((), what, "settings are keyword-only, each with its type")]) from error
    add_plugin_module(module)  # now, since a library that holds no plug-in is not the user's
    return plugin


def _load_function(name: str, module: str, attribute: str) -> Any:
    """A function of a module. Raises RegistryError, with the place in the user's code, if it cannot be had."""
    try:
        found = importlib.import_module(module)
    except (Exception, SystemExit) as error:  # importing a user's module may raise anything
        add_plugin_module(module)
        place = own_place(error)
        text = error.msg if isinstance(error, SyntaxError) else root_line(error)
        what = f"cannot load `{name}`: " + (f"{place}: {type(error).__name__}: {text}" if place else text)
        hint = "correct your own module there" if place else "is its folder on PYTHONPATH?"
        raise RegistryError([((), what, hint)]) from error
    if not hasattr(found, attribute):
        known = [key for key, value in vars(found).items() if inspect.isfunction(value) and not key.startswith("_")]
        what = f"cannot load `{name}`: {found.__file__} defines no `{attribute}`"
        raise RegistryError([((), what, did_you_mean(attribute, known))])
    return getattr(found, attribute)


def _module_name(*parts: str) -> str:
    """The module of a kind of plug-ins, or of one plug-in."""
    return ".".join(("sweep.plugins", *parts))


def _check_signature(plugin: Plugin) -> Plugin:
    """The plug-in, if its signature follows the rules of its kind. Raises RegistryError."""
    starred = [p for p in plugin.signature.parameters.values() if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if starred:
        what = f"`{plugin.name}` takes {starred[0]}: needs and settings are declared one by one"
        raise RegistryError([((), what, "")])
    unknown = [need for need in plugin.needs if need not in NEEDS[plugin.kind]]
    if unknown:
        hint = did_you_mean(unknown[0], NEEDS[plugin.kind])
        raise RegistryError([((), f"`{plugin.name}` needs `{unknown[0]}`, which is not provided there", hint)])
    if plugin.kind == "methods" and not any(need in _SPACES for need in plugin.needs):
        raise RegistryError([((), f"`{plugin.name}` takes neither members, features nor logits", "")])
    strange = [need for need in plugin.needs if plugin.kind == "methods" and need not in _PROVIDED[plugin.space]]
    if strange:
        what = f"`{plugin.name}` averages {plugin.space}, where there is no `{strange[0]}`"
        raise RegistryError([((), what, f"there: {', '.join(_PROVIDED[plugin.space])}")])
    _ = plugin.settings
    return plugin


def identity(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings without paths: a path is a location, not content, so it is not part of ids."""
    return {key: value for key, value in settings.items() if not isinstance(value, PurePath)}
