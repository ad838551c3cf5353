"""What to cite for a run: which names in its rows rest on which work. The works are in `citations.bib`."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd

from analysis.core import registry as catalogue
from analysis.rows.run import Run
from analysis.rows.select import METRICS
from sweep.storage.columns import KEYS

_PAPER, _SOUPS = "wang2024rethinking", "wortsman2022soups"
_ENSEMBLES = ("hansen1990ensembles", "lakshminarayanan2017ensembles")
_MEANS = ("student1908mean", "schuirmann1987comparison")
_DYADS = ("krackhardt1988predicting", "dekker2007sensitivity", "hu2025kinship", "kornblith2019similarity")
_RESNET, _VGG, _DENSENET = "he2016residual", "simonyan2015deep", "huang2017densely"

SYSTEM = (
    *(_PAPER, "moritz2018ray", "liaw2018tune", "zaharia2018mlflow"),
    *("paszke2019pytorch", "harris2020numpy", "virtanen2020scipy"),
)
FAMILIES = ("holm1979simple", "benjamini1995controlling")
"""For verdicts on several estimates at once."""

CITED: dict[str, dict[str, tuple[str, ...]]] = {
    "methods": {
        "single": (),
        "first_member": (),
        "uniform_soup": (_SOUPS,),
        "greedy_soup": (_SOUPS,),
        "greedy_halving": (_PAPER,),
        "greedy_indexed": (_PAPER,),
        "greedy_entering": (_PAPER,),
        "greedy_ensemble": (_PAPER,),
        "greedy_ensemble_unscaled": (_PAPER,),
        "interpolation": ("goodfellow2015qualitatively", "frankle2020linear"),
        "plane": ("garipov2018surfaces",),
        "published_mixup": (_PAPER,),
        "logit_average": _ENSEMBLES,
        "probability_average": _ENSEMBLES,
        "feature_average": (_PAPER,),
    },
    "alignments": {"none": (), "weight_matching": ("ainsworth2023git",)},
    "scalings": {"none": (), "magnify": (_PAPER,), "homogeneous": (), "noise": (), "norm_matched": ()},
    "repairs": {
        "none": (),
        "reset_bn": ("izmailov2018averaging", "jordan2023repair"),
        "rescale_activations": ("jordan2023repair",),
    },
    "metrics": {
        "accuracy": (),
        "cross_entropy": ("good1952rational",),
        "brier": ("brier1950verification",),
        "ece": ("naeini2015binning", "nixon2019calibration"),
    },
    "architectures": {
        **{"linear": (), "mlp": (_PAPER,), "mlp_bn": (_PAPER,), "cnn": (_PAPER,)},
        **dict.fromkeys(("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"), (_RESNET,)),
        **dict.fromkeys(("vgg11", "vgg13", "vgg16", "vgg19"), (_VGG,)),
        **dict.fromkeys(("densenet121", "densenet161", "densenet169", "densenet201"), (_DENSENET,)),
        **{"vit_b_16": ("dosovitskiy2021image",), "vit_tiny": ("steiner2022train", "wightman2019timm")},
        **{"deit_tiny": ("touvron2021training", "wightman2019timm")},
        **{"timm": ("wightman2019timm",), "torchvision": ()},
    },
    "datasets": {
        **{"arrays": (), "imagefolder": (), "synthetic": (), "digits": ("alpaydin1998digits",)},
        **dict.fromkeys(("cifar10", "cifar100"), ("krizhevsky2009learning",)),
        **{"mnist": ("lecun1998gradient",), "fashion_mnist": ("xiao2017fashion",)},
        **{"svhn": ("netzer2011reading",), "tiny_imagenet": ("le2015tiny",)},
    },
    "statistics": {
        "pool_means": ("student1908mean",),
        "paired_difference": (*_MEANS, "satterthwaite1946approximate"),
        "two_way_difference": (*_MEANS, "miller2024errorbars"),
        "path": ("frankle2020linear", *_MEANS),
        "path_split_half": ("frankle2020linear", "student1908mean"),
        "stages": (),
        "curve": ("student1908mean",),
        "power": ("student1908mean",),
        "scale_sensitivity": (_PAPER, "student1908mean"),
        "dominance": ("student1908mean",),
        "predict_gain": _DYADS,
        "layers": ("xu2024scope",),
        "patterns": (_PAPER,),
        "templates": (_PAPER, "zhang2017understanding"),
        "variance": ("rao1971minque",),
        "diversity": ("kuncheva2003diversity", "krogh1995ambiguity"),
        "calibration": ("guo2017calibration", "brocker2007reliability"),
        "pareto": (),
    },
}
"""Names by kind, and the entries that each rests on; none where it needs none."""

_COLUMNS = {
    "methods": "method",
    "alignments": "alignment",
    "scalings": "scaling",
    "repairs": "repair",
    "architectures": "architecture",
    "datasets": "dataset",
}


def used(run: Run) -> dict[str, list[str]]:
    """The names of each kind that the rows hold; statistics are those that have rows to work on."""
    rows, frames = run.candidates, (run.candidates, run.members)
    found = {kind: sorted(set().union(*(_names(one, column) for one in frames))) for kind, column in _COLUMNS.items()}
    other = {name for text in rows["other_metrics"].dropna().unique() for name in json.loads(text)}
    found["metrics"] = [name for name in METRICS if rows[name].notna().any()] + sorted(other)
    filled = {table for table in KEYS if run.has(table)}
    functions = {name: catalogue.get_plugin("statistics", name) for name in catalogue.list_plugins("statistics")}
    found["statistics"] = [name for name, one in functions.items() if set(catalogue.tables(one)) <= filled]
    return found


def _names(rows: pd.DataFrame, column: str) -> set[str]:
    """The names in a column, where there is one."""
    return set(rows[column].dropna().unique()) if column in rows else set()


def cite(run: Run) -> tuple[str, list[str]]:
    """BibTeX of what a run rests on, each entry under the names that use it, and the names without a known work."""
    reasons: dict[str, list[str]] = {key: ["this system"] for key in SYSTEM}
    unknown = []
    for kind, names in used(run).items():
        for name in names:
            if name not in CITED[kind]:
                unknown.append(f"{kind}/{name}")
            for key in CITED[kind].get(name, ()):
                reasons.setdefault(key, []).append(f"{kind}/{name}")
    for key in FAMILIES:
        reasons.setdefault(key, []).append("verdicts on several estimates")
    works = entries()
    return "\n".join(f"% {', '.join(why)}\n{works[key]}" for key, why in reasons.items()), unknown


def entries() -> dict[str, str]:
    """The entries of `citations.bib` by their keys, each with a line break at its end."""
    text = Path(__file__).with_suffix(".bib").read_text(encoding="utf-8")
    found = re.finditer(r"^@\w+\{([^,]+),\n.*?^\}\n", text, flags=re.DOTALL | re.MULTILINE)
    return {match[1]: match[0] for match in found}
