"""The cell of each population: data set, architecture and start of its networks."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pandas as pd

FACTORS = {"dataset": "data set", "architecture": "architecture", "start": "start"}
"""The columns that make a cell, each with its name in words."""


def cell_settings(tables: Iterable[pd.DataFrame], members: pd.DataFrame) -> pd.DataFrame:
    """One row per population of the tables, with the columns of `FACTORS`, indexed by population; sorted.

    An architecture that covers many networks, such as timm, is followed by the name of the network, which the table of
    members has in `architecture_settings`.
    """
    columns = ["population", *FACTORS]
    known = [table[columns] for table in tables if set(columns) <= set(table)]
    rows = pd.concat([table.drop_duplicates("population").astype(object) for table in known or [members[columns]]])
    found = rows.drop_duplicates("population").set_index("population").sort_index().fillna("unknown").astype(str)
    settings = members.drop_duplicates("population").set_index("population")["architecture_settings"].astype(object)
    networks = settings.map(_network).reindex(found.index).fillna("").astype(str)
    return found.assign(architecture=(found["architecture"] + networks).astype(object))


def differing_settings(candidates: pd.DataFrame, groups: Iterable[Iterable[str]]) -> list[str]:
    """The settings of training and data set in which the populations of a group differ, one text per group with any.

    Each has the value of each population, as `lr: 0.1 in a, 0.01 in b`; a setting that was not recorded has no value.
    """
    texts = []
    for group in groups:
        settings = {name: _settings(candidates[candidates["population"] == name]) for name in sorted(group)}
        names = dict.fromkeys(name for one in settings.values() for name in one)
        differing = [name for name in names if len({one.get(name, "") for one in settings.values()}) > 1]
        values = {name: [f"{one[name]} in {who}" for who, one in settings.items() if name in one] for name in differing}
        texts += ["; ".join(f"{name}: {', '.join(each)}" for name, each in values.items())] if values else []
    return texts


def _settings(rows: pd.DataFrame) -> dict[str, str]:
    """The settings of training and data set of a population's first rows, as texts; those of pools are left out."""
    found: dict[str, str] = {}
    for column in ("training", "dataset_settings"):
        known = rows[column].dropna().astype(str).tolist()[:1] if column in rows else []
        values = json.loads(known[0]) if known else {}
        found |= {name: json.dumps(value).replace('"', "") for name, value in values.items() if name != "split"}
    return found


def _network(settings: Any) -> str:
    """The name of a network in the settings of its architecture, preceded by a space; empty if there is none."""
    values = json.loads(settings) if isinstance(settings, str) and settings else {}
    return f" {values['name']}" if isinstance(values.get("name"), str) else ""
