"""Passwords and tokens in addresses never reach a message."""

from __future__ import annotations

from pathlib import Path

import pytest

from prefetch_tuning.experiments.cli import main
from prefetch_tuning.experiments.errors import UsageError, without_secrets

SECRET = "s3cr3t"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("at http://ann:s3cr3t@host:5000/x: no", "at http://***@host:5000/x: no"),
        ("postgresql+psycopg://ann:p@s3cr3t@db/x", "postgresql+psycopg://***@db/x"),
        ("'mysql://ann:s3cr3t@db/x?charset=utf8'", "'mysql://***@db/x?charset=utf8'"),
        ("http://h/x?a=1&api_key=s3cr3t&b=2", "http://h/x?a=1&api_key=***&b=2"),
        ("db://h/x?sslpassword=s3cr3t", "db://h/x?sslpassword=***"),
        ("mail ann@example.org about sqlite:///a.db", "mail ann@example.org about sqlite:///a.db"),
        ("http://host:5000/#/runs/1", "http://host:5000/#/runs/1"),
    ],
)
def test_users_and_passwords_are_hidden_and_nothing_else(text: str, shown: str) -> None:
    assert without_secrets(text) == shown
    assert str(UsageError(text)) == shown


@pytest.mark.parametrize(
    "options",
    [
        # Nothing listens on port 9, and nobody has a driver for the second.
        ["--tracking-uri", f"http://ann:{SECRET}@127.0.0.1:9"],
        ["--storage", f"postgresql+nothing://ann:{SECRET}@127.0.0.1:9/x"],
        ["--storage", f"sqlite:////nowhere/{SECRET}@x/y.db?password={SECRET}"],
    ],
)
def test_an_address_that_cannot_be_used_is_named_without_its_password(
    options: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Seen: an unreachable server was reported with user and password in full."""
    monkeypatch.chdir(tmp_path)
    code = main(["studies", *options])
    said = capsys.readouterr()

    assert code == 2
    assert f":{SECRET}" not in said.err + said.out
    assert f"password={SECRET}" not in said.err + said.out
    assert said.err.count("\n") == 1
