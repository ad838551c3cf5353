"""What a call of a run records of the claims that were declared, and whether a later change makes it a new call."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from analysis.core.registry import list_plugins
from sweep.config.document import parse
from sweep.config.loader import check
from sweep.config.margins import Margins
from sweep.config.spec import Sweep
from sweep.core.errors import UserError
from sweep.execution.invocation import is_settled, new_run_info, recorded
from sweep.storage.run_folder import RunFolder
from tests.helpers import ROOT
from tests.helpers.texts import again, checked, text

DECLARED = "pools_planned: 12\nclaims: [weights_or_logits, soup_is_ensemble]\nmargin: 0.01\n"


def call(folder: RunFolder, sweep: Sweep) -> dict[str, Any]:
    """The entry of one call that came to its end."""
    folder.create(new_run_info(sweep))
    with recorded(folder, sweep, "sweep run f.yaml", []):
        pass
    entry: dict[str, Any] = folder.run_info()["invocations"][-1]
    return entry


def test_declarations_are_no_part_of_the_id() -> None:
    plain = checked(text())
    declared = checked(text(DECLARED))
    assert declared.id == plain.id
    assert again(declared).settings == declared.settings
    margins = Margins().model_dump()
    assert plain.declared == {"margin": 0.005, "margins": margins, "pools_planned": None, "claims": None}


def test_a_call_records_the_declarations_and_pools(tmp_path: Path) -> None:
    entry = call(RunFolder(tmp_path / "run"), checked(text(DECLARED)))
    assert (entry["margin"], entry["pools_planned"]) == (0.01, 12)
    assert entry["claims"] == ["weights_or_logits", "soup_is_ensemble"]
    assert list(entry["pools"].values()) == [1]


@pytest.mark.parametrize("change", ["pools_planned: 12\n", "claims: [weights_or_logits]\n", "margin: 0.02\n"])
def test_a_changed_declaration_is_another_call(tmp_path: Path, change: str) -> None:
    folder = RunFolder(tmp_path / "run")
    call(folder, checked(text()))
    assert is_settled(folder, checked(text()))
    changed = checked(text(change))
    assert not is_settled(folder, changed)
    call(folder, changed)
    assert is_settled(folder, changed)


def test_a_call_of_an_earlier_version_is_settled(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    call(folder, checked(text()))
    info = folder.run_info()
    for name in ("pools_planned", "claims"):
        del info["invocations"][0][name]
    folder.write_run_info(info)
    assert is_settled(folder, checked(text()))


@pytest.mark.parametrize(
    ("extra", "what"),
    [
        ("claims: [Weights-or-logits]\n", "expected a name of `analysis ls`"),
        ("claims: [soup_is_ensemble, weights_or_logit]\n", r"claims\[1\]`: no `weights_or_logit` in claims"),
        ("claims: [weights_or_logit]\n", "did you mean `weights_or_logits`"),
        ("claims: []\n", "one or more values without repetition"),
        ("claims: [seeds_agree, seeds_agree]\n", "one or more values without repetition"),
        ("pools_planned: 0\n", "pools_planned"),
    ],
)
def test_a_wrong_declaration_is_named(extra: str, what: str) -> None:
    with pytest.raises(UserError, match=what):
        checked(text(extra))


def test_the_claims_that_can_be_declared_are_those_of_analysis() -> None:
    names = list_plugins("claims")
    assert checked(text(f"claims: [{', '.join(names)}]\n")).settings.claims == tuple(names)
    script = "import sys; from tests.helpers.texts import checked, text; checked(text('claims: [soup_is_ensemble]'));"
    script += "sys.exit('analysis' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False, timeout=60).returncode == 0


def test_a_run_folder_may_declare_claims_of_another_version() -> None:
    document = parse(text("claims: [of_yesterday]\n"), "sweep.yaml")
    assert check(document, accept_missing=True).settings.claims == ("of_yesterday",)
