"""Trains or imports members and writes their weights, curves and rows to the run folder, without Ray."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import nn

from sweep.core.choice import PluginConfig
from sweep.core.dataset import Dataset
from sweep.core.ids import canonical_json
from sweep.core.provenance import code_version, now, worker_columns
from sweep.core.state_dict import nan_text
from sweep.core.weights import ParameterLayout
from sweep.model.build import build_member_model, reset_head
from sweep.model.flops import forward_flops
from sweep.model.forward import forward_split
from sweep.model.kind import Kind, network_kind
from sweep.model.layout import make_layout
from sweep.model.metrics import compute_metrics
from sweep.model.split import DeviceSplit, shuffle_labels, to_device
from sweep.plan.pools import Member, TrainingGroup
from sweep.storage.checkpoint_forms import read_checkpoint
from sweep.storage.files import StoreError, with_path
from sweep.storage.run_folder import RunFolder, failed_members
from sweep.training.checkpoint import DEFAULT_SAVE_TIMES, SaveTimes, TrainingCheckpoint, TrainingStoppedError
from sweep.training.history import VALIDATION_BATCHING, Epoch, TrainResult
from sweep.training.trainer import train
from sweep.training.vmap_trainer import train_vmapped

Row = dict[str, Any]


def train_group(
    group: TrainingGroup,
    sweep: str,
    dataset: Dataset,
    folder: RunFolder,
    device: str,
    *,
    save_times: SaveTimes = DEFAULT_SAVE_TIMES,
) -> int:
    """Train a group in this process, write its missing members, and return the number of failed members.

    Of each member the weights are written first, then the curve, and the row last. An error of the training is recorded
    in the row. A lack of memory or storage is raised, since a retry may succeed. Raises TrainingStoppedError
    with all members unwritten: the same call continues.
    """
    started_at = time.perf_counter()
    cpu_started_at = time.process_time()
    partial = TrainingCheckpoint(
        folder.weights_file(group.id).with_suffix(".partial"), torch.device(device), save_times
    )
    try:
        results = _train_all(group.members, dataset, folder, torch.device(device), partial)
    except (TrainingStoppedError, OSError, StoreError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # a user's architecture may raise anything
        results = [error] * len(group.members)
    count = len(group.members)
    share = TimeShare((time.perf_counter() - started_at) / count, (time.process_time() - cpu_started_at) / count)
    for member, result in zip(group.members, results, strict=True):
        # The row exists if an earlier process wrote it and then died.
        if member not in group.missing or folder.part_file("members", member.id).exists():
            continue
        if isinstance(result, Exception):
            record_failure(member, sweep, folder, f"{type(result).__name__}: {result}")
        else:
            _write(member, result, sweep, folder, device, share)
    partial.file.unlink(missing_ok=True)
    return sum(isinstance(result, Exception) for result in results)


class TimeShare(NamedTuple):
    """The time of one member: the time of its group divided by the number of members."""

    seconds: float
    cpu_seconds: float


def _write(member: Member, trained: TrainResult, sweep: str, folder: RunFolder, device: str, share: TimeShare) -> None:
    """Write the weights, the curve, the task and the row of a trained member."""
    columns = member_columns(member, sweep)
    digest, size = folder.save_weights(member.id, trained.state)
    row = {
        "architecture_kind": _stated_kind(member) or trained.kind,
        "n_parameters": trained.n_parameters,
        "forward_flops": trained.forward_flops,
        "weights_file": f"members/{member.id}.safetensors",
        "weights_sha256": digest,
        "weights_bytes": size,
        "kept_epoch": trained.best.epoch,
        "validation_accuracy": trained.best.validation_accuracy,
        "validation_cross_entropy": trained.best.validation_cross_entropy,
        "train_seconds": share.seconds,
        "device": "cpu" if device == "cpu" else torch.cuda.get_device_name(),
        "status": "ok",
    }
    if trained.curve:
        folder.append("curves", member.id, [columns | asdict(epoch) for epoch in trained.curve])
    task = {"task_id": member.id, "kind": "member", "pool_id": member.pool_id, "rows": 1}
    folder.append("tasks", member.id, [task | share._asdict() | worker_columns(device)])
    folder.append("members", member.id, [columns | row])


def import_member(member: Member, sweep: str, dataset: Dataset, folder: RunFolder) -> None:
    """Copy an external checkpoint into the run folder, or record why it cannot be used."""
    assert member.file is not None
    network = _measure_network(member.population.architecture, dataset.shape)
    layout = network.layout
    try:
        found = read_checkpoint(member.file, layout, member.population.weights)
    except Exception as error:  # whatever is wrong with one file fails this member alone
        return record_failure(member, sweep, folder, with_path(member.file, error))
    if found.mismatches:
        name = member.population.architecture.name
        return record_failure(member, sweep, folder, f"{member.file} does not fit {name}: {found.mismatches}")
    problem = nan_text(found.state, layout)
    if problem:
        return record_failure(member, sweep, folder, f"{member.file}: {problem}")
    digest, size = folder.save_weights(member.id, found.state)
    row = {
        "architecture_kind": _stated_kind(member) or network.kind,
        "n_parameters": layout.n_parameters,
        "forward_flops": network.forward_flops,
        "weights_file": f"members/{member.id}.safetensors",
        "weights_sha256": digest,
        "weights_bytes": size,
        "status": "ok",
    }
    folder.append("members", member.id, [member_columns(member, sweep) | row])
    return None


class NetworkInfo(NamedTuple):
    """What all models of an architecture have in common on a data set."""

    layout: ParameterLayout
    forward_flops: int | None  # per example
    kind: Kind | None


@lru_cache(maxsize=16)
def _measure_network(architecture: PluginConfig, shape: tuple[int, int, int]) -> NetworkInfo:
    """Build a network for (classes, channels, size) once, and not for each of its checkpoints."""
    classes, channels, size = shape
    model = build_member_model(architecture, shape, 0)
    images = torch.zeros(1, channels, size, size)
    return NetworkInfo(make_layout(model, classes), forward_flops(model, images), network_kind(model, images))


def _stated_kind(member: Member) -> str | None:
    """The kind that the file of a member's architecture states as `KIND`, if it does."""
    stated: str | None = member.population.architecture.plugin.constant("KIND")
    return stated


def _train_all(
    members: Sequence[Member], dataset: Dataset, folder: RunFolder, device: torch.device, partial: TrainingCheckpoint
) -> Sequence[TrainResult | Exception]:
    """Train members at once, resuming from `partial`; a member's result is an exception if its training failed."""
    recipe = members[0].recipe
    epochs = members[0].epochs
    models = [_initial_model(member, dataset, folder).to(device) for member in members]
    names = ("train", "validation") if epochs else ("validation",)
    splits = {name: to_device(dataset, name, device) for name in names}
    if not epochs:
        return [_evaluate_pretrained(model, splits["validation"]) for model in models]
    if recipe.shuffle_labels:
        splits["train"] = shuffle_labels(splits["train"], members[0].pool_id)
    seeds = [member.order_seed for member in members]
    new = members[0].role == "member" and members[0].population.new_heads
    if len(models) == 1:
        return [train(models[0], splits, recipe, seeds[0], epochs=epochs, has_new_head=new, checkpointer=partial)]
    return train_vmapped(models, splits, recipe, seeds, epochs=epochs, has_new_heads=new, checkpointer=partial)


def _initial_model(member: Member, dataset: Dataset, folder: RunFolder) -> nn.Module:
    """The untrained model of a member, with the weights of its pool's start if there is one."""
    model = build_member_model(member.population.architecture, dataset.shape, member.init_seed)
    if member.start_id:
        digest = folder.weight_hash(member.start_id)
        model.load_state_dict(folder.load_weights(member.start_id, digest))
        if member.population.new_heads:
            reset_head(model, len(dataset.classes), member.init_seed)
    return model


def _evaluate_pretrained(model: nn.Module, validation: DeviceSplit) -> TrainResult:
    """The unchanged weights of a pretrained start, with its scores on the validation split."""
    started_at = time.perf_counter()
    scores = compute_metrics(
        forward_split(model, validation, VALIDATION_BATCHING).logits, validation.labels, ("accuracy", "cross_entropy")
    )
    seconds = time.perf_counter() - started_at
    epoch = Epoch(0, 0.0, math.nan, scores["accuracy"], scores["cross_entropy"], seconds)
    count = sum(p.numel() for p in model.parameters())
    images = next(validation.batches(1))
    return TrainResult(model.state_dict(), epoch, (), count, forward_flops(model, images), network_kind(model, images))


def record_failure(member: Member, sweep: str, folder: RunFolder, cause: str) -> None:
    """Write the row of a failed member, with the cause."""
    folder.append("members", member.id, [member_columns(member, sweep) | {"status": "failed", "error": cause}])


def record_failed_starts(members: Sequence[Member], sweep: str, folder: RunFolder) -> list[Member]:
    """Record each member whose start failed as failed, and return the other members."""
    failures = failed_members(folder)
    for member in members:
        if member.start_id in failures:
            record_failure(member, sweep, folder, f"its start failed: {failures[member.start_id]}")
    return [member for member in members if member.start_id not in failures]


def member_columns(member: Member, sweep: str) -> Row:
    """The columns that identify a member and its settings."""
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
        "training": canonical_json(population.recipe.recorded),
        "init_seed": member.init_seed,
        "order_seed": member.order_seed,
        "created_at": now(),
        "code_version": code_version(),
    }
