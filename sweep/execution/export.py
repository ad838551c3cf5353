"""Exports a candidate in weight space as a checkpoint, with a model card in Markdown."""

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
from sweep.status.state import load_run_state
from sweep.storage.files import create_atomic
from sweep.storage.run_folder import RunFolder

_SUFFIXES = (".safetensors", ".pth", ".pt")


def export(sweep: Sweep, prefix: str, target: Path) -> tuple[Path, Path]:
    """Write a candidate's state dict and, beside it, its model card; return both paths.

    Raises PlanError for a candidate that is unknown, averages outputs or has a failed member, and for an existing file.
    """
    state = load_run_state(sweep)
    plan = state.plan
    candidate = plan.candidate(prefix)
    card = target.with_suffix(".md")
    _check(candidate, target, card)
    engine = local_engine(state, plan.pool_of[candidate.pool_id])
    failures = [
        f"member {index}: {engine.pool.failed[index]}" for index in candidate.subset if index in engine.pool.failed
    ]
    if failures:
        raise PlanError(f"{candidate.id} has no weights: {'; '.join(failures)}")
    weights = merged_model(engine, candidate).state_dict()
    for file, content in (
        (target, _serialize(weights, target)),
        (card, _card(sweep, plan, candidate, target).encode()),
    ):
        if not create_atomic(file.absolute(), content):
            raise PlanError(f"{file} is there already", "give another name")
    return target, card


def _check(candidate: Candidate, target: Path, card: Path) -> None:
    """Raise PlanError if the candidate cannot be exported or the target is unusable."""
    if candidate.method.space != "weights":
        message = f"`{candidate.method.name}` averages {candidate.method.space}: it has no weights of its own"
        raise PlanError(message, "export a candidate in weight space, such as a uniform_soup")
    if target.suffix not in _SUFFIXES:
        raise PlanError(f"{target} is none of {', '.join(_SUFFIXES)}", "for example --to soup.safetensors")
    existing = next((file for file in (target, card) if file.exists()), None)
    if existing:
        raise PlanError(f"{existing} is there already", "give another name")


def _serialize(state: dict[str, torch.Tensor], target: Path) -> bytes:
    """Serialize the state dict in the format that the suffix of `target` names."""
    if target.suffix == ".safetensors":
        from sweep.storage.checkpoints import tensors_to_bytes

        return tensors_to_bytes(state)
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def _card(sweep: Sweep, plan: Plan, candidate: Candidate, target: Path) -> str:
    """The model card in Markdown: how the weights were made, and their metrics."""
    pool = plan.pool_of[candidate.pool_id]
    population = pool.population
    members = "\n".join(f"- member {index}: {pool.members[index].id}" for index in candidate.subset)
    rows = RunFolder(sweep.folder).read("candidates", candidate_id=candidate.id).to_pylist()
    metrics = "\n".join(f"- {row['split']}: {_metrics_text(row)}" for row in rows) or "- not evaluated yet"
    properties = {
        "method": _plugin_text(candidate.method),
        "alignment": _plugin_text(candidate.alignment),
        "scaling": _plugin_text(candidate.scaling),
        "repair": _plugin_text(candidate.repair),
        **({"protocol": candidate.protocol.name} if candidate.protocol.switches else {}),
        "architecture": _plugin_text(population.architecture),
        "data set": _plugin_text(population.dataset),
        "start": population.start,
        "candidate": candidate.id,
        "sweep": f"{sweep.name}, merge-sweep {code_version()}",
    }
    table = "\n".join(f"| {key} | {_cell(value)} |" for key, value in properties.items())
    header = f"# {target.stem}\n\nMerged from {len(candidate.subset)} models.\n\n| | |\n|---|---|\n{table}\n"
    return f"{header}\n## Members\n\n{members}\n\n## Measured\n\n{metrics}\n"


def _cell(text: str) -> str:
    """A text for a cell of a table in Markdown, where `|` would end the cell, in code as well."""
    return " ".join(text.replace("|", "\\|").split())


def _plugin_text(config: PluginConfig) -> str:
    return f"`{config.name}` `{config.settings_json}`" if config.settings else f"`{config.name}`"


def _metrics_text(row: dict[str, Any]) -> str:
    """Accuracy and cross-entropy, or the status and the error of a row without them."""
    if row["status"] != "ok":
        return f"{row['status']}: {row['error']}"
    return (
        f"accuracy {row['accuracy']:.4f}, cross-entropy {row['cross_entropy']:.4f} nats, {row['n_examples']} examples"
    )
