"""Where a result came from: commit, packages, machine."""

from __future__ import annotations

import os
import platform
import socket
import subprocess
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TypedDict

from harness.bundled import ROOT

PACKAGES = ("torch", "transformers", "peft", "liger_kernel", "lm_eval", "datasets", "nltk", "numpy", "pandas")


class GitState(TypedDict):
    """The state of this checkout; None where git or a repository is not there."""

    commit: str | None
    dirty: bool | None
    """Whether files that git tracks were changed."""


class Machine(TypedDict):
    """What computed."""

    python: str
    system: str
    processor: str
    cores: int | None
    cpu_capability: str
    gpu: str | None


class Provenance(TypedDict):
    """Where a result came from."""

    git: GitState
    packages: dict[str, str | None]
    machine: Machine


@cache
def host() -> str:
    """Return what process numbers are unique in: this host since it was started, and on Linux the container."""
    # Process numbers begin again with every start of a machine, and in every container.
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts += [Path("/proc/sys/kernel/random/boot_id").read_text().strip(), str(Path("/proc/self/ns/pid").readlink())]
    return " ".join(parts)


@cache
def where() -> Provenance:
    """Return the commit and dirty flag of this checkout, versions of what computes, and the machine."""
    return {"git": _git(), "packages": versions(), "machine": _machine()}


def _git() -> GitState:
    def git(*words: str) -> str | None:
        done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else None

    try:
        # Files that git does not track are no part of the code.
        commit = git("rev-parse", "HEAD")
        changes = git("status", "--porcelain", "--untracked-files=no")
    except FileNotFoundError:  # git is not installed
        return {"commit": None, "dirty": None}
    return {"commit": commit, "dirty": None if changes is None else bool(changes)}


def versions() -> dict[str, str | None]:
    """Return the versions of the packages that numbers depend on; None where one is not installed."""
    installed: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            installed[name] = version(name)
        except PackageNotFoundError:
            installed[name] = None
    return installed


def _machine() -> Machine:
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "python": platform.python_version(),
        "system": platform.system(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "gpu": gpu,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()
