"""Which populations the figures of a report show."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.report.page import shown_populations
from analysis.rows.run import Run
from tests.helpers import rows


def run_of(*names: tuple[str, str]) -> Run:
    """A run with one candidate of each population under a protocol."""
    made = [rows.candidate(0, (0,), "single", population=name, protocol=protocol) for name, protocol in names]
    return Run(Path("runs/made"), {}, "", {"candidates": rows.frame(made), "members": rows.frame([], "members")})


@pytest.mark.parametrize(
    ("most", "shown", "others"),
    [
        (1, ["bn", "bn (published_warmup)", "bn (published_warmup+shared_transform)"], ["cnn", "vit"]),
        (2, ["bn", "bn (published_warmup)", "bn (published_warmup+shared_transform)", "cnn"], ["vit"]),
        (None, ["bn", "bn (published_warmup)", "bn (published_warmup+shared_transform)", "cnn", "vit"], []),
    ],
)
def test_populations_trained_again_are_drawn_with_their_own_and_not_counted(
    most: int | None, shown: list[str], others: list[str]
) -> None:
    together = "published_warmup+shared_transform"
    run = run_of(
        ("bn", "correct"),
        ("bn (published_warmup)", "published_warmup"),
        (f"bn ({together})", together),
        ("cnn", "correct"),
        ("vit", "correct"),
    )
    assert shown_populations(run, most) == (shown, others)
