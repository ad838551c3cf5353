"""Secrets are removed from what is stored or shown, and nothing else is."""

from __future__ import annotations

import pytest

from sweep.core.errors import UserError
from sweep.core.masking import mask_all, mask_known, mask_secrets


@pytest.fixture(autouse=True)
def variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables that hold secrets, that say where one is, and that only sound so."""
    for name, value in {
        "AWS_SECRET_ACCESS_KEY": "abc/DEF+123==",
        "HF_TOKEN": "hf_0123456789",
        "MLFLOW_TRACKING_PASSWORD": "mlflow",
        "RAY_AUTH_TOKEN_PATH": "/home/me/token-1",
        "RAY_AUTH_MODE": "token-mode-1",
        "TOKENIZERS_PARALLELISM": "false-false-1",
        "DATABASE_URL": "postgresql://me:p%40ss-word@host/db",
    }.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("no server at http://me:pw@host:5000/path", "no server at http://***@host:5000/path"),
        ("postgresql+psycopg2://me:p@ss@host/db?x=1", "postgresql+psycopg2://***@host/db?x=1"),
        ('{"uri": "s3://key:word@bucket"}', '{"uri": "s3://***@bucket"}'),
        ("signed with abc/DEF+123== today", "signed with *** today"),
        ("p%40ss-word and p@ss-word", "*** and ***"),
        ("hf_0123456789, hf_0123456789", "***, ***"),
    ],
)
def test_addresses_and_values_of_variables_are_masked_everywhere(text: str, masked: str) -> None:
    assert mask_known(text) == mask_secrets(text) == masked


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("user=me password=hunter2", "user=me password=***"),
        ("{'token': 'abcdef', 'size': 3}", "{'token': '***', 'size': 3}"),
        ("https://host/x?access_token=abcdef&page=2", "https://host/x?access_token=***&page=2"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer ***"),
        ("authorization=basic bWU6cHc=", "authorization=basic ***"),
        ("AWS_SECRET_ACCESS_KEY=xyzxyz sweep run", "AWS_SECRET_ACCESS_KEY=*** sweep run"),
        ("wrong password for mlflow", "wrong password for ***"),
    ],
)
def test_messages_lose_what_is_named_as_a_secret_and_weak_passwords(text: str, masked: str) -> None:
    assert mask_secrets(text) == masked


@pytest.mark.parametrize(
    "text",
    [
        "runs go to http://host:5000/a@b and sqlite:////runs/all.db",
        "me@example.org, git@github.com:a/b.git",
        "/data//x@y/token-1, /home/me/token-1",
        "token-mode-1 false-false-1",
        "class_token=true pos_tokens: 4",
        "its token expired; no password is needed",
    ],
)
def test_other_texts_stay_as_they_are(text: str) -> None:
    assert mask_known(text) == text
    assert mask_secrets(text) == text


def test_a_setting_that_is_the_word_of_a_weak_password_stays_readable() -> None:
    config = {"execution": {"mlflow": True, "ray_address": "ray://me:pw@head:1"}, "names": ["mlflow", 3, None]}
    assert mask_all(config) == {
        "execution": {"mlflow": True, "ray_address": "ray://***@head:1"},
        "names": ["mlflow", 3, None],
    }


def test_an_error_holds_no_secret() -> None:
    error = UserError("no Ray at ray://me:pw@head", "is password=hunter2 right?")
    assert str(error) == "no Ray at ray://***@head"
    assert error.hint == "is password=*** right?"
