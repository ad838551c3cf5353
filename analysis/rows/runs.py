"""Several run folders as one: the rows of all of them, each with the name of its run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from analysis.core.errors import AnalysisError
from analysis.rows.run import MARGINS, Run, load

if TYPE_CHECKING:
    import pandas as pd

RECIPE = ["architecture", "architecture_settings", "dataset", "dataset_settings", "training", "start"]
"""Columns of members that are equal for the pools of one population."""

GRIDS = {
    "sizes of subsets": "n_members",
    "factors of scaling": "scaling_factor",
    "points of paths and planes": "settings",
    "splits": "split",
    "protocols": "protocol",
}
"""What a statistic may average over -> its column."""

MOST_LISTED = 8
Names = Mapping[str, Mapping[str, str]]


@dataclass
class Runs(Run):
    """The rows of several run folders: every table has a column `run`. `parts` are the runs by their names.

    `population_names` has, by run, the name here of each population of that run.
    """

    parts: dict[str, Run] = field(kw_only=True)
    population_names: Names = field(kw_only=True)
    several: ClassVar[bool] = True

    def table(self, name: str) -> pd.DataFrame:
        """The rows of all runs, one per key; of rows in several runs, the first that is `ok` is kept."""
        if name not in self.tables:
            frames = {run: part.table(name) for run, part in self.parts.items()}
            for part in self.parts.values():
                part.tables.pop(name)  # frees memory: the rows would be kept twice
            self.tables[name] = _one_frame(frames, name, self.population_names, self.warnings)
        return self.tables[name]

    def has(self, name: str) -> bool:
        """Whether a table has rows in any of the runs."""
        return any(part.has(name) for part in self.parts.values())


def load_runs(folders: Sequence[str | Path], *, judged: bool = False) -> Run:
    """The rows of one or several run folders; several have a column `run`, the name of the folder.

    A pool with the same id in two runs is one pool, and its rows are read once. Populations are one if they share a
    pool, or have the same name and recipe and no pools of the same number; others of the same name become
    `<run>/<name>`. Metrics that one run lacks are missing values in its rows. `warnings` lists what was read once,
    renamed, or evaluated on another grid. Raises AnalysisError as `load`, for a folder that is given twice, and, if
    verdicts depend on it (`judged`), for different margins.
    """
    if len(folders) == 1:
        return load(folders[0])
    paths = [Path(folder) for folder in folders]
    repeated = [path for path, n in Counter(path.resolve() for path in paths).items() if n > 1]
    if repeated:
        raise AnalysisError(str(repeated[0]), "the run folder is given twice", "give each run once")
    parts = dict(zip(_run_names(paths), map(load, paths), strict=True))
    if judged:
        _refuse_different_margins(parts)
    names = _population_names(parts)
    warnings = [f"{run}: {text}" for run, part in parts.items() for text in part.warnings]
    warnings += [*_renamed(names), *_grid_warnings(parts)]
    shown = Path(" ".join(map(str, paths)))
    return Runs(shown, _info(parts), _config(parts), warnings=warnings, parts=parts, population_names=names)


def _run_names(paths: Sequence[Path]) -> list[str]:
    """The names of the folders, or their paths where names repeat."""
    names = [path.resolve().name for path in paths]
    return names if len(set(names)) == len(names) else [str(path) for path in paths]


def _info(parts: Mapping[str, Run]) -> dict[str, Any]:
    """The contents of a `run.json` for all runs: their names and invocations."""
    sweeps = [str(part.info.get("sweep") or name) for name, part in parts.items()]
    invocations = [one for part in parts.values() for one in part.invocations]
    return {"sweep": " + ".join(dict.fromkeys(sweeps)), "invocations": invocations}


def _config(parts: Mapping[str, Run]) -> str:
    """The configurations below each other."""
    return "\n".join(f"# {name}\n{part.config}" for name, part in parts.items() if part.config)


def _refuse_different_margins(parts: Mapping[str, Run]) -> None:
    """Raises AnalysisError unless all runs have the same margins."""
    for kind in MARGINS:
        margins = {name: part.margins[kind] for name, part in parts.items()}
        if len(set(margins.values())) > 1:
            found = ", ".join(f"{name}: {margin:g}" for name, margin in margins.items())
            hint = "ask runs of one margin together; `analysis stats` takes any margin"
            raise AnalysisError("margin", f"expected one margin of {kind} for all runs, got {found}", hint)


@dataclass
class _Population:
    """A population of one or several runs: `pools` maps protocol and number to the id of a pool."""

    name: str
    first_run: str
    recipe: frozenset[tuple[Any, ...]]
    pools: dict[tuple[Any, int], str]
    parts: list[tuple[str, str]]

    def shares_a_pool(self, other: _Population) -> bool:
        return not set(self.pools.values()).isdisjoint(other.pools.values())

    def clashes(self, other: _Population) -> bool:
        """Whether two pools have the same number and protocol."""
        return any(self.pools[key] != other.pools[key] for key in self.pools.keys() & other.pools.keys())

    def continues(self, other: _Population) -> bool:
        """Whether both are pools of one recipe, by their name and the settings of their members."""
        return self.name == other.name and self.recipe == other.recipe and not self.clashes(other)


def _population_names(parts: Mapping[str, Run]) -> dict[str, dict[str, str]]:
    """By run, the name of each population among those of all runs. Raises AnalysisError for pools of two numbers."""
    groups: list[_Population] = []
    for run, part in parts.items():
        for one in _populations(run, part):
            shared = [group for group in groups if group.shares_a_pool(one)]
            same = shared or [group for group in groups if one.continues(group)]
            if not same:
                groups.append(one)
                continue
            if same[0].clashes(one):
                what = f"`{one.name}` and `{same[0].name}` of `{same[0].first_run}` share pools, under other numbers"
                raise AnalysisError(run, what, "ask one of the two runs at a time")
            same[0].pools |= one.pools
            same[0].parts += one.parts
    repeated = {name for name, n in Counter(group.name for group in groups).items() if n > 1}
    found: dict[str, dict[str, str]] = {run: {} for run in parts}
    for group in groups:
        for run, name in group.parts:
            found[run][name] = f"{group.first_run}/{group.name}" if group.name in repeated else group.name
    return found


def _populations(run: str, part: Run) -> Iterator[_Population]:
    """The populations of one run."""
    import pandas as pd

    members = part.members[part.members["role"] == "member"]
    place = ["population", "protocol", "pool", "pool_id"]
    rows = [part.candidates[place].drop_duplicates(), members.drop_duplicates("pool_id").assign(protocol="correct")]
    pools = pd.concat([frame[place].astype(object) for frame in rows]).drop_duplicates("pool_id")
    recipes = members[["population", *RECIPE]].drop_duplicates().astype(object)
    recipes = recipes.where(recipes.notna(), None)
    for name, own in pools.groupby("population", sort=True):
        numbers = zip(own["protocol"], own["pool"], strict=True)
        recipe = frozenset(recipes.loc[recipes["population"] == name, RECIPE].itertuples(index=False, name=None))
        ids = dict(zip(numbers, own["pool_id"], strict=True))
        yield _Population(str(name), run, recipe, ids, [(run, str(name))])


def _renamed(names: Names) -> Iterator[str]:
    """Notes on populations with another name than in their run."""
    for run, own in names.items():
        for name, here in own.items():
            if here != name:
                yield f"population `{name}` of `{run}` is `{here}` here"


def _grid_warnings(parts: Mapping[str, Run]) -> Iterator[str]:
    """Notes on grids that differ between runs: averages over them are of other points in each run."""
    for what, column in GRIDS.items():
        grids = {run: _grid(part.candidates, column) for run, part in parts.items()}
        if len({grid for grid in grids.values() if grid}) > 1:
            texts = [f"{run}: {_listed(grid)}" for run, grid in grids.items()]
            rule = f"averages over them differ by run; restrict runs to one grid, or group by `{column}`"
            yield f"runs differ in {what} ({'; '.join(texts)}): {rule}"


def _grid(candidates: pd.DataFrame, column: str) -> tuple[Any, ...]:
    """The values of a column that merges have, in order; of `settings`, those of paths and planes."""
    from analysis.rows.select import POINTS

    rows = candidates[candidates["n_members"] > 1]
    rows = rows[rows["method"].isin(POINTS)] if column == "settings" else rows
    return tuple(sorted(rows[column].dropna().unique()))


def _listed(grid: Sequence[Any]) -> str:
    """Some values as text."""
    texts = [f"{value:g}" if isinstance(value, float) else str(value) for value in grid[:MOST_LISTED]]
    more = len(grid) - MOST_LISTED
    return ", ".join([*texts, *([f"and {more} more"] if more > 0 else [])]) or "none"


def _one_frame(frames: dict[str, pd.DataFrame], name: str, names: Names, warnings: list[str]) -> pd.DataFrame:
    """The rows of all runs as one frame with the column `run`, one row per key."""
    import pandas as pd

    from analysis.rows.groups import concat_all
    from sweep.storage.columns import KEYS

    runs = pd.CategoricalDtype(pd.Index(sorted(frames), dtype=object))
    for run in frames:
        rows = frames[run].assign(run=pd.Categorical([run], dtype=runs).repeat(len(frames[run])))
        if "population" in rows:
            rows["population"] = rows["population"].astype(object).map(names[run]).astype("category")
        frames[run] = rows
    found = concat_all(list(frames.values()))
    key = KEYS[name]
    copies = int(found.duplicated(key).sum())
    if not copies:
        return found
    different = _different(found, key)
    note = f", {different} of them with another accuracy" if different else ""
    warnings.append(f"{name}: {copies} rows that are in several runs were read once, from the first run{note}")
    if "status" in found:
        found = found.iloc[(found["status"].astype(object) != "ok").to_numpy().argsort(kind="stable")]
    return found.drop_duplicates(key).sort_index().reset_index(drop=True)


def _different(rows: pd.DataFrame, key: list[str]) -> int:
    """Keys whose rows that are `ok` have several accuracies; 0 for tables without accuracy."""
    if "accuracy" not in rows:
        return 0
    repeated = rows[rows.duplicated(key, keep=False) & (rows["status"].astype(object) == "ok")]
    return int((repeated.groupby(key, observed=True)["accuracy"].nunique() > 1).sum())
