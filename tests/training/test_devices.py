"""On a GPU every tensor is where it belongs: tests/support/on_device.py on a pretended one, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("which", ["not slow", pytest.param("slow", marks=pytest.mark.slow)])
def test_on_a_pretended_gpu(which, tmp_path):
    # its own folder for temporary files: else it would spend minutes on removing those of earlier runs
    options = ["-q", "-p", "no:cacheprovider", "--basetemp", str(tmp_path / "device")]
    asked = [sys.executable, "-m", "pytest", *options, "tests/support/on_device.py", "-m", which]
    done = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
