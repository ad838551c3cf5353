"""A candidate in weight space as a checkpoint of its own, with a card of how it was made."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch

from sweep.config.spec import Sweep
from sweep.core.choice import PluginConfig
from sweep.core.provenance import code_version
from sweep.execution.local import local_engine, merged_model
from sweep.plan.candidates import Candidate
from sweep.plan.planner import Plan, PlanError
from sweep.status.state import load_state
from sweep.storage.files import create_atomic
from sweep.storage.run_folder import RunFolder

_SUFFIXES = (".safetensors", ".pth", ".pt")


def export(sweep: Sweep, prefix: str, target: Path) -> tuple[Path, Path]:
    """Write a candidate's state dict, under the names of its architecture, and its card beside it; both paths.

    Raises PlanError for a candidate that is unknown, averages outputs or has a failed member, and for an existing file.
    """
    plan = load_state(sweep).plan
    candidate = plan.candidate(prefix)
    card = target.with_suffix(".md")
    _check(candidate, target, card)
    bench = local_engine(sweep, plan.pool_of[candidate.pool_id])
    failures = [
        f"member {place}: {bench.pool.failed[place]}" for place in candidate.subset if place in bench.pool.failed
    ]
    if failures:
        raise PlanError(f"{candidate.id} has no weights: {'; '.join(failures)}")
    state = merged_model(bench, candidate).state_dict()
    for file, content in ((target, _content(state, target)), (card, _card(sweep, plan, candidate, target).encode())):
        if not create_atomic(file.absolute(), content):
            raise PlanError(f"{file} is there already", "give another name")
    return target, card


def _check(candidate: Candidate, target: Path, card: Path) -> None:
    """Raise PlanError for what cannot be exported, or not there."""
    if candidate.method.space != "weights":
        what = f"`{candidate.method.name}` averages {candidate.method.space}: it has no weights of its own"
        raise PlanError(what, "export a candidate in weight space, such as a uniform_soup")
    if target.suffix not in _SUFFIXES:
        raise PlanError(f"{target} is none of {', '.join(_SUFFIXES)}", "for example --to soup.safetensors")
    there = next((file for file in (target, card) if file.exists()), None)
    if there:
        raise PlanError(f"{there} is there already", "give another name")


def _content(state: dict[str, torch.Tensor], target: Path) -> bytes:
    """The state dict in the form that the name asks for."""
    if target.suffix == ".safetensors":
        from sweep.storage.checkpoints import tensors_to_bytes

        return tensors_to_bytes(state)
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def _card(sweep: Sweep, plan: Plan, candidate: Candidate, target: Path) -> str:
    """How the weights were made, and what they measure, in Markdown."""
    pool = plan.pool_of[candidate.pool_id]
    population = pool.population
    members = "\n".join(f"- member {place}: {pool.members[place].id}" for place in candidate.subset)
    rows = RunFolder(sweep.folder).read("candidates", candidate_id=candidate.id).to_pylist()
    measured = "\n".join(f"- {row['split']}: {_numbers(row)}" for row in rows) or "- not evaluated yet"
    lines = {
        "method": _written(candidate.method),
        "alignment": _written(candidate.alignment),
        "scaling": _written(candidate.scaling),
        "repair": _written(candidate.repair),
        **({"protocol": candidate.protocol.name} if candidate.protocol.switches else {}),
        "architecture": _written(population.architecture),
        "data set": _written(population.dataset),
        "start": population.start,
        "candidate": candidate.id,
        "sweep": f"{sweep.name}, merge-sweep {code_version()}",
    }
    table = "\n".join(f"| {key} | {value} |" for key, value in lines.items())
    about = f"# {target.stem}\n\nMerged from {len(candidate.subset)} models.\n\n| | |\n|---|---|\n{table}\n"
    return f"{about}\n## Members\n\n{members}\n\n## Measured\n\n{measured}\n"


def _written(choice: PluginConfig) -> str:
    return f"`{choice.name}` `{choice.settings_json}`" if choice.settings else f"`{choice.name}`"


def _numbers(row: dict[str, Any]) -> str:
    """Accuracy and cross-entropy, or why there are none."""
    if row["status"] != "ok":
        return f"{row['status']}: {row['error']}"
    return (
        f"accuracy {row['accuracy']:.4f}, cross-entropy {row['cross_entropy']:.4f} nats, {row['n_examples']} examples"
    )
