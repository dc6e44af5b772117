"""Checkpoints of a running training: everything a resumed run needs to end bit-identical to an uninterrupted one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from harness.contract import Method
from harness.files import replacing
from harness.masters import Masters

STATE = "state.safetensors"


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
    return {f"method/{index}/{name}": tensor for index, method in enumerate(methods) for name, tensor in method.state().items()}


def read_progress(folder: Path) -> dict[str, Any] | None:
    """The progress record, or None where there is no checkpoint."""
    path = folder / "progress.json"
    return json.loads(path.read_text()) if path.exists() else None


def restore_methods(path: Path, methods: Sequence[Method], device: torch.device) -> None:
    """Give methods back what they prepared, on the device they prepared it on."""
    tensors = load_file(path, device=str(device))
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
