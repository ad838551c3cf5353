"""Load and check a run folder as data frames."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from analysis.core.errors import AnalysisError
from sweep.core.text import did_you_mean

if TYPE_CHECKING:
    import pandas as pd

MARGINS = {"accuracy": 0.005, "accuracy_per_model": 0.001, "retention": 0.05, "correlation": 0.05, "slope": 0.05}
"""Smallest differences that matter by kind of quantity, where the run recorded none."""

_FIRST = ("members", "curves", "candidates")


@dataclass
class Run:
    """A run folder: `info` is its `run.json`, `config` the text of its `sweep.yaml`, `tables` its tables.

    A table is read at first use. `warnings` lists corrections made while reading.
    """

    folder: Path
    info: dict[str, Any]
    config: str
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    several: ClassVar[bool] = False
    """Whether the rows are of several run folders."""

    def table(self, name: str) -> pd.DataFrame:
        """The rows of a table, one per key, in the order of the keys. Raises AnalysisError for an unknown table."""
        from sweep.storage.columns import KEYS  # pyarrow comes with it: `analysis --help` must not wait for that

        if name not in KEYS:
            raise AnalysisError(str(self.folder), f"no table `{name}`", did_you_mean(name, KEYS))
        if name not in self.tables:
            rows = _table(self.folder, name, self.warnings)
            self.tables[name] = _with_members(rows, self.members) if name == "candidates" else rows
        return self.tables[name]

    @property
    def populations(self) -> list[str]:
        """The names of the populations that have rows, in order."""
        return sorted({*self.members["population"].dropna(), *self.candidates["population"].dropna()})

    def only(self, populations: Collection[str]) -> Run:
        """The run restricted to these populations; tables without populations are unchanged.

        Raises AnalysisError for a population that the run does not have.
        """
        for unknown in sorted(set(populations) - set(self.populations)):
            raise AnalysisError(str(self.folder), f"no population `{unknown}`", did_you_mean(unknown, self.populations))
        return _Part(self.folder, self.info, self.config, warnings=self.warnings, whole=self, chosen=set(populations))

    @property
    def margins(self) -> dict[str, float]:
        """The smallest differences that matter by kind of quantity, from the first invocation that recorded any.

        Earlier versions recorded a number, for accuracy; kinds that were not recorded have their default.
        """
        recorded = [one for one in self.invocations if _is_number(one.get("margin"))][:1]
        found = dict(MARGINS)
        for one in recorded:
            stated = one.get("margins")
            found["accuracy"] = float(one["margin"])
            chosen = stated if isinstance(stated, dict) else {}
            found |= {kind: float(chosen[kind]) for kind in MARGINS if _is_number(chosen.get(kind))}
        return found

    @property
    def margin(self) -> float:
        """The smallest difference in accuracy that matters."""
        return self.margins["accuracy"]

    @property
    def invocations(self) -> list[dict[str, Any]]:
        """What run.json recorded of each `sweep run`; entries of another form are left out."""
        entries = self.info.get("invocations")
        return [one for one in entries if isinstance(one, dict)] if isinstance(entries, list) else []

    def has(self, name: str) -> bool:
        """Whether a table has rows, without reading them."""
        from sweep.storage.tables import part_files

        return bool(len(self.tables[name]) if name in self.tables else part_files(self.folder, name))

    def tables_of(self, names: Collection[str], optional: Collection[str] = ()) -> dict[str, pd.DataFrame]:
        """The tables of these names, and of the `optional` ones those that have rows."""
        return {name: self.table(name) for name in (*names, *(one for one in optional if self.has(one)))}

    @property
    def members(self) -> pd.DataFrame:
        """One row per member or start."""
        return self.table("members")

    @property
    def curves(self) -> pd.DataFrame:
        """One row per epoch of a member."""
        return self.table("curves")

    @property
    def candidates(self) -> pd.DataFrame:
        """One row per candidate and split."""
        return self.table("candidates")


def _is_number(value: Any) -> bool:
    """Whether a value from run.json is a number, and no truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool)


@dataclass
class _Part(Run):
    """A run restricted to some populations; tables are filtered at first use."""

    whole: Run = field(kw_only=True)
    chosen: set[str] = field(kw_only=True)

    def has(self, name: str) -> bool:
        return self.whole.has(name)

    def table(self, name: str) -> pd.DataFrame:
        if name not in self.tables:
            rows = self.whole.table(name)
            self.tables[name] = _cut(rows, self.chosen) if "population" in rows else rows
        return self.tables[name]


def _cut(rows: pd.DataFrame, populations: Collection[str]) -> pd.DataFrame:
    """The rows of some populations, without unused categories."""
    kept = rows[rows["population"].isin(populations)].reset_index(drop=True)
    for name in kept.columns[kept.dtypes == "category"]:
        kept[name] = kept[name].cat.remove_unused_categories()
    return kept


def load(folder: str | Path) -> Run:
    """The rows of a run folder, finished or not.

    Raises AnalysisError for a folder that is missing, holds no rows, cannot be read, or was written by a newer version.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise AnalysisError(str(folder), "no such run folder", "`sweep ls` lists runs; a run folder is `runs/<name>`")
    info = _info(folder)
    _refuse_newer(folder, info)
    config = folder / "sweep.yaml"
    text = config.read_text(encoding="utf-8", errors="replace") if config.is_file() else ""
    run = Run(folder, info, text)
    if all(run.table(name).empty for name in _FIRST):
        raise AnalysisError(str(folder / "tables"), "no rows yet", f"run the sweep first: `{_last_command(info)}`")
    return run


def _last_command(info: dict[str, Any]) -> str:
    """The command that the last invocation recorded; a placeholder if none did, or if the run came from Python."""
    invocations = Run(Path(), info, "").invocations
    commands = [one["command"] for one in invocations if isinstance(one.get("command"), str)]
    return commands[-1] if commands and commands[-1].startswith("sweep run ") else "sweep run FILE.yaml"


def _info(folder: Path) -> dict[str, Any]:
    """The contents of run.json; empty if there is none."""
    path = folder / "run.json"
    if not path.is_file():
        return {}
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise AnalysisError(
            str(path), f"not JSON: {error}", "restore it, or move it away to continue without it"
        ) from None
    if not isinstance(info, dict):
        raise AnalysisError(str(path), "not a JSON object", "restore it, or move it away to continue without it")
    return info


def _refuse_newer(folder: Path, info: dict[str, Any]) -> None:
    """Raises AnalysisError if the folder or one of its files has a newer schema than this code."""
    from sweep.storage import tables as table
    from sweep.storage.columns import KEYS

    versions = {folder / "run.json": info.get("schema_version")}
    for name in KEYS:
        for path in table.part_files(folder, name)[:1]:
            versions[path] = (_schema(path).metadata or {}).get(b"schema_version")
    for path, version in versions.items():
        number = _version(version)
        if number > table.SCHEMA_VERSION:
            what = f"schema version {number}, newer than {table.SCHEMA_VERSION} which this code reads"
            raise AnalysisError(str(path), what, "upgrade to the version that wrote it")


def _version(text: Any) -> int:
    """A schema version as a number; 0 for none and for what is no number, such as files of other programs."""
    try:
        return int(text)
    except (TypeError, ValueError):
        return 0


def _schema(path: Path) -> Any:
    """The Arrow schema of one file."""
    import pyarrow.parquet as pq

    try:
        return pq.read_schema(path)
    except (OSError, ValueError) as error:
        raise AnalysisError(str(path), f"not a readable Parquet file: {error}", "move it away and run again") from None


def _table(folder: Path, name: str, warnings: list[str]) -> pd.DataFrame:
    """One table with one row per key, in the order of its keys."""
    from analysis.rows.chance import with_chance
    from analysis.rows.reader import frame
    from sweep.storage.columns import KEYS

    key = KEYS[name]
    try:
        rows, repeated = frame(folder, name, key)
    except (OSError, ValueError) as error:
        place = str(folder / "tables" / name)
        hint = "`sweep doctor RUN --repair` moves damaged files aside"
        raise AnalysisError(place, f"cannot be read: {error}", hint) from None
    if repeated:
        warnings.append(f"{name}: {repeated} repeated rows of one {key[0]} were read once")
    rows = _without_infinite(rows, name, warnings)
    return with_chance(rows, folder) if name == "candidates" else rows


def _with_members(candidates: pd.DataFrame, members: pd.DataFrame) -> pd.DataFrame:
    """The candidates with `architecture_kind` and `training` of their pool's members; null where it is not recorded."""
    found = {}
    for name in ("architecture_kind", "training"):
        known = members[members[name].notna()].drop_duplicates("pool_id").set_index("pool_id")[name].astype(object)
        values = candidates["pool_id"].astype(object).map(known)
        found[name] = values.astype(object).astype("category")  # texts, even if every value is missing
    return candidates.assign(**found)


def _without_infinite(rows: pd.DataFrame, name: str, warnings: list[str]) -> pd.DataFrame:
    """The rows with NaN for infinite numbers, of an overflowed model for example: no statistic can use them."""
    import numpy as np

    found = {}
    for column in rows.columns[rows.dtypes == np.float64]:
        values = rows[column].to_numpy()
        infinite = np.isinf(values)
        if infinite.any():
            found[column] = np.where(infinite, np.nan, values)
            warnings.append(f"{name}: {int(infinite.sum())} infinite values of `{column}` were left out")
    return rows.assign(**found) if found else rows
