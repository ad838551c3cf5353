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


def differing_settings(candidates: pd.DataFrame, populations: Iterable[str]) -> str:
    """The training settings in which some populations differ, with their values, in words; empty if in none."""
    if "training" not in candidates:
        return ""
    rows = candidates[candidates["population"].isin(list(populations)) & candidates["training"].notna()]
    texts = rows.drop_duplicates(["population", "training"])["training"].astype(object)
    settings = [json.loads(text) for text in texts]
    names = dict.fromkeys(name for one in settings for name in one)
    values = {name: sorted({json.dumps(one.get(name)) for one in settings}) for name in names}
    return "; ".join(f"{name} {', '.join(each)}" for name, each in values.items() if len(each) > 1).replace('"', "")


def _network(settings: Any) -> str:
    """The name of a network in the settings of its architecture, preceded by a space; empty if there is none."""
    values = json.loads(settings) if isinstance(settings, str) and settings else {}
    return f" {values['name']}" if isinstance(values.get("name"), str) else ""
