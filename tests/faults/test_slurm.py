"""The job script for Slurm on a real Slurm of one node: the time limit saves trainings and queues the job again."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from sweep.storage.run_folder import RunFolder
from tests.helpers import ROOT
from tests.helpers.slurm import missing_programs, output, running_slurm, wait_until

pytestmark = pytest.mark.faults
if missing_programs():
    pytest.skip(f"no Slurm: {missing_programs()}", allow_module_level=True)

SWEEP = """
name: queued
dataset: {digits: {size: 8}}
populations:
  - {architecture: linear, members: 2, start: scratch, train: {epochs: 500, batch_size: 256}}
subsets: {sizes: [2]}
methods: [uniform_soup]
metrics: [accuracy]
execution: {mlflow: false, checkpoint_seconds: 1}
"""


def test_a_job_at_its_time_limit_is_queued_again_and_goes_on(tmp_path: Path) -> None:
    (tmp_path / "queued.yaml").write_text(SWEEP)
    (tmp_path / ".venv").symlink_to(Path(sys.executable).parents[1])
    (tmp_path / "slurm").mkdir()
    runs = tmp_path / "runs"
    with running_slurm(tmp_path / "slurm") as env:
        kept = {name: value for name, value in env.items() if not name.startswith("RAY_")}
        env = kept | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
        script = ROOT / "configs/cluster/slurm.sbatch"
        options = [f"--cpus-per-task={os.cpu_count()}", "--gpus-per-node=0", "--time=20"]
        words = ["queued.yaml", f"execution.storage={runs}"]
        os.chdir(tmp_path)
        job = output(env, "env", f"--chdir={tmp_path}", "sbatch", "--parsable", *options, str(script), *words)
        wait_until(lambda: list(runs.rglob("*.partial")), 120)
        output(env, "scancel", "--batch", "--signal=TERM", job)  # as `--signal=B:TERM@120` does
        wait_until(lambda: output(env, "squeue", "-h", "-j", job, "-o", "%T") == "PENDING", 120)
        assert list(runs.rglob("*.partial"))
        output(env, "scontrol", "update", f"jobid={job}", "starttime=now")
        wait_until(lambda: "COMPLETED" in output(env, "scontrol", "show", "job", job), 300)
        assert "Restarts=1" in output(env, "scontrol", "show", "job", job)
    log = next(tmp_path.glob("slurm-*.log")).read_text()
    assert "stopped by SIGTERM: trainings are saved" in log
    assert RunFolder(runs / "queued").read("candidates").num_rows == 3
