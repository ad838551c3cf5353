"""Members from plan to record: weights, curve, row. It runs anywhere: no Ray here."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import torch
from torch import nn

from sweep.core.dataset import Dataset
from sweep.core.ids import canonical
from sweep.core.provenance import code_version, now, worker
from sweep.model.build import build_member_model, draw_head
from sweep.model.flops import forward_flops
from sweep.model.forward import outputs
from sweep.model.layout import differences, layout_of
from sweep.model.metrics import measure
from sweep.model.split import DeviceSplit, shuffle_labels, to_device
from sweep.plan.pools import Group, Member
from sweep.storage.checkpoints import CheckpointError, read_checkpoint
from sweep.storage.files import StoreError
from sweep.storage.run_folder import RunFolder
from sweep.training.checkpoint import Partial
from sweep.training.history import Epoch, Trained
from sweep.training.trainer import AT_ONCE, train
from sweep.training.vmap_trainer import train_together

Row = dict[str, Any]


def train_group(
    group: Group, sweep: str, dataset: Dataset, folder: RunFolder, device: str, *, checkpoint_seconds: float = 30.0
) -> None:
    """Train a group here and write its missing members down: weights, curve, and last the row that says it is done.

    Any fault of a training is its row's outcome; a lack of memory or storage is raised, for it may pass.
    """
    begun, cpu = time.perf_counter(), time.process_time()
    partial = Partial(folder.weights_file(group.id).with_suffix(".partial"), torch.device(device), checkpoint_seconds)
    try:
        results = _trained(group.members, dataset, folder, torch.device(device), partial)
    except (OSError, StoreError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # a user's architecture may raise anything
        results = [error] * len(group.members)
    count = len(group.members)
    share = _Share((time.perf_counter() - begun) / count, (time.process_time() - cpu) / count)
    for member, result in zip(group.members, results, strict=True):
        if member not in group.missing or folder.part("members", member.id).exists():  # by a process that then died
            continue
        if isinstance(result, Exception):
            fail(member, sweep, folder, f"{type(result).__name__}: {result}")
        else:
            _write(member, result, sweep, folder, device, share)
    partial.file.unlink(missing_ok=True)


class _Share(NamedTuple):
    """What of a training's time is a member's."""

    seconds: float
    cpu_seconds: float


def _write(member: Member, trained: Trained, sweep: str, folder: RunFolder, device: str, share: _Share) -> None:
    """Write a member down."""
    described, (digest, size) = describe(member, sweep), folder.save_weights(member.id, trained.state)
    row = {
        "n_parameters": trained.n_parameters,
        "forward_flops": trained.forward_flops,
        "weights_file": f"members/{member.id}.safetensors",
        "weights_sha256": digest,
        "weights_bytes": size,
        "kept_epoch": trained.kept.epoch,
        "validation_accuracy": trained.kept.validation_accuracy,
        "validation_cross_entropy": trained.kept.validation_cross_entropy,
        "train_seconds": share.seconds,
        "device": "cpu" if device == "cpu" else torch.cuda.get_device_name(),
        "status": "ok",
    }
    if trained.curve:
        folder.append("curves", member.id, [described | asdict(epoch) for epoch in trained.curve])
    task = {"task_id": member.id, "kind": "member", "pool_id": member.pool_id, "rows": 1}
    folder.append("tasks", member.id, [task | share._asdict() | worker()])
    folder.append("members", member.id, [described | row])


def bring_member(member: Member, sweep: str, dataset: Dataset, folder: RunFolder) -> None:
    """Take a model that was trained elsewhere into the run folder; what is wrong with it is its row's outcome."""
    assert member.file is not None
    model = build_member_model(member.population.architecture, dataset.shape, member.init_seed)
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


def _trained(
    members: Sequence[Member], dataset: Dataset, folder: RunFolder, device: torch.device, partial: Partial
) -> Sequence[Trained | Exception]:
    """The weights of members that are trained at once, or why one has none; `partial` is where they go on from."""
    recipe, epochs = members[0].population.recipe, members[0].epochs
    models = [_begun(member, dataset, folder).to(device) for member in members]
    names = ("train", "validation") if epochs else ("validation",)
    splits = {name: to_device(dataset, name, device) for name in names}
    if not epochs:
        return [_untrained(model, splits["validation"]) for model in models]
    if recipe.shuffle_labels:
        splits["train"] = shuffle_labels(splits["train"], members[0].pool_id)
    seeds = [member.order_seed for member in members]
    if len(models) == 1:
        return [train(models[0], splits, recipe, seeds[0], epochs=epochs, memory=partial)]
    return train_together(models, splits, recipe, seeds, epochs=epochs, memory=partial)


def _begun(member: Member, dataset: Dataset, folder: RunFolder) -> nn.Module:
    """The model that a member begins as: from its pool's start where there is one."""
    model = build_member_model(member.population.architecture, dataset.shape, member.init_seed)
    if member.start_id:
        digest = folder.digests().get(member.start_id)
        model.load_state_dict(folder.load_weights(member.start_id, digest))
        if member.population.own_heads:
            draw_head(model, len(dataset.classes), member.init_seed)
    return model


def _untrained(model: nn.Module, validation: DeviceSplit) -> Trained:
    """A pretrained start as it was found, and how it does on the validation split."""
    begun = time.perf_counter()
    scores = measure(outputs(model, validation, AT_ONCE).logits, validation.labels, ("accuracy", "cross_entropy"))
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
