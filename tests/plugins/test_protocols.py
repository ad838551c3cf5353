"""Every protocol gives the same bits everywhere and leaves nothing behind; correct rows never know of the others."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from typing import Any

import pytest
import torch

from sweep.evaluation.switches import apply_to_model
from sweep.plan.work import CandidateWork
from tests.helpers import ROOT
from tests.helpers.audits import ALL, NORMED, SWITCHES, VIT, candidates, evaluated, swept
from tests.helpers.engine import trained
from tests.helpers.plain_loop import CNN


def everything(architecture: str = CNN) -> dict[str, list[Any]]:
    """What a small pool gives under every protocol, in the order that the process happens to choose."""
    pool = trained(architecture)
    work = candidates(pool, ALL, scalings=["none", {"magnify": {"factor": 3}}])
    return evaluated(pool, sorted(work, key=lambda each: hash(each.id)))


def test_every_protocol_gives_the_same_bits_in_another_process_and_order() -> None:
    script = "import json, torch; torch.set_num_threads(1)\nfrom tests.plugins.test_protocols import everything\n"
    found = subprocess.run(
        [sys.executable, "-c", f"{script}print(json.dumps(everything()))"],
        env=os.environ | {"PYTHONHASHSEED": "7", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    mine = everything()
    assert json.loads(found.stdout) == mine
    assert len(mine) == len(candidates(trained(CNN), ALL, scalings=["none", {"magnify": {"factor": 3}}]))


@pytest.mark.parametrize("architecture", [CNN, NORMED])
def test_correct_rows_are_the_same_bits_beside_any_other_protocol(architecture: str) -> None:
    pool = trained(architecture)
    alone = candidates(pool, "correct")
    beside = candidates(pool, [*ALL[1:], "correct"])
    assert {each.id for each in alone} == {each.id for each in beside if each.protocol.name == "correct"}
    expected = evaluated(pool, alone)
    assert {name: value for name, value in evaluated(pool, beside).items() if name in expected} == expected


def test_the_members_are_never_written_to() -> None:
    pool = trained(NORMED)
    evaluator = pool.evaluator()
    before = evaluator.engine.pool.matrix.copy()
    rows = evaluator.run(CandidateWork([(each, ("test", "validation")) for each in candidates(pool, ALL)])).candidates
    assert {each["status"] for each in rows} == {"ok"}
    assert (evaluator.engine.pool.matrix == before).all()


@pytest.mark.parametrize("name", SWITCHES)
@pytest.mark.parametrize("architecture", [CNN, NORMED, VIT])
def test_a_network_is_as_before_once_a_pass_is_over(name: str, architecture: str) -> None:
    model = trained(architecture).model()
    before = copy.deepcopy(model.state_dict())
    children = [id(module) for module in model.modules()]
    pointers = [tensor.data_ptr() for tensor in model.state_dict().values()]
    (switch,) = swept({"architecture": "linear", "members": 3}, ["correct", name]).grids[0].protocols[1].switches
    state = torch.random.get_rng_state()
    with apply_to_model(model, (switch,), 5), torch.inference_mode():
        model(torch.randn(3, 1, 8, 8))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not any(module.training for module in model.modules())
    assert [id(module) for module in model.modules()] == children
    assert [tensor.data_ptr() for tensor in model.state_dict().values()] == pointers
    for key, tensor in model.state_dict().items():
        assert tensor.dtype == before[key].dtype
        assert torch.equal(tensor, before[key])
    model(torch.randn(3, 1, 8, 8))
