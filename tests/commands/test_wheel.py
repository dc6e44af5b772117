"""Every command from a wheel, in an empty folder: nothing may need the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.training import small_files

ROOT = Path(__file__).parents[2]
PACKAGES = ("lethe", "harness", "trainers", "suites")


@pytest.fixture(scope="module")
def command(tmp_path_factory) -> Path:
    """`lethe` of an environment that holds the wheel; everything it depends on is this environment's."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in (*PACKAGES, "pyproject.toml", "README.md", "LICENSE"):
        origin = ROOT / name
        if origin.is_dir():
            shutil.copytree(origin, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(origin, source / name)
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(folder), str(source)]
    built = subprocess.run(build, capture_output=True, text=True, check=False)
    if built.returncode != 0:
        pytest.skip(f"no wheel can be built here: {built.stderr.strip()[-300:]}")
    environment = folder / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    python = environment / "bin" / "python"
    wheel = next(folder.glob("lethe-*.whl"))
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "--no-deps", str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    # what the wheel depends on is found behind it, and this checkout is not
    own = next((environment / "lib").glob("python*")) / "site-packages"
    packages = [path for path in sys.path if Path(path).name == "site-packages"]
    (own / "zz_dependencies.pth").write_text("\n".join(packages) + "\n")
    return environment / "bin" / "lethe"


@pytest.mark.slow
def test_every_command_works_from_a_wheel(command, tiny_path, tmp_path):
    """One small comparison, and every command that reads it."""
    files = small_files(tmp_path)
    empty = tmp_path / "empty"
    empty.mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def lethe(*arguments: str, code: int = 0) -> str:
        done = subprocess.run([command, *arguments], cwd=empty, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == code, f"lethe {' '.join(arguments)}\n{done.stdout}{done.stderr}"
        return done.stdout

    plan = ["--model", tiny_path, "--data", files["data"], "--suites", files["suites"], "--precision", "float32"]
    plan += ["--recipes", "sft", "--budget", "4steps", "--batch-size", "8", "--name", "small"]
    where = subprocess.run(
        [command.parent / "python", "-c", "import harness; print(harness.__file__)"],
        cwd=empty,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert str(command.parents[1]) in where.stdout, "the wheel's own harness is imported, not the checkout's"
    lethe("--version")
    assert "sft" in lethe("recipes")
    lethe("plan", *plan)
    lethe("compare", *plan)
    lethe("report", "small")
    assert (empty / "results" / "small" / "report.html").exists()
    lethe("data", "inspect", files["data"], "--model", tiny_path)
    lethe("export", "small", "--to", "model", "--recipe", "sft")
    lethe("repair", tiny_path, "model", "--by", "wise", "--to", "mended")
    lethe("annotate", "export", "small", "--to", "forms", "--annotators", "1")
    lethe("publish", "results/small", "--to", "site")
    lethe("reproduce", "results/small")
    lethe("check", "--evidence", "nowhere.json", code=3)
    assert (empty / "site" / "index.html").exists()
