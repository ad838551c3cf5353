"""The rows of a run as `analysis` reads them: texts are categories, with the same results as plain texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analysis.core import registry as catalogue
from analysis.core.errors import AnalysisError
from analysis.rows.contrasts import estimate_over_pools
from analysis.rows.groups import concat_rows, group_ids
from analysis.rows.reader import frame
from analysis.rows.run import Run, load
from analysis.rows.select import add_labels, select_comparison, with_mean_member
from sweep.storage.columns import KEYS
from tests.helpers import rows
from tests.helpers.analysis_verbs import STATISTICS


class TestManyRows:
    """Texts of a run folder are read as categories: every result must equal that of plain texts."""

    def test_a_folder_holds_the_rows_that_were_written(self, run: Run) -> None:
        plain = rows.frame(rows.every_candidate()).sort_values(["candidate_id", "split"], ignore_index=True)
        found = run.candidates.astype(dict.fromkeys(["error", "other_metrics"], "str"))
        assert found["subset"].astype(str).tolist() == ["|".join(members) for members in plain["members"]]
        found = found.drop(columns="subset").astype(plain.dtypes.to_dict())
        for name in ("members", "member_indices"):
            assert [list(one) for one in found.pop(name)] == [list(one) for one in plain.pop(name)]
        # The folder has no plan, so that chance is unknown.
        added = ["chance", "chance_source", "architecture_kind", "training"]
        plain = plain.drop(columns=added, errors="ignore")
        found = found.drop(columns=added, errors="ignore")
        pd.testing.assert_frame_equal(found, plain, check_column_type=False)

    @pytest.mark.parametrize("name", STATISTICS)
    def test_every_statistic_says_the_same_of_categories_as_of_texts(self, name: str, run: Run) -> None:
        function = catalogue.get_plugin("statistics", name)
        tables = [run.table(table) for table in catalogue.tables(function)]
        found = function(*tables)
        pd.testing.assert_frame_equal(found, function(*map(plainly, tables)), check_dtype=False, rtol=1e-9)

    @pytest.mark.parametrize("name", catalogue.list_plugins("figures"))
    def test_every_figure_shows_the_same_of_categories_as_of_texts(self, name: str, run: Run) -> None:
        from analysis.display.draw import draw

        plain = Run(run.folder, run.info, run.config, {table: plainly(run.table(table)) for table in KEYS})
        found = draw(name, run).data
        meant = draw(name, plain).data
        pd.testing.assert_frame_equal(
            found.reset_index(drop=True), meant.reset_index(drop=True), check_dtype=False, check_categorical=False
        )

    def test_lists_and_texts_are_stored_once(self, run: Run) -> None:
        stored = {id(members) for members in run.candidates["members"]}
        assert len(stored) == run.candidates["subset"].nunique()
        assert run.candidates["method"].cat.categories.is_monotonic_increasing

    def test_only_planned_rows_are_read(self, tmp_path: Path) -> None:
        made = [rows.candidate(pool, (0,), "single") for pool in range(3)]
        folder = rows.write(tmp_path / "run", {"candidates": made}, {})
        ids = [row["candidate_id"] for row in made]
        pools = [row["pool_id"] for row in made]
        about = {"block_id": [b"a"] * 3, "method": ["single"] * 3}
        plan = pa.table({"candidate_id": ids, "pool_id": pools, "planned": [True, False, True], **about})
        pq.write_table(plan, folder / "plan.parquet")
        assert set(load(folder).candidates["candidate_id"]) == {ids[0], ids[2]}

    def test_rows_without_members_are_read(self, tmp_path: Path) -> None:
        made = [rows.candidate(0, (0,), "single"), rows.candidate(0, (1,), "single")]
        made[0] |= {"members": None, "member_indices": None}
        found, _ = frame(rows.write(tmp_path / "run", {"candidates": made}, {}), "candidates", KEYS["candidates"])
        assert sorted(map(str, found["members"])) == ["None", "['people-0-1']"]
        assert found["subset"].isna().sum() == 1

    def test_groups_are_those_of_pandas(self) -> None:
        random = np.random.default_rng(0)
        plain = pd.DataFrame({name: random.choice([*"abc", None], 200) for name in "xyz"})
        plain["number"] = random.choice([1.5, 0.5, np.nan], 200)
        for made in (plain, plain.astype({"x": "category", "y": "category"})):
            number, first = group_ids(made, list(made))
            meant = plain.groupby(list(plain), dropna=False, sort=True).ngroup().to_numpy()
            np.testing.assert_array_equal(number, meant)
            np.testing.assert_array_equal(first, np.unique(meant, return_index=True)[1])
        number, first = group_ids(plain, [])
        assert (number == 0).all()
        assert first.tolist() == [0]

    def test_many_columns_of_many_values_do_not_overflow(self) -> None:
        wide = pd.DataFrame({f"c{i}": np.random.default_rng(i).permutation(2000) for i in range(12)})
        twice = pd.concat([wide, wide], ignore_index=True)
        number, first = group_ids(twice, list(twice))
        assert (len(first), sorted(number[:2000])) == (2000, [*range(2000)])
        np.testing.assert_array_equal(number[:2000], number[2000:])

    def test_frames_with_other_categories_are_stacked_as_categories(self) -> None:
        one = pd.DataFrame({"x": pd.Categorical(["b", "d"]), "n": [1, 2]})
        both = concat_rows(one, pd.DataFrame({"n": [3, 4], "x": ["c", None]}))
        assert both["x"].cat.categories.tolist() == ["b", "c", "d"]
        assert both["x"].isna().tolist() == [False, False, False, True]

    def test_estimates_over_pools_are_plain_means(self) -> None:
        random = np.random.default_rng(1)
        values = pd.DataFrame({"group": random.choice([*"abc"], 400), "pool_id": random.choice([*"pqrs"], 400)})
        values = values.assign(value=random.normal(size=400), reason=random.choice(["", "", "lost"], 400))
        found = estimate_over_pools(values, ["group"], estimand="x").set_index("group")
        used = values[values["reason"] == ""]
        for group, one in used.groupby("group"):
            means = one.groupby("pool_id")["value"].mean()
            assert found.loc[group, "estimate"] == pytest.approx(means.mean(), rel=1e-12)
            assert found.loc[group, "se"] == pytest.approx(means.std() / 2, rel=1e-12)
            excluded = int((values["group"] == group).sum()) - len(one)
            assert found.loc[group, "warnings"] == (f"{excluded} rows left out: lost",)

    def test_no_bit_of_an_estimate_depends_on_the_order_of_rows(self) -> None:
        random = np.random.default_rng(2)
        values = pd.DataFrame({"group": "a", "pool_id": random.choice([*"pqrs"], 5000), "reason": ""})
        values = values.assign(value=random.normal(size=5000))
        one = estimate_over_pools(values, ["group"], estimand="x")
        pd.testing.assert_frame_equal(
            one, estimate_over_pools(values.sample(frac=1, random_state=1), ["group"], estimand="x")
        )
        assert one["estimate"].item() == estimate_over_pools(values[::-1], ["group"], estimand="x")["estimate"].item()

    def test_mean_members_are_made_once(self, run: Run) -> None:
        made = with_mean_member(select_comparison(run.candidates))
        assert with_mean_member(made) is made
        assert isinstance(made["label"].dtype, pd.CategoricalDtype)
        single = add_labels(run.candidates).query("label == 'single'").set_index("subset")["accuracy"]
        means = made[made["label"] == "mean_member"]
        meant = [single[list(members)].mean() for members in means["members"]]
        np.testing.assert_allclose(means["accuracy"], meant, rtol=1e-12)


@pytest.mark.parametrize(
    ("info", "command"),
    [
        (
            {"invocations": [{}, {"command": "sweep run 'my sweep.yaml' name=quick"}]},
            "sweep run 'my sweep.yaml' name=quick",
        ),
        ({"invocations": [{"command": "sweep run a.yaml"}, {"command": "sweep run b.yaml"}]}, "sweep run b.yaml"),
        ({"invocations": [{"command": "sweep.run"}]}, "sweep run FILE.yaml"),
        ({"invocations": [{}, None]}, "sweep run FILE.yaml"),
        ({"invocations": None}, "sweep run FILE.yaml"),
        ({}, "sweep run FILE.yaml"),
    ],
)
def test_a_folder_without_rows_names_the_command_that_its_run_json_recorded(
    info: dict[str, Any], command: str, tmp_path: Path
) -> None:
    folder = rows.write(tmp_path / "run", {}, info)
    with pytest.raises(AnalysisError, match="no rows yet") as error:
        load(folder)
    assert error.value.hint == f"run the sweep first: `{command}`"


def plainly(table: pd.DataFrame) -> pd.DataFrame:
    """A table with plain texts and without the columns that reading adds."""
    categories = [name for name, column in table.items() if isinstance(column.dtype, pd.CategoricalDtype)]
    return table.astype(dict.fromkeys(categories, "str")).drop(columns="subset", errors="ignore")
