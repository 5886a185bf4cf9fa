"""The page of the packaged model, without a browser."""

import json

import medweave
import pytest
from starlette.testclient import TestClient

from core.studio.app import create_app

MEGABYTE = 10**6


@pytest.fixture(scope="session")
def model():
    return medweave.load("phantom", device="cpu")


@pytest.fixture
def client(model, tmp_path, monkeypatch):
    (tmp_path / "server").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path / "server")
    with TestClient(create_app(model, upload_bytes=MEGABYTE, hosts=("testserver",))) as client:
        yield client


@pytest.fixture
def uploads(tmp_path):
    """``uploads()``: the files in the temporary folder of the server."""
    return lambda: [path for path in tmp_path.glob("medweave-studio-*/**/*") if path.is_file()]


@pytest.fixture
def make(client):
    """Order a study and return its name and all of its events."""

    def call(files=None, **fields):
        answer = client.post("/api/studies", data=fields, files=files)
        assert answer.status_code == 202, answer.text
        name = answer.json()["study"]
        lines = client.get(f"/api/studies/{name}/events").text.splitlines()
        return name, [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data")]

    return call
