"""Stores of every kind, for the tests of this folder."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

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
