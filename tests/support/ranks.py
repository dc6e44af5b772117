"""What the processes of tests of ranks do; they find it by its name."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from harness.decoding.open_model import open_base
from harness.models.base_model import save_weights
from harness.training.loop import train
from harness.workers.ranks import RankInfo
from tests.support.short import Short
from tests.support.training import make_run

SETTINGS: dict[str, Any] = {"meter": "steps", "allowed": 4, "micro_tokens": 64, "learning_rate": 3e-3}


def train_into(run, folder: Path, report=lambda _: None, **options) -> None:
    """Train; the first process leaves weights and ledger in `folder`, beside the log."""
    folder.mkdir(parents=True, exist_ok=True)
    weights, _ = train(run, folder, lambda _, weights, run: weights(), report, **options)
    if run.engine.rank == 0:
        save_weights(weights, folder / "weights.safetensors")
        (folder / "ledger.json").write_text(json.dumps(run.ledger.record()))


def train_recipes(
    info: RankInfo, send, path: str, recipes: Sequence[str], folder: Path, config: Any = None, changes: Any = None
) -> None:
    """Each recipe in turn, by the same processes; `changes`: of the settings."""
    engine = info.join("cpu", config)
    for recipe in recipes:
        run = make_run(open_base(path), recipe, **SETTINGS | (changes or {}))
        run.engine = engine
        train_into(run, folder / recipe)
        send({"done": recipe})


def train_and_die(info: RankInfo, send, path: str, recipe: str, folder: Path, config: Any = None, changes: Any = None) -> None:
    """Checkpoint every step; the second process falls dead after the third."""
    run = make_run(open_base(path), recipe, **SETTINGS | (changes or {}))
    run.engine = info.join("cpu", config)

    def report(entry: dict[str, Any]) -> None:
        if entry["step"] == 3 and info.rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    train_into(run, folder / recipe, report, checkpoint_every=0.0)


def train_short(info: RankInfo, send, path: str, folder: Path) -> None:
    """Plain fine-tuning; memory runs out for the second process alone, in the second step."""
    run = make_run(open_base(path), "sft", **SETTINGS)
    run.engine, run.methods = info.join("cpu", None), (Short(limit=32, begin=2, rank=1),)
    train_into(run, folder)


def run_out(info: RankInfo, send, told: Path) -> None:
    """The second process runs out of memory, and the first falls dead by that."""
    if info.rank == 1:
        told.touch()
        raise torch.OutOfMemoryError("CUDA out of memory.")
    while not told.exists():
        time.sleep(0.01)
    time.sleep(0.3)
    os.kill(os.getpid(), signal.SIGABRT)


def lose_another(info: RankInfo, send, lost: int) -> None:
    """One process kills the other and stumbles over that itself; the first tells of both before."""
    import torch.distributed as dist

    store: Any = dist.TCPStore(*info.meeting, is_master=False)  # type: ignore
    store.set(str(info.rank), str(os.getpid()))
    processes = [int(store.get(str(rank))) for rank in range(2)]
    if info.rank == 0:
        send({"processes": processes})
        store.set("told", "")
    if info.rank == lost:
        signal.pause()
    store.get("told")
    os.kill(processes[lost], signal.SIGKILL)
    raise RuntimeError("Connection closed by peer")


def lose_memory_first(info: RankInfo, send, told: Path) -> None:
    """Rank 0 runs out of memory, and a moment later rank 1 fails because of it."""
    if info.rank == 0:
        send("begun")
        told.touch()
        raise torch.OutOfMemoryError("CUDA out of memory")
    while not told.exists():
        time.sleep(0.05)
    time.sleep(1)
    raise RuntimeError("Connection closed by peer")


def tell_gpus(info: RankInfo, send) -> None:
    """The GPUs that this process sees."""
    send({"gpus": os.environ.get("CUDA_VISIBLE_DEVICES")})


def whereabouts(info: RankInfo) -> tuple[str, str, int, str]:
    """Of one rank on a Ray cluster: its node, the GPUs it sees, its own of them, and where the store is that it can reach."""
    import ray
    import torch.distributed as dist

    dist.TCPStore(*info.meeting, is_master=False)  # type: ignore
    return ray.get_runtime_context().get_node_id(), os.environ["CUDA_VISIBLE_DEVICES"], info.gpu, info.meeting[0]
