"""Stores of every kind, for the tests of this folder."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.store.files import read_record, write_record
from tests.report.fake_store import build
from tests.support.stores import KINDS, s3_server


@pytest.fixture(scope="package")
def s3() -> Iterator[str]:
    """The address of a bucket; one server for all modules, as a process can have one only."""
    pytest.importorskip("moto.server")
    pytest.importorskip("s3fs")
    with s3_server() as bucket:
        yield bucket


@pytest.fixture(params=KINDS)
def out(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty place of each kind, as a user writes it."""
    if request.param == "local":
        return str(tmp_path / "results")
    name = uuid.uuid4().hex
    return f"memory://{name}" if request.param == "memory" else f"{request.getfixturevalue('s3')}/{name}"


@pytest.fixture(scope="package")
def whole(tmp_path_factory) -> Path:
    """A stored comparison of a few runs."""
    folder, store = build(tmp_path_factory.mktemp("whole"), curves=False, items=0.02)
    write_record(folder, read_record(folder) or {})
    for key in sorted(store.keys()):
        run = store.run(key)
        run.weights_folder.mkdir()
        run.weights.write_bytes(b"\x08\0\0\0\0\0\0\0{}      ")
        run.seal()
    return folder


@pytest.fixture
def folder(whole, tmp_path) -> Path:
    shutil.copytree(whole.parent, tmp_path / "store")
    return tmp_path / "store" / whole.name
