"""The smallest differences that matter to the claims of `analysis`, by kind of quantity."""

from __future__ import annotations

from typing import Annotated, Any

from annotated_types import Gt, Lt

from sweep.core.settings import SettingsModel

Fraction = Annotated[float, Gt(0), Lt(1)]


class Margins(SettingsModel):
    """The smallest difference that matters to the claims of `analysis`, for each kind of quantity."""

    accuracy: Fraction = 0.005
    accuracy_per_model: Fraction = 0.001  # what one model more adds to the accuracy of a merge
    retention: Fraction = 0.05  # share of the accuracy above chance that is left, as under scaling
    correlation: Fraction = 0.05
    slope: Fraction = 0.05  # change of a correlation per factor of ten


def as_margins(value: Any) -> Any:
    """A mapping by kind of quantity; a number is the margin of accuracy."""
    return value if isinstance(value, dict | Margins) else {"accuracy": value}


def shortest(margins: Margins) -> Any:
    """The margins as a configuration writes them: a number if only that of accuracy was chosen."""
    values = margins.model_dump()
    chosen = {name: value for name, value in values.items() if value != Margins.model_fields[name].default}
    return values if chosen.keys() - {"accuracy"} else margins.accuracy
