"""One member from plan to record: weights, curve, row. It runs anywhere: no Ray here."""

from __future__ import annotations

import io
import math
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sweep.checkpoints import CheckpointError, read_checkpoint
from sweep.data import Dataset
from sweep.evaluate import DeviceSplit, measure, outputs, to_device
from sweep.files import StoreError, now, replace
from sweep.identity import canonical
from sweep.lineage import Member
from sweep.models import differences, draw_head, forward_flops, layout_of
from sweep.pools import new_model
from sweep.provenance import code_version, worker
from sweep.store import RunFolder
from sweep.train import Epoch, Trained, labelled, train

Row = dict[str, Any]


def train_member(
    member: Member, sweep: str, dataset: Dataset, folder: RunFolder, device: str, *, checkpoint_seconds: float = 30.0
) -> None:
    """Train a member here and write it down: weights, curve, and last the row that says it is done.

    Any fault of the training is its row's outcome; a lack of memory or storage is raised, for it may pass.
    """
    begun, cpu, described = time.perf_counter(), time.process_time(), describe(member, sweep)
    partial = Partial(folder.weights_file(member.id).with_suffix(".partial"), torch.device(device), checkpoint_seconds)
    try:
        trained = _trained(member, dataset, folder, torch.device(device), partial)
    except (OSError, StoreError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # a user's architecture may raise anything
        fail(member, sweep, folder, f"{type(error).__name__}: {error}")
        return
    digest, size = folder.save_weights(member.id, trained.state)
    seconds = time.perf_counter() - begun
    name = "cpu" if device == "cpu" else torch.cuda.get_device_name()
    row = {
        "n_parameters": trained.n_parameters,
        "forward_flops": trained.forward_flops,
        "weights_file": f"members/{member.id}.safetensors",
        "weights_sha256": digest,
        "weights_bytes": size,
        "kept_epoch": trained.kept.epoch,
        "validation_accuracy": trained.kept.validation_accuracy,
        "validation_cross_entropy": trained.kept.validation_cross_entropy,
        "train_seconds": seconds,
        "device": name,
        "status": "ok",
    }
    if trained.curve:
        folder.append("curves", member.id, [described | asdict(epoch) for epoch in trained.curve])
    folder.append("tasks", member.id, [_cost(member, seconds, time.process_time() - cpu)])
    folder.append("members", member.id, [described | row])
    partial.file.unlink(missing_ok=True)


def bring_member(member: Member, sweep: str, dataset: Dataset, folder: RunFolder) -> None:
    """Take a model that was trained elsewhere into the run folder; what is wrong with it is its row's outcome."""
    assert member.file is not None
    model = new_model(member, dataset)
    layout = layout_of(model, len(dataset.classes))
    try:
        state = read_checkpoint(member.file)
    except CheckpointError as error:
        return fail(member, sweep, folder, str(error))
    problems = differences(state, layout)
    if problems:
        name = member.population.architecture.name
        return fail(member, sweep, folder, f"{member.file} does not fit {name}: {'; '.join(problems[:3])}")
    digest, size = folder.save_weights(member.id, state)
    row = {
        "n_parameters": layout.n_parameters,
        "forward_flops": forward_flops(model, torch.zeros(1, dataset.channels, dataset.size, dataset.size)),
        "weights_file": f"members/{member.id}.safetensors",
        "weights_sha256": digest,
        "weights_bytes": size,
        "status": "ok",
    }
    folder.append("members", member.id, [describe(member, sweep) | row])
    return None


class Partial:
    """A training that is not done yet, as a file beside the weights, written anew every so many seconds."""

    def __init__(self, file: Path, device: torch.device, every: float) -> None:
        self.file, self.device, self.every = file, device, every
        self.kept = time.monotonic()

    def recall(self) -> dict[str, Any] | None:
        """What was kept last; a damaged file counts as none, for the training then begins anew."""
        try:
            state: dict[str, Any] = torch.load(self.file, map_location=self.device, weights_only=True)
        except (MemoryError, torch.OutOfMemoryError):
            raise
        except Exception:  # torch answers damage with errors of many kinds
            return None
        return state

    def keep(self, state: Callable[[], dict[str, Any]]) -> None:
        """Write the state, unless that was done a moment ago."""
        if time.monotonic() - self.kept >= self.every:
            content = io.BytesIO()
            torch.save(state(), content)
            replace(self.file, content.getvalue())
            self.kept = time.monotonic()


def _trained(member: Member, dataset: Dataset, folder: RunFolder, device: torch.device, partial: Partial) -> Trained:
    """The member's weights, from its pool's start where there is one."""
    model, recipe, epochs = new_model(member, dataset), member.population.recipe, member.epochs
    if member.start_id:
        digest = folder.digests().get(member.start_id)
        model.load_state_dict(folder.load_weights(member.start_id, digest))
        if member.population.own_heads:
            draw_head(model, len(dataset.classes), member.init_seed)
    names = ("train", "validation") if epochs else ("validation",)
    splits = {name: to_device(dataset, name, device) for name in names}
    if not epochs:
        return _untrained(model.to(device), splits["validation"])
    splits["train"] = labelled(splits["train"], recipe, member.pool_id)
    return train(model.to(device), splits, recipe, member.order_seed, epochs=epochs, memory=partial)


def _untrained(model: nn.Module, validation: DeviceSplit) -> Trained:
    """A pretrained start as it was found, and how it does on the validation split."""
    begun = time.perf_counter()
    scores = measure(outputs(model, validation, 256).logits, validation.labels, ("accuracy", "cross_entropy"))
    seconds = time.perf_counter() - begun
    found = Epoch(0, 0.0, math.nan, scores["accuracy"], scores["cross_entropy"], seconds)
    count, flops = sum(p.numel() for p in model.parameters()), forward_flops(model, next(validation.batches(1)))
    return Trained(model.state_dict(), found, (), count, flops)


def fail(member: Member, sweep: str, folder: RunFolder, cause: str) -> None:
    """Write down that a member has no weights, and why."""
    folder.append("members", member.id, [describe(member, sweep) | {"status": "failed", "error": cause}])


def describe(member: Member, sweep: str) -> Row:
    """The columns that say which member a row is about."""
    population = member.population
    return {
        "member_id": member.id,
        "role": member.role,
        "sweep": sweep,
        "population": population.name,
        "pool_id": member.pool_id,
        "pool": member.pool,
        "architecture": population.architecture.name,
        "dataset": population.dataset.name,
        "start": population.start,
        "member_index": member.index,
        "start_id": member.start_id,
        "architecture_settings": population.architecture.settings_json,
        "dataset_settings": population.dataset.settings_json,
        "training": canonical(population.recipe.model_dump(mode="json")),
        "init_seed": member.init_seed,
        "order_seed": member.order_seed,
        "created_at": now(),
        "code_version": code_version(),
    }


def _cost(member: Member, seconds: float, cpu_seconds: float) -> Row:
    """What the training cost."""
    task = {"task_id": member.id, "kind": "member", "pool_id": member.pool_id, "rows": 1}
    return task | {"seconds": seconds, "cpu_seconds": cpu_seconds} | worker()
