"""A local server that can break off or send wrong bytes, and archives for it to serve."""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Server(ThreadingHTTPServer):
    """Serves bytes by path: at most `cut` of them per answer, and ranges if `resumes`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.files: dict[str, bytes] = {}
        self.cut: int | None = None
        self.resumes = True
        self.lengths = True
        self.asked: list[tuple[str, str | None]] = []

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/{name}"


class Answer(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.asked.append((self.path, wanted))
        content = self.server.files.get(self.path[1:])
        if content is None:
            self.send_error(404)
            return
        start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted and self.server.resumes else 0
        if wanted and self.server.resumes and start >= len(content):
            self.send_error(416)
            return
        rest = content[start:]
        self.send_response(206 if wanted and self.server.resumes else 200)
        if self.server.lengths:
            self.send_header("Content-Length", str(len(rest)))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        self.wfile.write(rest[: self.server.cut])

    def log_message(self, *_: object) -> None:
        pass


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def tarred(folder: Path) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        archive.add(folder, folder.name)
    return out.getvalue()


def zipped(folder: Path) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder.parent))
    return out.getvalue()


def hostile(name: str) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for each in ("first", name):
            member = tarfile.TarInfo(each)
            member.size = 4
            archive.addfile(member, io.BytesIO(b"evil"))
    return out.getvalue()
