"""Pairs of members against plain computations: distances, cosines, similarity of features."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from sweep.core.dataset import subset
from sweep.evaluation.block import BlockRunner
from sweep.evaluation.engine import PoolEngine
from sweep.evaluation.pairs import flatten_features, hsic, task_vectors
from sweep.evaluation.rows import failed_rows
from sweep.plan.work import MemberPair, MemberPairs
from sweep.status.pending_pairs import MeasuredPairs, pair_blocks
from sweep.storage.rows import BlockRows
from tests.helpers.engine import Trained, trained

CNN = "{cnn: {width: 4}}"


def measured(*pairs: tuple[str, str]) -> MeasuredPairs:
    """Pairs of member ids with a row."""
    first, second = (pa.chunked_array([[pair[side] for pair in pairs]], pa.string()) for side in (0, 1))
    return MeasuredPairs.from_columns(first, second)


def pair_rows(pool: Trained, engine: PoolEngine | None = None) -> list[dict[str, Any]]:
    """The rows of all pairs, as a block gives them."""
    (block,) = pair_blocks([pool.pool], (), measured()).values()
    return BlockRunner(engine or pool.engine(), pool.pool, "test", ("accuracy",)).run(block).pairs


def numbers(rows: list[dict[str, Any]]) -> list[list[float]]:
    keys = ("l2_distance", "cosine", "task_cosine", "task_pearson", "sign_agreement", "both_moved", "cka")
    return [[row[key] for key in keys] for row in rows]


def debiased_by_definition(x: np.ndarray, y: np.ndarray) -> float:
    """CKA from n × n matrices: Song et al. 2012, equation 5, with nothing centred beforehand."""

    def unbiased(a: np.ndarray, b: np.ndarray) -> float:
        n = len(a)
        k = a @ a.T
        m = b @ b.T
        np.fill_diagonal(k, 0)
        np.fill_diagonal(m, 0)
        ones = np.ones(n)
        middle = (ones @ k @ ones) * (ones @ m @ ones) / ((n - 1) * (n - 2))
        return float((np.trace(k @ m) + middle - 2 / (n - 2) * (ones @ k @ m @ ones)) / (n * (n - 3)))

    return unbiased(x, y) / np.sqrt(unbiased(x, x) * unbiased(y, y))


def biased(x: np.ndarray, y: np.ndarray) -> float:
    """CKA as it was first defined (arXiv 1905.00414)."""
    x = x - x.mean(0)
    y = y - y.mean(0)
    return float(np.square(x.T @ y).sum() / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y)))


def debiased(x: np.ndarray, y: np.ndarray) -> float:
    a, b = (flatten_features(torch.from_numpy(each)) for each in (x, y))
    return hsic(a, b) / (hsic(a, a) * hsic(b, b)) ** 0.5


@settings(deadline=None, max_examples=40)
@given(st.integers(4, 40), st.integers(1, 60), st.integers(1, 60), st.integers(0, 999))
def test_the_similarity_of_features_is_that_of_the_definition(n: int, p: int, q: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    x = random.standard_normal((n, p)) + 5
    y = random.standard_normal((n, q)) + np.resize(x[:, :1], (n, q)) - 3
    a, b = (flatten_features(torch.from_numpy(each)) for each in (x, y))
    assert a.shape[1] <= n
    if min(hsic(a, a), hsic(b, b)) > 1e-3:
        assert debiased(x, y) == pytest.approx(debiased_by_definition(x, y), rel=1e-7, abs=1e-9)


def test_unrelated_features_look_alike_only_to_the_biased_estimate() -> None:
    random = np.random.default_rng(0)
    both = [(random.standard_normal((100, 512)), random.standard_normal((100, 512))) for _ in range(40)]
    assert np.mean([biased(*each) for each in both]) == pytest.approx(0.83, abs=0.02)
    values = np.array([debiased(*each) for each in both])
    assert abs(values.mean()) < 2 * values.std(ddof=1) / np.sqrt(len(values))
    assert np.abs(values).max() < 0.1


def test_similarity_sees_through_rotation_scale_and_shift_and_not_through_chance() -> None:
    random = np.random.default_rng(1)
    x = random.standard_normal((50, 8))
    rotation = np.linalg.qr(random.standard_normal((8, 8)))[0]
    assert debiased(x, 3 * x @ rotation + 7) == pytest.approx(1, abs=1e-12)
    assert debiased(x, random.permutation(x)) < 0.3


@pytest.mark.parametrize("architecture", [CNN, "{mlp: {hidden: [16], dropout: 0}}"])
def test_pairs_are_what_a_plain_loop_gives(architecture: str) -> None:
    pool = trained(architecture)
    assert pool.start is not None
    part = pool.dataset.splits["validation"]
    split = pool.engine().split("validation")
    parameters = [name for name, _ in pool.model().named_parameters()]
    flat = [torch.cat([state[name].flatten() for name in parameters]).double() for state in (*pool.states, pool.start)]
    captured: list[np.ndarray] = []
    for state in pool.states:
        model = pool.model(state)
        head = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
        head.register_forward_pre_hook(lambda _, inputs: captured.append(inputs[0].numpy().astype(float)))
        with torch.no_grad():
            model(split.normalize(torch.from_numpy(part.images)))
    for row, (a, b) in zip(pair_rows(pool), itertools.combinations(range(3), 2), strict=True):
        assert (row["index_a"], row["index_b"]) == (a, b)
        assert (row["member_a"], row["member_b"]) == (pool.pool.members[a].id, pool.pool.members[b].id)
        start = flat[-1]
        assert row["l2_distance"] == pytest.approx(float((flat[a] - flat[b]).norm()), rel=1e-6)
        assert row["cosine"] == pytest.approx(cosine(flat[a], flat[b]), rel=1e-6)
        assert row["task_cosine"] == pytest.approx(cosine(flat[a] - start, flat[b] - start), rel=1e-6)
        first, second = (flat[index].float() - start.float() for index in (a, b))
        assert row["task_pearson"] == pytest.approx(float(np.corrcoef(first, second)[0, 1]), rel=1e-5)
        both = (first != 0) & (second != 0)
        assert row["sign_agreement"] == float((first.sign() == second.sign())[both].double().mean())
        assert row["both_moved"] == float(both.double().mean())
        assert row["cka"] == pytest.approx(debiased_by_definition(captured[a], captured[b]), rel=1e-4)


def test_signs_are_compared_where_both_task_vectors_moved() -> None:
    """A start of zeros: two of four entries moved in both, of which one has equal signs."""
    matrix = np.array([[1, -2, 0, 3, 0], [2, 5, 1, 0, 0], [0, 0, 0, 0, 0]], dtype=np.float32)
    found = task_vectors(matrix, 5, [0, 1], 2)
    assert found.sums.tolist() == [2, 8]
    assert (found.moved[0, 1], found.signs[0, 1], found.moved[0, 0]) == (2, 0, 3)


def test_members_of_starts_of_their_own_have_no_task_vectors() -> None:
    rows = pair_rows(trained(CNN, start="scratch"))
    assert {row[key] for row in rows for key in ("task_cosine", "task_pearson", "sign_agreement", "both_moved")} == {
        None
    }


def cosine(a: Tensor, b: Tensor) -> float:
    return float(a @ b / (a.norm() * b.norm()))


def test_a_thousand_examples_of_a_long_split_are_looked_at_from_end_to_end() -> None:
    pool = trained(CNN)
    count = len(pool.dataset.splits["validation"])
    long = np.arange(1500) % count
    engine = with_validation(pool, long).engine()
    rows = pair_rows(pool, engine)
    assert engine.forward_passes == 3 * 1000
    assert numbers(rows) == numbers(pair_rows(with_validation(pool, long[np.arange(1000) * 3 // 2])))
    assert numbers(rows) != numbers(pair_rows(with_validation(pool, long[:1000])))


def with_validation(pool: Trained, indices: np.ndarray) -> Trained:
    """The pool with some of its validation examples, which may repeat."""
    whole = pool.dataset.splits["validation"]
    splits = {**pool.dataset.splits, "validation": subset(whole.labels, whole.images, indices)}
    return dataclasses.replace(pool, dataset=dataclasses.replace(pool.dataset, splits=splits))


def test_a_block_in_pieces_gives_the_same_bits() -> None:
    pool = trained(CNN)
    (block,) = pair_blocks([pool.pool], (), measured()).values()
    evaluator = BlockRunner(pool.engine(), pool.pool, "test", ("accuracy",))
    whole = evaluator.run(block)
    pieces = BlockRows()
    for index in range(len(block)):
        pieces.extend(evaluator.run(block[index : index + 1]))
    assert numbers(pieces.pairs) == numbers(whole.pairs)
    assert whole.candidates == whole.predictions == []
    failed = failed_rows(block, pool.pool, "test", "its worker died")
    assert failed.candidates == []
    assert failed.error == "its worker died"


@pytest.mark.parametrize("tile", [1, 2, 64])
def test_tiles_of_any_size_give_every_pair_once(tile: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = trained(CNN)
    whole = pair_rows(pool)
    for module in ("sweep.status.pending_pairs", "sweep.evaluation.pairs"):
        monkeypatch.setattr(f"{module}.TILE", tile)
    blocks = pair_blocks([pool.pool], (), measured()).values()
    assert [len(block) for block in blocks] == {1: [1, 1, 1], 2: [1, 2], 64: [3]}[tile]
    engine = pool.engine()
    runner = BlockRunner(engine, pool.pool, "test", ("accuracy",))
    rows = [row for block in blocks for row in runner.run(block).pairs]
    assert [(row["index_a"], row["index_b"]) for row in rows] == [(0, 1), (0, 2), (1, 2)]
    np.testing.assert_allclose(numbers(rows), numbers(whole), rtol=1e-12)
    assert engine.forward_passes == 3 * len(pool.dataset.splits["validation"]), "features are kept between blocks"


def test_the_bits_of_a_pair_do_not_depend_on_the_pairs_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("sweep.status.pending_pairs", "sweep.evaluation.pairs"):
        monkeypatch.setattr(f"{module}.TILE", 2)
    pool = trained(CNN)
    a, b, c = (member.id for member in pool.pool.members)
    runner = BlockRunner(pool.engine(), pool.pool, "test", ("accuracy",))
    made = [runner.run(block).pairs for block in pair_blocks([pool.pool], (), measured()).values()]
    (alone,) = pair_blocks([pool.pool], (), measured((a, b), (a, c))).values()
    assert numbers(runner.run(alone).pairs) == numbers(made[1][1:])


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_exactly_the_pairs_without_a_row_are_missing(data: st.DataObject) -> None:
    names = [f"m{number}" for number in range(data.draw(st.integers(0, 7)))]
    every = list(itertools.combinations(names, 2))
    present = data.draw(st.lists(st.sampled_from(every), unique=True)) if every else []
    others = [("m0", "elsewhere"), ("elsewhere", "m1"), ("x", "y")]
    missing = measured(*present, *others).without_row(names)
    assert missing.tolist() == [pair not in present for pair in every]


def test_a_slice_of_pairs_is_pairs() -> None:
    pairs = MemberPairs("pool", np.array([[0, 1], [0, 2], [1, 2]]))
    assert list(pairs[1:]) == [MemberPair("pool", 0, 2), MemberPair("pool", 1, 2)]
    assert isinstance(pairs[1:], MemberPairs)
    assert pairs[-1] == MemberPair("pool", 1, 2)


def test_a_member_without_numbers_spoils_its_own_pairs_alone() -> None:
    pool = trained(CNN)
    broken = {name: torch.full_like(tensor, torch.nan) for name, tensor in pool.states[1].items()}
    rows = pair_rows(dataclasses.replace(pool, states=(pool.states[0], broken, pool.states[2])))
    assert [row["cka"] is None for row in rows] == [True, False, True]
    assert [row["cosine"] is None for row in rows] == [True, False, True]
    assert numbers(rows)[1] == numbers(pair_rows(pool))[1]


def test_features_that_cannot_be_had_leave_the_distances() -> None:
    pool = trained(CNN)
    engine = pool.engine()
    engine.head = nn.Linear(1, 1)  # one that nothing reaches
    rows = pair_rows(pool, engine)
    assert [row["cka"] for row in rows] == [None] * 3
    assert [row["l2_distance"] for row in rows] == [row["l2_distance"] for row in pair_rows(pool)]


def test_a_pool_has_a_block_of_the_pairs_without_a_row() -> None:
    pool = trained(CNN).pool
    a, b, c = pool.members
    (block,) = pair_blocks([pool], (), measured((a.id, b.id))).values()
    assert list(block.items) == [MemberPair(pool.id, 0, 2), MemberPair(pool.id, 1, 2)]
    (block,) = pair_blocks([pool], {b.id}, measured()).values()
    assert list(block.items) == [MemberPair(pool.id, 0, 2)]
    assert pair_blocks([pool], {b.id, c.id}, measured()) == {}
