"""Templates of linear classifiers as images, beside the means of their classes."""

from __future__ import annotations

from typing import Any

import pandas as pd

from analysis.core.errors import NothingToDrawError
from analysis.display import style
from analysis.figures._images import label, pictures, scale_of, strip
from analysis.rows.select import named

TITLE = "Inside: templates"

FAMILY = ["architecture", "dataset", "start"]


def templates(templates: pd.DataFrame) -> style.Plot:
    """Templates of linear classifiers beside the mean images of their classes, each minus the mean over all classes.

    One image per class: the weights of the first member of the first pool and of merges whose first member it is, for
    the smallest and the largest weight decay. This is an example from one pool; the statistics use all pools. Red is
    above zero, blue below. Means share one scale, and so do all templates of true labels at one weight decay, so that
    members and soups appear at their true size and sign; the value of the strongest color is written at the right.
    Templates of shuffled labels have their own scale and are shown below the means of those labels. Published mixup
    mixes the templates of a trained model; mixup in training is shown separately.
    """
    rows = templates[templates["template"].notna()] if len(templates) else templates
    if rows.empty:
        raise NothingToDrawError("templates", "no images of templates")
    strips = [strip for _, family in rows.groupby(FAMILY, observed=True) for strip in _strips(family)]
    figure, axes = style.grid(len(strips), 1, height=0.62)
    for one, panel in zip(strips, axes[:, 0], strict=True):
        strip(panel, one["images"], one["scale"], one["names"] if one is strips[-1] else ())
        label(panel, one["text"], one["scale"])
        if one["head"]:
            style.title(panel, one["head"])
    axes[-1, 0].set_xlabel("class")
    columns = ["population", "text", "scale", "weight_decay", "mixup", "labels", "method", "n_members"]
    return style.Plot(figure, pd.DataFrame(strips)[columns], f"{style.pools(templates)} Images are from one pool.")


def _strips(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """The strips of one kind of network: means of true labels, then the smallest and the largest weight decay."""
    doses = sorted(set(rows["weight_decay"].dropna()))
    shown = list(dict.fromkeys([doses[0], doses[-1]])) if doses else []
    true = rows[rows["labels"] == "true"]
    found = [_means(true, "class means")] if len(true) else []
    for dose in shown or [None]:
        found += _block(rows if dose is None else rows[rows["weight_decay"] == dose])
    names = sorted(set(rows["population"]))
    found[0]["head"] = names[0] if len(names) == 1 else style.recipe(rows).rpartition(" · ")[0]
    return found


def _means(rows: pd.DataFrame, text: str) -> dict[str, Any]:
    """The class means; all models trained on the same labels share them."""
    first = rows[rows["model_id"] == rows["model_id"].iloc[0]].sort_values("template_class")
    images = [pictures(row.mean_image, int(row.channels)) for row in first.itertuples()]
    return _strip(first, images, text, scale_of(images))


def _block(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """The models of one weight decay on one scale: members, merges, mixup, and shuffled labels with their means."""
    models = [own.sort_values("template_class") for _, own in rows.groupby("model_id", observed=True)]
    models = sorted((own for own in models if _is_shown(own.iloc[0])), key=lambda own: _order(own.iloc[0]))
    largest = max((own["n_members"].iloc[0] for own in models), default=1)
    models = [own for own in models if own["n_members"].iloc[0] in (1, largest)]
    images = [[pictures(row.template, int(row.channels)) for row in own.itertuples()] for own in models]
    true = [drawn for own, drawn in zip(models, images, strict=True) if own["labels"].iloc[0] == "true"]
    scale = scale_of([image for drawn in true for image in drawn])
    found = []
    for own, drawn in zip(models, images, strict=True):
        control = own["labels"].iloc[0] != "true"
        found += [_means(own, "means of shuffled labels")] if control else []
        found.append(_strip(own, drawn, _text(own.iloc[0]), scale_of(drawn) if control else scale))
    return found


def _is_shown(row: Any) -> bool:
    """Whether a model is shown: of merges, only those of models trained on true labels without mixup."""
    plain = row["labels"] == "true" and not row["mixup"] > 0
    return row["alignment"] == row["repair"] == "none" and (plain or row["method"] == "single")


def _order(row: Any) -> tuple[Any, ...]:
    """Sort key: members, soups, other methods, mixup, then the control."""
    return (row["labels"] != "true", row["mixup"], row["method"] != "single", row["n_members"] == 1, row["method"])


def _text(row: Any) -> str:
    """The label of a strip of templates."""
    parts = ["member" if row["method"] == "single" else named(row["method"], row["settings"]).replace(" (", "\n(")]
    parts += [f"of {row['n_members']}"] if row["n_members"] > 1 else []
    parts += [f"mixup {row['mixup']:g}"] if row["mixup"] > 0 else []
    parts += ["shuffled labels"] if row["labels"] != "true" else []
    decay = f"\nweight decay {row['weight_decay']:g}" if pd.notna(row["weight_decay"]) else ""
    return ", ".join(parts).replace(", of", " of") + decay


def _strip(rows: pd.DataFrame, images: list[Any], text: str, scale: float) -> dict[str, Any]:
    """One strip: its images, its label, and the columns of the data table."""
    about = rows.iloc[0][["population", "weight_decay", "mixup", "labels", "method", "n_members"]].to_dict()
    names = [str(each) for each in rows["template_class"]]
    return {**about, "images": images, "text": text, "scale": scale, "names": names, "head": ""}
