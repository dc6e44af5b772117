"""Stores on every kind of file system (a folder, fsspec's memory, a server that speaks S3), and what lies in them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from harness.store.files import read_record
from harness.store.runs import RunStore

KINDS = ("local", "memory", "s3")


@contextmanager
def s3_server() -> Iterator[str]:
    """The address of an empty bucket; this process and those it starts find the server by their environment."""
    import logging

    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    access = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any", "AWS_DEFAULT_REGION": "us-east-1"}
    try:
        with mock.patch.dict(os.environ, access | {"AWS_ENDPOINT_URL": f"http://{host}:{port}"}):
            import s3fs

            s3fs.S3FileSystem(skip_instance_cache=True).mkdir("bucket")
            yield "s3://bucket"
            s3fs.S3FileSystem.clear_instance_cache()
    finally:
        server.stop()


def a_file(folder: Path, name: str) -> Path:
    """That file of a run that has one, the last in the record."""
    store = RunStore(folder.parent / "runs")
    record = read_record(folder) or {}
    runs = [store.run(entry["key"]).path for entry in record["rows"] if entry["role"] == "recipe"]
    run = [path for path in runs if (path / "run.json").exists()][-1]
    return next((run / "evals").glob("final-*.parquet")) if name == "evals" else run / name
