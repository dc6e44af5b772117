"""Checkpoints of a running training: everything a resumed run needs to end bit-identical to an uninterrupted one."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NotRequired, TypedDict

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from harness.contract import Method
from harness.recipes.hooks import ask
from harness.store.files import names, replacing
from harness.store.hashes import Hashes
from harness.training.ledger import LedgerRecord
from harness.training.masters import Masters

STATE = "state.safetensors"
PROGRESS = "progress.json"


@dataclass
class Progress:
    """The state of a training besides its tensors; saved with every checkpoint."""

    steps: int = 0
    epochs: float = 0.0
    begun: int = 0
    """Steps before the stage under way."""
    stopped_by: str = "budget"
    room: int = 0
    """Most tokens per micro-batch in the step before: the log says where that changes."""
    notes: list[str] = field(default_factory=list)
    """Sentences that the report must show about how it was trained."""


class ProgressRecord(TypedDict):
    """What a resumed run must know besides tensors."""

    steps: int
    epochs: float
    begun: int
    stage: int
    notes: list[str]
    ledger: LedgerRecord
    room: int
    paid: NotRequired[int]
    """Dev evaluations charged ahead."""


class RoomRecord(TypedDict):
    """What a run whose processes began again with less room must know: the `room` record of its folder."""

    room: int
    notes: list[str]


class Checkpoints:
    """The schedule of a training's checkpoints. At most a twentieth of the time goes there, so large models save more rarely.

    `broadcast` returns rank 0's answer on every rank, `save` writes the run's present state, whole or not at all.
    `every`: least seconds between checkpoints; 0: each step.
    """

    def __init__(self, broadcast: Callable[[bool], bool], save: Callable[[Progress], None], every: float):
        self.broadcast = broadcast
        self.save = save
        self.every = every
        self.pause = every
        self.saved = time.monotonic()

    def save_if_due(self, progress: Progress) -> None:
        """Save if enough time has passed on rank 0."""
        # Rank 0's clock decides for all ranks: in a sharded run every rank writes its own part, so
        # all must save or none.
        if not self.broadcast(time.monotonic() - self.saved > self.pause):
            return
        begin = time.monotonic()
        self.save(progress)
        self.saved = time.monotonic()

        # Nineteen parts of training for one of saving. With `every` 0 a checkpoint follows each
        # step, as tests of resuming need.
        self.pause = max(self.every, 19 * (self.saved - begin)) if self.every else 0.0


def save_checkpoint(
    folder: Path, masters: Masters, optimizer: torch.optim.Optimizer, methods: Sequence[Method], progress: ProgressRecord
) -> None:
    """Write masters, optimizer moments, what methods prepared, and the progress record; whole or not at all."""
    with replacing(folder) as fresh:
        write_state(fresh / STATE, masters, optimizer.state_dict()["state"], methods)
        write_progress(fresh, progress)


def write_state(path: Path, masters: Masters, moments: Mapping[int, Mapping[str, Tensor]], methods: Sequence[Method]) -> None:
    """Write this process's tensors to one file."""
    # Both in one file: masters without their moments would resume to other bits.
    tensors = {f"master/{name}": tensor.detach() for name, tensor in masters.values.items()}
    for index, state in moments.items():
        tensors |= {f"optimizer/{index}/{name}": torch.as_tensor(value) for name, value in state.items()}
    write_tensors(path, tensors | method_tensors(methods))


def write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    save_file({name: tensor.contiguous().cpu() for name, tensor in tensors.items()}, path)


def write_progress(folder: Path, progress: ProgressRecord) -> None:
    """Write the progress record, and the hashes of all files of the checkpoint: whatever else it holds is written before."""
    (folder / PROGRESS).write_text(json.dumps(progress))
    # The hashes come last, so a checkpoint that was cut short has none and is not resumed from.
    Hashes(folder).add_files(*names(folder))


def method_tensors(methods: Sequence[Method]) -> dict[str, Tensor]:
    """Return the tensors of the methods' states, by the method's index and the tensor's name."""
    tensors = {}
    # Named by index: a recipe may not hold one method twice, but a method of a user may share its
    # name with another's class.
    for index, method in enumerate(methods):
        for name, tensor in ask(method, "state").items():
            tensors[f"method/{index}/{name}"] = tensor
    return tensors


def read_progress(folder: Path) -> ProgressRecord | None:
    """Return the progress record, or None where there is no checkpoint."""
    path = folder / PROGRESS
    return json.loads(path.read_text()) if path.exists() else None


def restore_methods(path: Path, methods: Sequence[Method], device: torch.device) -> None:
    """Restore what methods prepared, on the device they prepared it on."""
    # Moved after loading: to load_file, "cuda" is always the first GPU.
    tensors = {name: tensor.to(device) for name, tensor in load_file(path).items()}
    for index, method in enumerate(methods):
        own_names = f"method/{index}/"
        state = {}
        for name, tensor in tensors.items():
            if name.startswith(own_names):
                state[name.removeprefix(own_names)] = tensor
        method.restore(state)


def restore_masters(path: Path, masters: Masters) -> dict[int, dict[str, Tensor]]:
    """Restore the masters; return the optimizer's moments, by index and name."""
    tensors = load_file(path)
    with torch.no_grad():
        for name, master in masters.values.items():
            master.copy_(tensors[f"master/{name}"])

    # The model computes from the masters, so it must see the restored values before the first step.
    masters.publish()
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer/"):
            _, index, key = name.split("/")
            moments.setdefault(int(index), {})[key] = tensor
    return moments


def restore_training(path: Path, masters: Masters, optimizer: torch.optim.Optimizer) -> None:
    """Restore masters and optimizer."""
    moments = restore_masters(path, masters)
    optimizer.load_state_dict(optimizer.state_dict() | {"state": moments})
