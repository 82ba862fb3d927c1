"""Where studies and runs are stored, and which places are refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from prefetch_tuning.experiments.errors import StoreError
from prefetch_tuning.experiments.storage.locations import Store


def test_the_local_store_is_in_mlruns_and_is_not_made_yet(tmp_path: Path) -> None:
    store = Store.choose(tmp_path, None, None)

    assert store.storage_url == f"sqlite:///{tmp_path}/mlruns/optuna.db"
    assert store.tracking_uri == f"sqlite:///{tmp_path}/mlruns/mlflow.db"
    assert store.artifacts == tmp_path / "mlruns" / "artifacts"
    assert list(tmp_path.iterdir()) == []


def test_the_environment_names_the_tracking_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5999")

    store = Store.choose(tmp_path, None, None)

    assert store.tracking_uri == "http://127.0.0.1:5999"
    assert store.artifacts is None  # the server decides where they go
    assert Store.choose(tmp_path, None, "sqlite:///x.db").tracking_uri == "sqlite:///x.db"

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    assert Store.choose(tmp_path, None, None).artifacts is not None


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("results.db", "'results.db' isn't an address; give one like sqlite:///results.db"),
        ("sqlite:///no/such/results.db", "/no/such does not exist; create it first"),
        ("sqlite:////no/such/results.db", "the folder /no/such does not exist"),
    ],
)
def test_an_address_that_cannot_work_is_refused_at_once(
    tmp_path: Path, address: str, message: str
) -> None:
    with pytest.raises(StoreError, match=message):
        Store.choose(tmp_path, address, None)


def test_who_reads_runs_of_a_server_needs_no_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    store = Store.choose(tmp_path, None, "http://127.0.0.1:1", runs_only=True)

    assert (store.folder, store.artifacts) == (None, None)
    with store.first_connection():
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mlruns").write_text("mine")

    with pytest.raises(StoreError, match="mlruns is not a folder"):
        Store.choose(tmp_path, None, None)


def test_a_folder_that_cannot_be_written_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Not chmod: the tests may run as root, who can write to every folder.
    monkeypatch.setattr(os, "access", lambda path, mode: False)

    with pytest.raises(StoreError, match=f"cannot write {tmp_path}"):
        Store.choose(tmp_path, None, None)
