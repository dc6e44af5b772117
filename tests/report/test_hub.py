"""`lethe publish --to hub:...` against a stand-in of the hub's HTTP interface."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from harness.errors import PlanError
from harness.report.hub import repository_of

ROOT = Path(__file__).parents[2]


class Hub(BaseHTTPRequestHandler):
    """Takes a repository's creation, the question how files are sent, and one commit."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if "Bearer secret" not in self.headers.get("Authorization", ""):
            self._answer({"error": "Invalid credentials"}, status=401)
        elif self.path == "/api/repos/create":
            self.server.created = json.loads(body)
            self._answer({"url": self._space(), "id": "me/board", "name": "me/board"})
        elif self.path == "/api/validate-yaml":
            self._answer({"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            files = json.loads(body)["files"]
            sent = [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in files]
            self._answer({"files": sent})
        elif "/commit/" in self.path:
            for line in body.splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    self.server.files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
            commit = "1" * 40
            self._answer({"commitUrl": f"{self._space()}/commit/{commit}", "commitOid": commit, "hookOutput": ""})
        else:
            self._answer({}, status=404)

    def do_GET(self):
        # no file is there before, so nothing has to be deleted
        if "/tree/" in self.path:
            self._answer([])
        else:
            self._answer({"id": "me/board", "siblings": [], "sha": "0" * 40, "private": False, "tags": []})

    def _space(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/spaces/me/board"

    def _answer(self, value, status=200):
        text = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


@pytest.fixture
def hub():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.files, server.created = {}, None
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def publish(hub, token: str, to: str = "hub:me/board") -> subprocess.CompletedProcess:
    """`lethe publish` in a process of its own: huggingface_hub reads its settings when it is imported."""
    own = {"HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}", "HF_TOKEN": token, "HF_HUB_OFFLINE": "0"}
    command = [sys.executable, "-m", "lethe", "publish", "results/published/finance", "--to", to]
    return subprocess.run(command, cwd=ROOT, env=os.environ | own, check=False, capture_output=True, text=True)


def test_a_site_becomes_a_static_space(hub):
    done = publish(hub, "secret")
    assert done.returncode == 0, done.stderr
    assert hub.created["sdk"] == "static" and hub.created["type"] == "space"
    assert {"index.html", "leaderboard.csv", "README.md"} <= set(hub.files)
    assert b"sdk: static" in hub.files["README.md"] and b"finance" in hub.files["index.html"]
    assert done.stdout.strip().endswith("/spaces/me/board")


def test_a_refusal_of_the_hub_is_one_sentence_with_the_cure(hub):
    done = publish(hub, "wrong")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "the hub did not take me/board" in done.stderr and "hf auth login" in done.stderr


def test_a_repository_has_an_owner_and_a_name():
    assert repository_of("site") is None and repository_of("hub:me/board") == "me/board"
    with pytest.raises(PlanError, match="hub:OWNER/NAME"):
        repository_of("hub:board")
