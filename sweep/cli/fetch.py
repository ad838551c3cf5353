"""Downloads published data sets: resumes, checks md5 sums, and gives a file its name once it is complete."""

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
from typing import Any
from urllib.error import HTTPError

from sweep.core.dataset import Part
from sweep.core.errors import UserError
from sweep.core.file_lock import file_lock
from sweep.core.registry import get_plugin, list_plugins
from sweep.core.text import did_you_mean

_CHUNK = 1 << 20  # bytes
_TIMEOUT = 60  # seconds without a byte


class FetchError(UserError):
    """A data set that cannot be downloaded."""


def published_files() -> dict[str, tuple[Part, ...]]:
    """Data sets that can be downloaded, each with the `FILES` that its file states."""
    files = {name: get_plugin("datasets", name).constant("FILES") for name in list_plugins("datasets")}
    return {name: parts for name, parts in files.items() if parts}


def fetch(
    name: str, root: Path, *, report: Callable[[str], None], table: Mapping[str, Sequence[Part]] | None = None
) -> list[Path]:
    """Download a data set below `root`, where its plug-in looks for it; returns its files and folders.

    `table` lists the files of each data set, by default `published_files()`. Raises FetchError for an unknown name, a
    broken connection (the same call resumes), and a wrong checksum.
    """
    table = published_files() if table is None else table
    if name not in table:
        raise FetchError(f"no data set to download is called `{name}`", did_you_mean(name, table))
    places = [_fetch_part(part, root, report) for part in table[name]]
    report(f"next: sweep check FILE with `dataset: {{{name}: {{root: {shlex.quote(str(root))}}}}}`")
    return places


def _fetch_part(part: Part, root: Path, report: Callable[[str], None]) -> Path:
    """Download and check one file, and unpack an archive; returns the file or the archive's folder."""
    file = root / part.file
    place = root / (part.folder or part.file)
    if part.folder and place.is_dir():
        report(f"{place} exists already")
        return place
    try:
        exists = file.is_file()
        if not exists:
            _download(part.url, part.md5, file, report)
        elif _md5(file) != part.md5:
            raise FetchError(f"{file} exists, but its md5 is not {part.md5}", "move it away and fetch again")
        report(f"{file} {'exists already' if exists else f'downloaded from {part.url}'}: md5 {part.md5} is right")
        if part.folder:
            _unpack(file, place)
            report(f"unpacked {place}")
    except OSError as error:
        raise FetchError(f"cannot write below {root}: {error}") from error
    return place


def _download(url: str, md5: str, file: Path, report: Callable[[str], None]) -> None:
    """Download what is missing of a file; it is called `.part` until its checksum is right."""
    partial = file.with_name(file.name + ".part")
    partial.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        try:
            out = stack.enter_context(file_lock(partial, "ab", wait=False))
            partial.stat()  # missing if another process finished between the two lines above
        except (BlockingIOError, FileNotFoundError):
            raise FetchError(f"{partial} is being downloaded by another process") from None
        _resume(url, out, report)
        out.flush()
        os.fsync(out.fileno())
        found = _md5(partial)
        if found != md5:
            partial.unlink()
            raise FetchError(f"{url}: expected md5 {md5}, got {found}", "the file was removed; check the address")
        partial.replace(file)


def _resume(url: str, out: Any, report: Callable[[str], None]) -> None:
    """Append the missing bytes, by a range request if some are there. Raises FetchError."""
    have = out.tell()
    headers = {"User-Agent": "merge-sweep"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT) as response:
            if response.status != http.HTTPStatus.PARTIAL_CONTENT:
                have = out.seek(0)  # the server ignores ranges: start again
                out.truncate()
            total = have + int(response.headers.get("Content-Length") or 0)
            _copy(response, out, total, lambda done: report(f"{url}: {_progress(done, total)}"))
    except HTTPError as error:
        error.close()
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return  # the file is complete; the checksum is compared afterwards
        raise FetchError(f"{url}: {error.code} {error.reason}") from None
    except (OSError, http.client.HTTPException) as error:
        raise FetchError(f"{url}: {error}", "run the same command again: it resumes") from error


def _copy(response: Any, out: Any, total: int, report: Callable[[int], None]) -> None:
    """Copy the response; report each tenth. Raises ConnectionError if fewer bytes arrive than announced."""
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
    """Unpack the folder `place.name` of an archive; it gets its name once it is complete."""
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
