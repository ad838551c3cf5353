"""MLflow in states that people and programs leave it in: one line with a remedy, and a later sync makes it whole."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from sweep.tracking.tracker import Tracker
from tests.helpers.mlflow import NAME, Place, load_model, run_folder

KINDS = ("sweep", "member", "cell", "candidate")


def counts(place: Place) -> list[int]:
    return [len(place.runs(kind)) for kind in KINDS]


def mirrored(place: Place) -> str:
    """What one mirror logs."""
    before = len(place.lines)
    tracker = place.tracker()
    tracker.open()
    tracker.mirror(run_folder(place.storage / NAME), load_model, 1)
    tracker.close("FINISHED")
    return "\n".join(place.lines[before:])


def experiment(place: Place) -> str:
    found = place.client.get_experiment_by_name(f"sweep/{NAME}")
    assert found is not None
    return str(found.experiment_id)


def test_a_deleted_experiment_is_not_restored_and_its_restore_is_named(place: Place) -> None:
    mirrored(place)
    identity = experiment(place)
    place.client.delete_experiment(identity)
    line = mirrored(place)
    assert f"the experiment sweep/{NAME} was deleted there" in line
    assert f"mlflow experiments restore --experiment-id {identity}` restores it" in line
    assert "another name" in line
    assert place.client.get_experiment(identity).lifecycle_stage == "deleted"
    place.client.restore_experiment(identity)
    assert mirrored(place) == ""
    assert counts(place) == [1, 2, 1, 1]


@pytest.mark.parametrize("kind", KINDS)
def test_a_deleted_run_is_made_anew_and_the_deleted_one_stays_deleted(place: Place, kind: str) -> None:
    mirrored(place)
    gone = place.runs(kind)[0].info.run_id
    place.client.delete_run(gone)
    assert mirrored(place) == ""
    assert counts(place) == [1, 2, 1, 1]
    assert place.client.get_run(gone).info.lifecycle_stage == "deleted"
    (sweep,) = place.runs("sweep")
    children = [run for each in KINDS[1:] for run in place.runs(each)]
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {sweep.info.run_id}


def test_a_run_that_is_deleted_meanwhile_stops_nothing_and_the_next_sync_makes_it_anew(place: Place) -> None:
    tracker = place.tracker()
    tracker.open()
    place.client.delete_run(place.runs("sweep")[0].info.run_id)
    tracker.mirror(run_folder(place.storage / NAME), None)
    tracker.close("FINISHED")
    (line,) = place.lines
    assert "the run of this sweep was deleted there" in line
    assert mirrored(place) == ""
    assert counts(place) == [1, 2, 1, 1]


def test_a_deleted_registered_model_is_made_anew(place: Place) -> None:
    mirrored(place)
    place.client.delete_registered_model(place.client.search_registered_models()[0].name)
    assert mirrored(place) == ""
    assert place.champion() is not None


def corrupt(place: Place) -> None:
    (place.storage / "mlflow.db").write_bytes(b"no data base" * 1000)


def cut(place: Place) -> None:
    content = (place.storage / "mlflow.db").read_bytes()
    (place.storage / "mlflow.db").write_bytes(content[: len(content) // 2])


def folder(place: Place) -> None:
    (place.storage / "mlflow.db").unlink()
    (place.storage / "mlflow.db").mkdir()


def of_another_version(place: Place) -> None:
    with closing(sqlite3.connect(place.storage / "mlflow.db")) as connection:
        connection.execute("update alembic_version set version_num = 'ffffffffffff'")
        connection.commit()


def no_artifacts(place: Place) -> None:
    (place.storage / "mlflow-artifacts").write_text("a file where the folder should be")


@pytest.mark.parametrize(
    ("damage", "cause", "remedy"),
    [
        (corrupt, "not a database", "move the file of the data base aside"),
        (cut, "malformed", "move the file of the data base aside"),
        (folder, "unable to open", "make it writable"),
        (of_another_version, "database schema", "mlflow db upgrade sqlite:///"),
        (no_artifacts, "Not a directory", "make it writable"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_a_damaged_store_is_one_line_with_a_remedy(place: Place, damage: Any, cause: str, remedy: str) -> None:
    damage(place)
    began = time.monotonic()
    line = mirrored(place)
    assert time.monotonic() - began < 30
    assert len(place.lines) == 1
    assert cause in line
    assert remedy in line
    assert f"sweep sync {place.storage / NAME}" in line


@contextmanager
def answering(code: int, body: bytes, seconds: float) -> Iterator[str]:
    """A server that gives every request the same answer."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            time.sleep(seconds)
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815 - the name is that of the library

        def log_message(self, *_: Any) -> None:
            pass

    class Patient(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

        def handle_error(self, *_: Any) -> None:
            """A client that waits no longer has closed the connection."""

    with Patient(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.parametrize(
    ("code", "body", "seconds", "remedy"),
    [
        (401, b"", 0, "set MLFLOW_TRACKING_USERNAME"),
        (403, b"", 0, "an account that may write there"),
        (404, b"<html>", 0, "is the address complete?"),
        (200, b"<html>", 0, "is the address complete?"),
        (500, b"", 0, "is the server up?"),
        (200, b"{}", 60, "is the server up?"),
    ],
    ids=["401", "403", "404", "html", "500", "hangs"],
)
def test_a_server_of_another_kind_is_one_line_with_a_remedy(
    place: Place, code: int, body: bytes, seconds: float, remedy: str
) -> None:
    with answering(code, body, seconds) as place.uri:
        began = time.monotonic()
        line = mirrored(place)
        assert time.monotonic() - began < 20
    assert len(place.lines) == 1
    assert remedy in line
    assert "\n" not in line


@pytest.mark.parametrize("address", ["localhost:5000", "databricks"])
def test_an_address_that_names_no_server_or_file_is_one_line_with_a_remedy(place: Place, address: str) -> None:
    place.uri = address
    line = mirrored(place)
    assert len(place.lines) == 1
    assert "MLFLOW_TRACKING_URI is an address such as http://host:5000" in line
    assert "\n" not in line


def test_two_sweeps_of_one_name_live_beside_each_other(place: Place) -> None:
    """In one experiment, with equal candidates and cells: each keeps its runs, its models and its champion."""
    own = Tracker(place.uri, place.storage, NAME, "sweep", {"name": NAME}, "a" * 32)
    other = Tracker(place.uri, place.storage, NAME, "sweep", {"name": NAME}, "b" * 32)
    own.mirror(run_folder(place.storage / "one" / NAME), load_model, 1)
    before = place.values()
    models = {model.name: model.aliases for model in place.client.search_registered_models()}
    other.mirror(run_folder(place.storage / "two" / NAME, accuracies=(0.9, 0.2, 0.91)), load_model, 1)
    assert place.lines == []
    assert counts(place) == [2, 4, 2, 2]
    after = place.values()
    assert {identity: after[identity] for identity in before} == before
    found = {model.name: model.aliases for model in place.client.search_registered_models()}
    assert found.keys() == {f"{NAME}-{'a' * 8}", f"{NAME}-{'b' * 8}"}
    assert {name: found[name] for name in models} == models
    parents = {run.info.run_id: run.data.tags["ms.folder"] for run in place.runs("sweep")}
    for kind in KINDS[1:]:
        for run in place.runs(kind):
            assert parents[run.data.tags["mlflow.parentRunId"]] == run.data.tags["ms.folder"]


def test_runs_of_an_earlier_version_stay_beside_the_new_ones_and_are_mentioned(place: Place) -> None:
    """Theirs have no tag of a folder, so nobody knows whose they are."""
    identity = place.client.create_experiment(f"sweep/{NAME}", (place.storage / "mlflow-artifacts").as_uri())
    earlier = place.client.create_run(identity, tags={"ms.kind": "sweep", "ms.key": "id-of-the-sweep"})
    line = mirrored(place)
    assert "runs that an earlier version wrote stay" in line
    assert counts(place) == [2, 2, 1, 1]
    assert "ms.content" not in place.client.get_run(earlier.info.run_id).data.tags
    assert mirrored(place) == "", "mentioned once"
