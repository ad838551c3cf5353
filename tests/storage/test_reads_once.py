"""How often one run reads external checkpoints and the table of members."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.helpers.engine import trained

CNN = "{cnn: {width: 4}}"

MODELS = 4
COUNTING = """
import hashlib, json, sys
from collections import Counter
from pathlib import Path

opened = Counter()
pool = sys.argv[2]


def count(event, arguments):
    if event == "open" and str(arguments[0]).startswith(pool):
        opened[Path(arguments[0]).name] += 1


from sweep.config.loader import load
from sweep.execution.driver import run
from sweep.storage import run_folder

hashed, tables = Counter(), Counter()
digest, read = hashlib.file_digest, run_folder.read


def counted_digest(content, name):
    hashed[Path(content.name).name] += 1
    return digest(content, name)


def counted_read(folder, table, *more, **equal):
    tables[table] += 1
    return read(folder, table, *more, **equal)


if __name__ == "__main__":
    hashlib.file_digest, run_folder.read = counted_digest, counted_read
    sys.addaudithook(count)
    run(load(Path(sys.argv[1])))
    print(json.dumps([opened, hashed, tables]))
"""


@pytest.mark.ray
def test_a_run_reads_each_checkpoint_and_the_members_a_few_times(tmp_path: Path) -> None:
    states = trained(CNN).states
    folder = tmp_path / "pool"
    folder.mkdir()
    for index in range(MODELS):
        file = folder / f"member{index}.pth"
        torch.save(states[index % len(states)] | {"conv1.bias": torch.full((4,), float(index))}, file)
        os.utime(file, (1e9, 1e9))  # a file that changed a moment ago is read again to be sure
    sweep = tmp_path / "elsewhere.yaml"
    sweep.write_text(f"""
name: elsewhere
dataset: {{digits: {{size: 8}}}}
populations: [{{checkpoints: '{folder}/member*.pth', architecture: {CNN}}}]
subsets: {{sizes: [2]}}
methods: [uniform_soup]
execution: {{storage: {tmp_path}/runs}}
""")
    command = [sys.executable, "-c", COUNTING, str(sweep), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    opened, hashed, tables = json.loads(done.stdout.splitlines()[-1])
    names = [f"member{index}.pth" for index in range(MODELS)]
    assert opened == dict.fromkeys(names, 5), "format, check of the archive, digest, names and shapes, weights"
    assert not hashed.keys() & set(names), "ids come from the weights, not from the files"
    assert tables["members"] <= 5, tables
    assert max(hashed.values()) <= 2, "a stored copy that is younger than 2 s is hashed again"
