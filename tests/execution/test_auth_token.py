"""The token of a cluster: made for one reader, never overwritten, and refused once others can read it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from sweep.config.spec import Execution
from sweep.execution.auth_token import TokenError, check_token_file
from sweep.execution.cluster import BackgroundCluster
from tests.helpers.command import sweep


@pytest.fixture
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A new token, which RAY_AUTH_TOKEN_PATH names."""
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_MODE"):
        monkeypatch.delenv(name, raising=False)
    before = os.umask(0)
    try:
        done = sweep("token", "deep/token", cwd=tmp_path)
    finally:
        os.umask(before)
    file = tmp_path / "deep/token"
    assert done.stdout.strip() == str(file)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(file))
    return file


def test_a_token_is_random_and_only_its_owner_can_read_it(token: Path, tmp_path: Path) -> None:
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert stat.S_IMODE(token.parent.stat().st_mode) == 0o700
    sweep("token", "other", cwd=tmp_path)
    texts = {file.read_text() for file in (token, tmp_path / "other")}
    assert len(texts) == 2
    assert all(len(bytes.fromhex(text)) == 32 for text in texts)
    check_token_file()


def test_a_token_is_never_overwritten(token: Path, tmp_path: Path) -> None:
    before = token.read_text()
    done = sweep("token", "deep/token", cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert "exists and is not overwritten" in done.stderr
    assert token.read_text() == before


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620])
def test_a_token_that_others_can_read_or_write_is_refused(token: Path, mode: int) -> None:
    token.chmod(mode)
    with pytest.raises(TokenError, match=f"mode {mode:04o}, expected 0600") as error:
        check_token_file()
    assert f"chmod 600 {token}" in error.value.hint
    with (
        pytest.raises(TokenError, match="expected 0600"),
        BackgroundCluster(Execution(ray_address="127.0.0.1:9")),  # the token is looked at before the address
    ):
        raise AssertionError("it is refused before this")


@pytest.mark.parametrize("is_empty", [True, False])
def test_a_token_is_needed_where_it_is_due(token: Path, monkeypatch: pytest.MonkeyPatch, is_empty: bool) -> None:
    token.write_text("") if is_empty else token.unlink()
    with pytest.raises(TokenError, match=f"nothing is in {token}"):
        check_token_file()
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0" * 64)
    check_token_file()
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH")
    monkeypatch.setenv("HOME", str(token.parent))
    check_token_file()  # a cluster without tokens
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    with pytest.raises(TokenError, match="no token for the cluster"):
        check_token_file()
