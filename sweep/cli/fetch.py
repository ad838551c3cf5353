"""Published data sets from the network: resumed where it broke off, checked, and named only when whole."""

from __future__ import annotations

import hashlib
import http.client
import os
import shlex
import shutil
import tarfile
import urllib.request
import zipfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import HTTPError

from sweep.core.errors import UserError
from sweep.core.file_lock import file_lock
from sweep.core.text import did_you_mean

_CHUNK = 1 << 20  # bytes
_PATIENCE = 60  # seconds without a byte


class FetchError(UserError):
    """A data set that could not be fetched."""


class Part(NamedTuple):
    """One file of a data set: address, checksum, its place below the root, and the folder that an archive holds."""

    url: str
    md5: str
    file: str
    folder: str = ""


def _idx(address: str, folder: str, sums: Sequence[str]) -> tuple[Part, ...]:
    """The four files of MNIST and its kin: images and labels to train with, images and labels to test."""
    names = (f"{part}-{what}-ubyte.gz" for part in ("train", "t10k") for what in ("images-idx3", "labels-idx1"))
    return tuple(Part(f"{address}/{name}", md5, f"{folder}/raw/{name}") for name, md5 in zip(names, sums, strict=True))


_TORONTO, _STANFORD = "https://www.cs.toronto.edu/~kriz", "http://ufldl.stanford.edu/housenumbers"
_MNIST = (
    *("f68b3c2dcbeaaa9fbdd348bbdeb94873", "d53e105ee54ea40749a09fcbcd1e9432"),
    *("9fb629c4189551a2d022fa330f9573f3", "ec29112dd5afa0611ce80d1b7f02629c"),
)
_FASHION = (
    *("8d4fb7e6c68d591d4c3dfef9ec88bf0d", "25c81989df183df01b3e8a0aad5dffbe"),
    *("bef4ecab320f06d8554ea6380940ec79", "bb300cfdad3c16e7a12a480ee83cd310"),
)
_SVHN = {"train": "e26dedcc434d2e4c54c9b2d4a06d8373", "test": "eb5a983be6a315427106f1b164d9cef3"}

PUBLISHED: dict[str, tuple[Part, ...]] = {
    "cifar10": (
        Part(
            f"{_TORONTO}/cifar-10-python.tar.gz",
            "c58f30108f718f92721af3b95e74349a",
            "cifar-10-python.tar.gz",
            "cifar-10-batches-py",
        ),
    ),
    "cifar100": (
        Part(
            f"{_TORONTO}/cifar-100-python.tar.gz",
            "eb9058c3a382ffc7106e4002c42a8d85",
            "cifar-100-python.tar.gz",
            "cifar-100-python",
        ),
    ),
    "mnist": _idx("https://ossci-datasets.s3.amazonaws.com/mnist", "MNIST", _MNIST),
    "fashion_mnist": _idx("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com", "FashionMNIST", _FASHION),
    "svhn": tuple(Part(f"{_STANFORD}/{part}_32x32.mat", md5, f"{part}_32x32.mat") for part, md5 in _SVHN.items()),
    "tiny_imagenet": (
        Part(
            "http://cs231n.stanford.edu/tiny-imagenet-200.zip",
            "90528d7ca1a48142e341f4ef8d21d0de",
            "tiny-imagenet-200.zip",
            "tiny-imagenet-200",
        ),
    ),
}
"""Data set -> its files. Checksums are torchvision's; for Tiny ImageNet, the one that its many loaders agree on."""


def fetch(
    name: str, root: Path, *, tell: Callable[[str], None], table: Mapping[str, Sequence[Part]] = PUBLISHED
) -> list[Path]:
    """Fetch a data set into a folder, where its function in `sweep/datasets` finds it; the files and folders it has.

    Raises FetchError for an unknown name, a connection that broke (the same call continues), and a wrong checksum.
    """
    if name not in table:
        raise FetchError(f"nothing is fetched as `{name}`", did_you_mean(name, sorted(table)))
    places = [_fetch_part(part, root, tell) for part in table[name]]
    tell(f"next: sweep check FILE with `dataset: {{{name}: {{root: {shlex.quote(str(root))}}}}}`")
    return places


def _fetch_part(part: Part, root: Path, tell: Callable[[str], None]) -> Path:
    """The checked file, or the folder of a checked archive."""
    file, place = root / part.file, root / (part.folder or part.file)
    if part.folder and place.is_dir():
        tell(f"{place} is there already")
        return place
    try:
        there = file.is_file()
        if not there:
            _download(part.url, part.md5, file, tell)
        elif _md5(file) != part.md5:
            raise FetchError(f"{file} is there, but its md5 is not {part.md5}", "move it away and fetch again")
        tell(f"{file} {'is there already' if there else f'is fetched from {part.url}'}: md5 {part.md5} is right")
        if part.folder:
            _unpack(file, place)
            tell(f"{place} is unpacked")
    except OSError as error:
        raise FetchError(f"cannot write below {root}: {error}") from error
    return place


def _download(url: str, md5: str, file: Path, tell: Callable[[str], None]) -> None:
    """Bring the rest of the file; under another name until its checksum is right."""
    partial = file.with_name(file.name + ".part")
    partial.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        try:
            out = stack.enter_context(file_lock(partial, "ab", wait=False))
            partial.stat()  # gone where another process was done between the two lines above
        except (BlockingIOError, FileNotFoundError):
            raise FetchError(f"{partial} is being fetched by another process") from None
        _continue(url, out, tell)
        out.flush()
        os.fsync(out.fileno())
        found = _md5(partial)
        if found != md5:
            partial.unlink()
            raise FetchError(f"{url} has md5 {found} instead of {md5}", "it was removed; is the address still right?")
        partial.replace(file)


def _continue(url: str, out: Any, tell: Callable[[str], None]) -> None:
    """Append what is missing, by a range request where there is a beginning. Raises FetchError."""
    have = out.tell()
    wanted = {"User-Agent": "merge-sweep"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=wanted), timeout=_PATIENCE) as response:
            if response.status != http.HTTPStatus.PARTIAL_CONTENT:
                have = out.seek(0)  # the server does not resume: from the beginning
                out.truncate()
            total = have + int(response.headers.get("Content-Length") or 0)
            _copy(response, out, total, lambda done: tell(f"{url}: {_progress(done, total)}"))
    except HTTPError as error:
        error.close()
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return  # nothing is missing; the checksum tells whether that is so
        raise FetchError(f"{url}: {error.code} {error.reason}") from None
    except (OSError, http.client.HTTPException) as error:
        raise FetchError(f"{url}: {error}", "the same command continues where it broke off") from error


def _copy(response: Any, out: Any, total: int, report: Callable[[int], None]) -> None:
    """All that comes; reports each tenth. Raises ConnectionError where less comes than was promised."""
    tenth = 0
    while chunk := response.read(_CHUNK):
        out.write(chunk)
        if total and out.tell() * 10 // total > tenth:
            tenth = out.tell() * 10 // total
            report(out.tell())
    if out.tell() < total:
        raise ConnectionError(f"the connection broke after {_progress(out.tell(), total)}")


def _progress(done: int, total: int) -> str:
    return f"{done / 1e6:,.1f} of {total / 1e6:,.1f} MB"


def _md5(file: Path) -> str:
    with open(file, "rb") as content:
        return hashlib.file_digest(content, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _unpack(archive: Path, place: Path) -> None:
    """The folder of that name in an archive, put in its place when all of it is unpacked."""
    work = place.with_name(f".{place.name}.unpacking")
    shutil.rmtree(work, ignore_errors=True)
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as packed:
                packed.extractall(work)
        else:
            with tarfile.open(archive) as packed_tar:
                packed_tar.extractall(work, filter="data")
        (work / place.name).replace(place)
    except (OSError, tarfile.TarError, zipfile.BadZipFile) as error:
        raise FetchError(f"cannot unpack {archive}: {error}") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
