"""Checkpoints of a running training: everything a resumed run needs to end bit-identical to an uninterrupted one."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from harness.contract import Method
from harness.recipes.hooks import ask
from harness.store.files import replacing
from harness.training.masters import Masters

STATE = "state.safetensors"


@dataclass
class Progress:
    """Where a training stands; saved with every checkpoint."""

    steps: int = 0
    epochs: float = 0.0
    begun: int = 0
    """Steps before the stage under way."""
    stopped_by: str = "budget"
    room: int = 0
    """Tokens a micro-batch at most, in the step before: the log says where that changes."""
    notes: list[str] = field(default_factory=list)
    """What the report must say of how it was trained."""


class SavingEngine(Protocol):
    """What saving needs of the engine that computes the run (harness/parallel)."""

    def agreed(self, thing: bool) -> bool:
        """What the first rank gives here."""
        ...

    def save(self, folder: Path, methods: Sequence[Method], record: dict[str, Any]) -> None:
        """A checkpoint of the run as it stands; whole or not at all."""
        ...


class Checkpoints:
    """When to save where the training stands: at most a twentieth of the time goes there, so of a large model more rarely.

    `record` gives what a resumed run must know beside tensors. `every`: seconds between checkpoints at least; 0: each step.
    """

    def __init__(
        self,
        engine: SavingEngine,
        methods: Sequence[Method],
        record: Callable[[Progress], dict[str, Any]],
        folder: Path,
        every: float,
    ):
        self.engine = engine
        self.methods = methods
        self.record = record
        self.folder = folder
        self.every = every
        self.pause = every
        self.saved = time.monotonic()

    def save_if_due(self, progress: Progress) -> None:
        """Save where enough time has passed on the first rank."""
        if not self.engine.agreed(time.monotonic() - self.saved > self.pause):
            return
        begin = time.monotonic()
        self.engine.save(self.folder, self.methods, self.record(progress))
        self.saved = time.monotonic()
        self.pause = max(self.every, 19 * (self.saved - begin)) if self.every else 0.0


def save_checkpoint(
    folder: Path, masters: Masters, optimizer: torch.optim.Optimizer, methods: Sequence[Method], progress: dict[str, Any]
) -> None:
    """Write masters, optimizer moments, what methods prepared, and the progress record; whole or not at all."""
    with replacing(folder) as fresh:
        write_state(fresh / STATE, masters, optimizer.state_dict()["state"], methods)
        write_progress(fresh, progress)


def write_state(path: Path, masters: Masters, moments: dict[int, dict[str, Any]], methods: Sequence[Method]) -> None:
    """One file of this process's tensors."""
    tensors = {f"master/{name}": tensor.detach() for name, tensor in masters.values.items()}
    for index, state in moments.items():
        tensors |= {f"optimizer/{index}/{name}": torch.as_tensor(value) for name, value in state.items()}
    write_tensors(path, tensors | method_tensors(methods))


def write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    save_file({name: tensor.contiguous().cpu() for name, tensor in tensors.items()}, path)


def write_progress(folder: Path, progress: dict[str, Any]) -> None:
    (folder / "progress.json").write_text(json.dumps(progress))


def method_tensors(methods: Sequence[Method]) -> dict[str, Tensor]:
    """What methods learned, by method and name."""
    return {
        f"method/{index}/{name}": tensor
        for index, method in enumerate(methods)
        for name, tensor in ask(method, "state").items()
    }


def read_progress(folder: Path) -> dict[str, Any] | None:
    """The progress record, or None where there is no checkpoint."""
    path = folder / "progress.json"
    return json.loads(path.read_text()) if path.exists() else None


def restore_methods(path: Path, methods: Sequence[Method], device: torch.device) -> None:
    """Give methods back what they prepared, on the device they prepared it on."""
    tensors = {name: tensor.to(device) for name, tensor in load_file(path).items()}  # "cuda" is the first GPU to load_file
    for index, method in enumerate(methods):
        own = f"method/{index}/"
        method.restore({name.removeprefix(own): t for name, t in tensors.items() if name.startswith(own)})


def restore_masters(path: Path, masters: Masters) -> dict[int, dict[str, Tensor]]:
    """Give masters back their values; the optimizer's moments, by index and name."""
    tensors = load_file(path)
    with torch.no_grad():
        for name, master in masters.values.items():
            master.copy_(tensors[f"master/{name}"])
    masters.publish()
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer/"):
            _, index, key = name.split("/")
            moments.setdefault(int(index), {})[key] = tensor
    return moments


def restore_training(path: Path, masters: Masters, optimizer: torch.optim.Optimizer) -> None:
    """Give masters and optimizer back their values."""
    optimizer.load_state_dict(optimizer.state_dict() | {"state": restore_masters(path, masters)})
