"""Checkpoints of a running training: everything a resumed run needs to end bit-identical to an uninterrupted one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from harness.contract import Method
from harness.files import replacing
from harness.masters import Masters


def save_checkpoint(
    folder: Path, masters: Masters, optimizer: torch.optim.Optimizer, methods: list[Method], progress: dict[str, Any]
) -> None:
    """Write masters, optimizer moments, what methods prepared, and the progress record; whole or not at all."""
    tensors = {f"master/{name}": tensor.detach() for name, tensor in masters.values.items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{name}": torch.as_tensor(value) for name, value in state.items()}
    for index, method in enumerate(methods):
        tensors |= {f"method/{index}/{name}": tensor for name, tensor in method.state().items()}
    with replacing(folder) as fresh:
        save_file({name: tensor.contiguous().cpu() for name, tensor in tensors.items()}, fresh / "state.safetensors")
        (fresh / "progress.json").write_text(json.dumps(progress))


def read_progress(folder: Path) -> dict[str, Any] | None:
    """The progress record, or None where there is no checkpoint."""
    path = folder / "progress.json"
    return json.loads(path.read_text()) if path.exists() else None


def restore_methods(folder: Path, methods: list[Method], device: torch.device) -> None:
    """Give methods back what they prepared, on the device they prepared it on."""
    tensors = load_file(folder / "state.safetensors", device=str(device))
    for index, method in enumerate(methods):
        own = f"method/{index}/"
        method.restore({name.removeprefix(own): t for name, t in tensors.items() if name.startswith(own)})


def restore_training(folder: Path, masters: Masters, optimizer: torch.optim.Optimizer) -> None:
    """Give masters and optimizer back their values."""
    tensors = load_file(folder / "state.safetensors")
    with torch.no_grad():
        for name, master in masters.values.items():
            master.copy_(tensors[f"master/{name}"])
    masters.publish()
    state: dict[int, dict[str, Any]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer/"):
            _, index, key = name.split("/")
            state.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict(optimizer.state_dict() | {"state": state})
