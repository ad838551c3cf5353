"""Fetching over real connections to a server on this machine that breaks off, resumes or sends something else."""

from __future__ import annotations

import fcntl
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from sweep.cli.fetch import FetchError, fetch, published_files
from sweep.cli.main import main
from sweep.core.dataset import SPLITS, Part
from sweep.core.registry import list_plugins
from sweep.plugins.datasets.cifar10 import cifar10
from sweep.plugins.datasets.mnist import mnist
from sweep.plugins.datasets.svhn import svhn
from sweep.plugins.datasets.tiny_imagenet import tiny_imagenet
from tests.helpers.dataset_files import write_cifar10, write_mnist, write_svhn, write_tiny
from tests.helpers.servers import Server, hostile, md5, tarred, zipped

PUBLISHED = published_files()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def cifar(server: Server, tmp_path: Path) -> dict[str, tuple[Part, ...]]:
    """A table with a tiny CIFAR-10 that the server serves."""
    write_cifar10(tmp_path / "published")
    content = tarred(tmp_path / "published" / "cifar-10-batches-py")
    server.files["cifar.tar.gz"] = content
    return {"cifar10": (Part(server.url("cifar.tar.gz"), md5(content), "cifar.tar.gz", "cifar-10-batches-py"),)}


def same(one: Path, other: Path) -> bool:
    contents = [{p.relative_to(root): p.read_bytes() for p in root.rglob("*") if p.is_file()} for root in (one, other)]
    return contents[0] == contents[1]


def test_published_data_sets_state_addresses_and_checksums() -> None:
    assert set(PUBLISHED) < set(list_plugins("datasets"))
    assert len(PUBLISHED) == 6
    for parts in PUBLISHED.values():
        for part in parts:
            assert re.fullmatch("[0-9a-f]{32}", part.md5)
            assert part.url.startswith(("https://", "http://"))
            assert part.url.endswith(part.file.split("/")[-1])


def test_addresses_and_checksums_are_those_of_torchvision() -> None:
    from torchvision import datasets

    for name, kind in (("cifar10", datasets.CIFAR10), ("cifar100", datasets.CIFAR100)):
        (part,) = PUBLISHED[name]
        assert part == Part(kind.url, kind.tgz_md5, kind.filename, kind.base_folder)
    for name, kind in (("mnist", datasets.MNIST), ("fashion_mnist", datasets.FashionMNIST)):
        expected = [Part(kind.mirrors[0] + f, md5, f"{kind.__name__}/raw/{f}") for f, md5 in kind.resources]
        assert list(PUBLISHED[name]) == expected
    listed = datasets.SVHN.split_list
    assert [(p.url, p.file, p.md5) for p in PUBLISHED["svhn"]] == [tuple(listed[part]) for part in ("train", "test")]


def test_an_archive_is_downloaded_checked_and_unpacked(
    server: Server, cifar: dict[str, tuple[Part, ...]], tmp_path: Path
) -> None:
    messages: list[str] = []
    root = tmp_path / "a b"
    assert fetch("cifar10", root, report=messages.append, table=cifar) == [root / "cifar-10-batches-py"]
    assert same(root / "cifar-10-batches-py", tmp_path / "published" / "cifar-10-batches-py")
    assert sorted(path.name for path in root.iterdir()) == ["cifar-10-batches-py", "cifar.tar.gz"]
    (part,) = cifar["cifar10"]
    assert messages[-3:] == [
        f"{root}/cifar.tar.gz downloaded from {part.url}: md5 {part.md5} is right",
        f"unpacked {root}/cifar-10-batches-py",
        f"next: sweep check FILE with `dataset: {{cifar10: {{root: '{root}'}}}}`",
    ]
    fetched = cifar10(root=root)
    published = cifar10(root=tmp_path / "published")
    assert fetched.fingerprint == published.fingerprint
    assert all((fetched.splits[name].images == published.splits[name].images).all() for name in SPLITS)


def test_all_formats_are_found_by_their_data_sets(server: Server, tmp_path: Path) -> None:
    write_mnist(tmp_path / "published"), write_svhn(tmp_path / "published"), write_tiny(tmp_path / "published")
    server.files = {
        path.relative_to(tmp_path / "published").as_posix(): path.read_bytes()
        for path in (tmp_path / "published").rglob("*")
        if path.suffix in (".gz", ".mat")
    } | {"tiny.zip": zipped(tmp_path / "published" / "tiny-imagenet-200")}
    parts = {name: Part(server.url(name), md5(content), name) for name, content in server.files.items()}
    table = {
        "mnist": [part for name, part in parts.items() if name.startswith("MNIST")],
        "svhn": [part for name, part in parts.items() if name.endswith(".mat")],
        "tiny_imagenet": [parts["tiny.zip"]._replace(folder="tiny-imagenet-200")],
    }
    for name, function in (("mnist", mnist), ("svhn", svhn), ("tiny_imagenet", tiny_imagenet)):
        fetch(name, tmp_path / "root", report=lambda _: None, table=table)
        fetched, published = (function(root=tmp_path / place) for place in ("root", "published"))
        assert fetched.fingerprint == published.fingerprint
        fetched.decode()


@pytest.mark.parametrize("resumes", [True, False])
def test_a_broken_connection_is_an_error_and_the_same_call_resumes(
    resumes: bool, server: Server, cifar: dict[str, tuple[Part, ...]], tmp_path: Path
) -> None:
    content = server.files["cifar.tar.gz"]
    server.cut = len(content) // 3
    server.resumes = resumes
    for times in (1, 2):
        with pytest.raises(FetchError, match=r"the connection broke after \d+\.\d of \d+\.\d MB") as raised:
            fetch("cifar10", tmp_path / "root", report=lambda _: None, table=cifar)
        assert raised.value.hint == "run the same command again: it resumes"
        assert not (tmp_path / "root" / "cifar.tar.gz").exists()
        partial = (tmp_path / "root" / "cifar.tar.gz.part").read_bytes()
        assert partial == content[: server.cut * (times if resumes else 1)]
    server.cut = None
    fetch("cifar10", tmp_path / "root", report=lambda _: None, table=cifar)
    assert (tmp_path / "root" / "cifar.tar.gz").read_bytes() == content
    first = len(content) // 3
    ranges = [None, f"bytes={first}-", f"bytes={2 * first if resumes else first}-"]
    assert server.asked == [("/cifar.tar.gz", wanted) for wanted in ranges]
    assert not list((tmp_path / "root").glob("*.part"))


def test_a_complete_partial_file_needs_no_download(
    server: Server, cifar: dict[str, tuple[Part, ...]], tmp_path: Path
) -> None:
    (tmp_path / "cifar.tar.gz.part").write_bytes(server.files["cifar.tar.gz"])
    fetch("cifar10", tmp_path, report=lambda _: None, table=cifar)
    assert (tmp_path / "cifar-10-batches-py").is_dir()


@pytest.mark.parametrize("lengths", [True, False])
def test_a_wrong_checksum_is_refused_and_the_file_removed(
    lengths: bool, server: Server, cifar: dict[str, tuple[Part, ...]], tmp_path: Path
) -> None:
    (part,) = cifar["cifar10"]
    right = server.files["cifar.tar.gz"]
    server.files["cifar.tar.gz"] = right[:-1] + b"x"
    server.lengths = lengths
    with pytest.raises(FetchError, match=rf"expected md5 {part.md5}, got {md5(right[:-1] + b'x')}"):
        fetch("cifar10", tmp_path / "root", report=lambda _: None, table=cifar)
    assert list((tmp_path / "root").iterdir()) == []
    server.files["cifar.tar.gz"] = right
    fetch("cifar10", tmp_path / "root", report=lambda _: None, table=cifar)


def test_a_partial_file_of_another_version_is_detected(
    server: Server, cifar: dict[str, tuple[Part, ...]], tmp_path: Path
) -> None:
    (tmp_path / "cifar.tar.gz.part").write_bytes(b"an older version")
    with pytest.raises(FetchError, match="expected md5"):
        fetch("cifar10", tmp_path, report=lambda _: None, table=cifar)
    fetch("cifar10", tmp_path, report=lambda _: None, table=cifar)
    assert (tmp_path / "cifar-10-batches-py").is_dir()


def test_existing_files_are_not_downloaded_again(
    server: Server, cifar: dict[str, tuple[Part, ...]], tmp_path: Path
) -> None:
    fetch("cifar10", tmp_path / "root", report=lambda _: None, table=cifar)
    server.files.clear()
    messages: list[str] = []
    fetch("cifar10", tmp_path / "root", report=messages.append, table=cifar)
    assert messages[0] == f"{tmp_path}/root/cifar-10-batches-py exists already"
    (tmp_path / "root" / "cifar-10-batches-py").rename(tmp_path / "elsewhere")
    fetch("cifar10", tmp_path / "root", report=messages.append, table=cifar)
    assert f"{tmp_path}/root/cifar.tar.gz exists already: md5 {cifar['cifar10'][0].md5} is right" in messages
    assert same(tmp_path / "root" / "cifar-10-batches-py", tmp_path / "elsewhere")
    assert len(server.asked) == 1


def test_another_file_of_the_same_name_is_not_touched(
    server: Server, cifar: dict[str, tuple[Part, ...]], tmp_path: Path
) -> None:
    (tmp_path / "cifar.tar.gz").write_bytes(b"mine")
    with pytest.raises(FetchError, match=r"cifar\.tar\.gz exists, but its md5 is not") as raised:
        fetch("cifar10", tmp_path, report=lambda _: None, table=cifar)
    assert raised.value.hint == "move it away and fetch again"
    assert (tmp_path / "cifar.tar.gz").read_bytes() == b"mine"
    assert server.asked == []


def test_two_processes_do_not_write_one_file(
    server: Server, cifar: dict[str, tuple[Part, ...]], tmp_path: Path
) -> None:
    with open(tmp_path / "cifar.tar.gz.part", "ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(FetchError, match="is being downloaded by another process"):
            fetch("cifar10", tmp_path, report=lambda _: None, table=cifar)


def test_a_file_missing_on_the_server_is_an_error(server: Server, tmp_path: Path) -> None:
    table = {"cifar10": [Part(server.url("nope"), "0" * 32, "nope")]}
    with pytest.raises(FetchError, match=r"nope: 404 Not Found$"):
        fetch("cifar10", tmp_path, report=lambda _: None, table=table)
    server.shutdown()
    server.server_close()
    with pytest.raises(FetchError, match="refused"):
        fetch("cifar10", tmp_path, report=lambda _: None, table=table)


def test_archives_write_only_into_their_folder(server: Server, tmp_path: Path) -> None:
    root = tmp_path / "deep" / "root"
    contents = {"outside": hostile("../../evil"), "other": hostile("another/file"), "none": b"no archive"}
    for name, content in contents.items():
        server.files[name] = content
        table = {"cifar10": [Part(server.url(name), md5(content), name, "folder")]}
        with pytest.raises(FetchError, match=f"cannot unpack .*{name}: "):
            fetch("cifar10", root, report=lambda _: None, table=table)
    assert sorted(path.name for path in tmp_path.rglob("*") if path.name not in contents) == ["deep", "root"]


def test_progress_is_reported_in_tenths(server: Server, tmp_path: Path) -> None:
    content = bytes(25 << 20)
    server.files["large"] = content
    messages: list[str] = []
    fetch(
        "cifar10",
        tmp_path,
        report=messages.append,
        table={"cifar10": [Part(server.url("large"), md5(content), "large")]},
    )
    steps = [line for line in messages if line.endswith(" of 26.2 MB")]
    assert len(steps) == 10
    assert steps[-1] == f"{server.url('large')}: 26.2 of 26.2 MB"


def test_a_root_that_is_a_file_is_an_error(server: Server, cifar: dict[str, tuple[Part, ...]], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(FetchError, match=r"cannot write below .*/file: "):
        fetch("cifar10", tmp_path / "file", report=lambda _: None, table=cifar)


def test_the_command_rejects_an_unknown_name() -> None:
    result = CliRunner().invoke(main, ["fetch", "cifar", "--root", "x"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("no data set to download is called `cifar`\n  hint: did you mean `cifar10`")
