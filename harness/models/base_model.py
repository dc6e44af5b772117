"""Base models: loading, hashing, batches, the forward pass, and weights by name.

Batches are right-padded and attention is causal, so a real token never sees padding and no mask is passed: the fast attention
kernels apply, and rows cannot attend to each other. The language-model head runs only where a token is supervised: a pre-hook
on the head keeps those places, for every architecture and wrapper.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import nn

from harness.checkpoints.loading import config_of, load_model
from harness.contract import Weights
from harness.store.files import is_local, read_bytes, replacing, share


@dataclass(frozen=True)
class BaseModel:
    """The untouched base: its folder, and the hash of its weights."""

    path: str
    """Folder or hub id."""
    tokenizer: Any
    hash: str
    """Of all weights, by `weights_hash`: keys every cache."""
    parameters: int
    """Unique parameters, tied ones once."""
    max_length: int
    """Longest sequence in tokens."""
    notes: tuple[str, ...] = ()
    """What the report must say of it."""
    _held: dict[torch.dtype, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def hold(self, *dtypes: torch.dtype) -> None:
        """Keep the model in the memory of this process and of its forks, so that `load` copies it from there."""
        for dtype in dtypes:
            self._held[dtype] = self.original(dtype)

    @property
    def held(self) -> list[nn.Module]:
        """The models that are kept in this process's memory."""
        return list(self._held.values())

    def original(self, dtype: torch.dtype) -> Any:
        """Return the model in this dtype in the host's memory, to be read only: it may be held."""
        return self._held.get(dtype) or load_model(self.path, dtype)

    def load(self, dtype: torch.dtype, device: torch.device | str = "cpu") -> Any:
        """Return a fresh copy of the model in this dtype."""
        held = self._held.get(dtype)
        return load_model(self.path, dtype, device) if held is None else copied(held, device)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_held": {}}  # never sent: it is as large as the model


def architecture_of(path: str) -> str:
    """Return what transformers calls the kind of model at `path`: `qwen3`, `llama` ..."""
    return config_of(path).model_type


def copied(model: nn.Module, device: torch.device | str, kept: Iterable[nn.Parameter] = ()) -> Any:
    """Return a copy of the model on this device; tensors in `kept` are shared, not copied.

    Tied weights stay tied.
    """
    # deepcopy asks this memo first: tensors in it are not copied, so tied weights stay tied.
    memo: dict[int, Any] = {id(parameter): parameter for parameter in kept}
    for tensor in chain(model.parameters(), model.buffers()):
        if id(tensor) not in memo:
            moved = tensor.detach().to(device, copy=True)
            memo[id(tensor)] = nn.Parameter(moved, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else moved
    return copy.deepcopy(model, memo)


def empty_model(path: str) -> Any:
    """Return the same architecture without weights (meta device, eager attention): priced, never run."""
    from transformers import AutoModelForCausalLM

    config = config_of(path)

    # A cache would count as work.
    config.use_cache = False
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, attn_implementation="eager", dtype=torch.bfloat16)


# --- weights -----------------------------------------------------------------------------------------------------


def own_weights(model: nn.Module) -> Weights:
    """Return an unwrapped model's weights by name, not copied: to be read only; tied weights once."""
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def kept_buffers(model: nn.Module) -> Weights:
    """Return what a checkpoint holds beside parameters, by name: biases of routers, say."""
    stored = model.state_dict().keys()
    return {name: buffer for name, buffer in model.named_buffers() if name in stored}


def plain_weights(model: nn.Module) -> Weights:
    """Return fp32 copies of an unwrapped model's weights by name; tied weights once."""
    return {name: p.detach().to(torch.float32, copy=True) for name, p in model.named_parameters()}


def weights_hash(weights: Weights) -> str:
    """Return 16 hex digits over names and fp32 bytes: equal weights and only they have equal hashes."""
    # In fp32 and sorted by name, so that the hash depends on neither precision nor order of a file.
    digest = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].detach().to("cpu", torch.float32).contiguous()
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()[:16]


def save_model(base: BaseModel, weights: Weights, folder: Path) -> None:
    """Write a folder that transformers loads, in fp32: the base's configuration and tokenizer, and these plain weights."""
    # Through transformers' own class, so that the folder has what every other tool expects.
    model = base.load(torch.float32)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(weights[name])
    with replacing(folder) as fresh:
        model.save_pretrained(fresh)
        base.tokenizer.save_pretrained(fresh)


def save_weights(weights: Weights, path: Path) -> None:
    """Save plain weights as one safetensors file."""
    from safetensors.torch import save_file

    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, path)
    share(path)


def read_weights(path: Path) -> Weights:
    """Return what `save_weights` wrote, on whatever file system."""
    from safetensors.torch import load, load_file

    # safetensors maps local files into memory; from an object store the bytes are fetched first.
    return load_file(path) if is_local(path) else load(read_bytes(path))
