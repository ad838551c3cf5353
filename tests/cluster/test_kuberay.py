"""The job for Kubernetes: its fields, by KubeRay's reference, and that its parts fit each other."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.helpers import ROOT

FIELDS = json.loads((Path(__file__).parent / "kuberay_fields.json").read_text())
FOLDER = ROOT / "configs/cluster"
JOB: dict[str, Any] = yaml.safe_load((FOLDER / "kuberay.yaml").read_text())
CLUSTER = JOB["spec"]["rayClusterSpec"]
GROUPS = [CLUSTER["headGroupSpec"], *CLUSTER["workerGroupSpecs"]]


def test_every_field_is_one_of_kuberay() -> None:
    jsonschema.validate(JOB, FIELDS)


@pytest.mark.parametrize("path", [("spec", "entryPoint"), ("spec", "rayClusterSpec", "workerGroups")])
def test_a_field_of_another_name_is_found(path: tuple[str, ...]) -> None:
    wrong: Any = json.loads(json.dumps(JOB))
    place = wrong
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = "1"
    with pytest.raises(jsonschema.ValidationError, match=path[-1]):
        jsonschema.validate(wrong, FIELDS)


def test_all_pods_have_one_image_the_run_folder_and_the_configuration() -> None:
    containers = [group["template"]["spec"]["containers"][0] for group in GROUPS]
    submitter = JOB["spec"]["submitterPodTemplate"]["spec"]["containers"][0]
    assert len({each["image"] for each in (*containers, submitter)}) == 1
    for group in GROUPS:
        pod = group["template"]["spec"]
        volumes = {volume["name"] for volume in pod["volumes"]}
        mounts = {mount["name"]: mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
        assert volumes == set(mounts)
        assert {"/shared", "/config", "/dev/shm"} == set(mounts.values())
        assert pod["terminationGracePeriodSeconds"] >= 60
    claim = yaml.safe_load((FOLDER / "kuberay_claim.yaml").read_text())
    claims = {volume.get("persistentVolumeClaim", {}).get("claimName") for volume in pod["volumes"]}
    assert claim["metadata"]["name"] in claims
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]


def test_the_token_is_a_secret_and_the_version_that_of_the_lock() -> None:
    assert CLUSTER["authOptions"] == {"mode": "token", "secretName": "merge-sweep-token"}
    assert CLUSTER["rayVersion"] == version("ray")
    assert "RAY_AUTH_TOKEN" not in json.dumps(JOB)


def test_workers_come_with_the_work_and_the_head_takes_none() -> None:
    assert CLUSTER["enableInTreeAutoscaling"]
    assert CLUSTER["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    for group in CLUSTER["workerGroupSpecs"]:
        assert group["minReplicas"] == 0 < group["maxReplicas"]
        limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
        assert limits["nvidia.com/gpu"] == 1
