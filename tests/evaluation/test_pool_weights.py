"""Pools too large for memory: the same rows from a mapped file as from memory."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

from sweep.evaluation.block import BlockRunner
from sweep.evaluation.engine import make_engine
from sweep.evaluation.pool_weights import PoolWeights, load_pool_weights
from sweep.model.split import Batching
from sweep.plan.work import CandidateWork
from sweep.storage.files import StoreError
from sweep.storage.run_folder import RunFolder
from tests.helpers.engine import Trained, trained


@pytest.fixture(scope="module")
def pool() -> Trained:
    return trained("{mlp_bn: {hidden: [16]}}")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MERGE_SWEEP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "pools"


@pytest.fixture
def folder(pool: Trained, tmp_path: Path) -> RunFolder:
    found = RunFolder(tmp_path / "run")
    found.create({"schema_version": 1})
    assert pool.pool.start
    assert pool.start is not None
    for member, state in [*zip(pool.pool.members, pool.states, strict=True), (pool.pool.start, pool.start)]:
        found.weights_file(member.id).parent.mkdir(exist_ok=True)
        found.save_weights(member.id, state)
    return found


def weights(pool: Trained, folder: RunFolder, *, failures: tuple[int, ...] = (), bound: int = 0) -> PoolWeights:
    failed = {pool.pool.members[index].id: "its training failed" for index in failures}
    return load_pool_weights(folder, pool.pool, pool.dataset, failed, bound)


@pytest.mark.parametrize("failures", [(), (1,), (0, 2)])
def test_a_mapped_pool_holds_the_same(pool: Trained, folder: RunFolder, cache: Path, failures: tuple[int, ...]) -> None:
    here, there = (weights(pool, folder, failures=failures, bound=bound) for bound in (1 << 30, 0))
    assert (here.mapped_pool, isinstance(there.matrix, np.memmap)) == (None, True)
    assert np.array_equal(here.matrix, there.matrix)
    assert here.failed == there.failed == dict.fromkeys(failures, "its training failed")
    assert {name: value.tolist() for name, value in here.counters.items()} == there.counters
    assert [file.suffix for file in cache.iterdir()].count(".npy") == 1
    with pytest.raises(ValueError, match="read-only"):
        there.matrix[0] = 0


def test_rows_are_those_of_a_pool_in_memory(pool: Trained, folder: RunFolder, cache: Path) -> None:
    def rows(bound: int) -> list[tuple[object, ...]]:
        engine = make_engine(pool.pool, weights(pool, folder, bound=bound), pool.dataset, "cpu", Batching(128))
        made = BlockRunner(engine, pool.pool, "test", ("accuracy", "cross_entropy"))
        found = made.run(CandidateWork([(candidate, ("test",)) for candidate in pool.plan.candidates]))
        return [(row["candidate_id"], row["accuracy"], row["cross_entropy"]) for row in found.candidates]

    assert rows(0) == rows(1 << 30)


def test_a_mapped_pool_is_shipped_without_its_weights_and_made_anew_on_another_node(
    pool: Trained, folder: RunFolder, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = weights(pool, folder)
    shipped = pickle.dumps(sent)
    assert len(shipped) < sent.matrix.nbytes / 2
    monkeypatch.setenv("MERGE_SWEEP_CACHE", str(tmp_path / "of another node"))
    assert np.array_equal(pickle.loads(shipped).matrix, sent.matrix)
    assert len(list((tmp_path / "of another node" / "pools").glob("*.npy"))) == 1
    shutil.rmtree(folder.path)
    assert np.array_equal(pickle.loads(shipped).matrix, sent.matrix), "what is there is not made again"


def test_only_the_last_two_pools_stay(pool: Trained, folder: RunFolder, cache: Path) -> None:
    kept = [weights(pool, folder, failures=(index,)) for index in range(3)]
    assert len(list(cache.glob("*.npy"))) == 2
    assert all(np.array_equal(each.matrix[index], np.zeros(each.matrix.shape[1])) for index, each in enumerate(kept))
    assert np.array_equal(weights(pool, folder, failures=(0,)).matrix, kept[0].matrix)


def test_a_cache_that_cannot_be_written_is_reported(pool: Trained, folder: RunFolder, cache: Path) -> None:
    cache.parent.write_text("a file in the way", encoding="utf-8")
    with pytest.raises(StoreError, match="cannot keep the weights of a pool") as raised:
        weights(pool, folder)
    assert "MERGE_SWEEP_CACHE" in raised.value.hint
