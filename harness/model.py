"""Base models: loading, hashing, batches, the forward pass, and weights by name.

Batches are right-padded and attention is causal, so a real token never sees padding and no mask is passed: the fast
attention kernels apply, and rows cannot attend to each other. The language-model head runs only where a token is
supervised: a pre-hook on the head keeps those places, whatever the architecture and whatever wraps it.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.contract import Batch, Example, Weights
from harness.errors import raise_faults
from harness.files import is_local, read_bytes, replacing
from harness.loading import config_of, context_length, load_model, load_tokenizer, value_faults, vocabulary_faults
from harness.model_files import check_files
from harness.packing import inputs_of


@dataclass(frozen=True)
class BaseModel:
    """The untouched base: where it is, and what names it."""

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
        """Keep the model in this process's memory, and in that of processes forked from it: `load` then copies it."""
        for dtype in dtypes:
            self._held[dtype] = self.original(dtype)

    def original(self, dtype: torch.dtype) -> Any:
        """The model in this dtype in the host's memory, to be read only: it may be held."""
        return self._held.get(dtype) or load_model(self.path, dtype)

    def load(self, dtype: torch.dtype, device: torch.device | str = "cpu") -> Any:
        """A fresh copy of the model in this dtype."""
        held = self._held.get(dtype)
        return load_model(self.path, dtype, device) if held is None else copied(held, device)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_held": {}}  # never sent: it is as large as the model


def open_base(path: str) -> BaseModel:
    """Load tokenizer and weights once to learn what the base is. Raises PlanError where it cannot be used as it is."""
    from harness.capabilities import capabilities_of, forward_faults

    check_files(path)
    config_of(path)
    tokenizer = load_tokenizer(path)
    model = load_model(path, torch.float32)
    faults = [*value_faults(model), *vocabulary_faults(model, tokenizer)] or list(forward_faults(model))
    raise_faults([f"model '{path}': {fault}" for fault in faults])
    able = capabilities_of(model)
    parameters = sum(p.numel() for p in model.parameters())
    limit = context_length(model.config, tokenizer)
    return BaseModel(
        path, tokenizer, weights_hash(own_weights(model) | kept_buffers(model)), parameters, limit, tuple(able.notes)
    )


def architecture_of(path: str) -> str:
    """What transformers calls the kind of model at `path`: `qwen3`, `llama` ..."""
    return config_of(path).model_type


def copied(model: nn.Module, device: torch.device | str, kept: Iterable[nn.Parameter] = ()) -> Any:
    """A copy of the model with its tensors on this device, which shares those that are `kept`; tied weights stay tied."""
    there: dict[int, Any] = {id(parameter): parameter for parameter in kept}
    for tensor in chain(model.parameters(), model.buffers()):
        if id(tensor) not in there:
            moved = tensor.detach().to(device, copy=True)
            there[id(tensor)] = nn.Parameter(moved, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else moved
    return copy.deepcopy(model, there)


def empty_model(path: str) -> Any:
    """The same architecture without weights (meta device, eager attention): priced, never run."""
    from transformers import AutoModelForCausalLM

    config = config_of(path)
    config.use_cache = False
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, attn_implementation="eager", dtype=torch.bfloat16)


def collate(examples: Sequence[Example], device: torch.device | str = "cpu", pad: int = 0) -> Batch:
    """One right-padded micro-batch. The label of a place is the token after it, so targets are shifted by one here."""
    width = max(len(example) for example in examples)
    tokens = torch.full((len(examples), width), pad)
    mask = torch.zeros((len(examples), width), dtype=torch.long)
    supervised = torch.zeros((len(examples), width), dtype=torch.bool)
    for row, example in enumerate(examples):
        tokens[row, : len(example)] = torch.tensor(example.tokens)
        mask[row, : len(example)] = 1
        supervised[row, : len(example)] = torch.tensor(example.supervised)
    supervised[:, 0] = False  # nothing predicts the first token
    targets = supervised.flatten().nonzero().squeeze(1)
    labels = tokens.flatten()[targets]
    tokens, mask, places, labels = (part.to(device) for part in (tokens, mask, targets - 1, labels))
    return Batch(tokens, mask, places, labels, tuple(examples))


def micro_batches(examples: Sequence[Example], limit: int, overhead: int = 64) -> list[list[Example]]:
    """Cut examples into groups of similar length, padded to at most `limit` tokens each.

    A longer example joins a group unless the padding this adds costs more than starting a new group (`overhead`, in tokens).
    The order is by (length, id): fixed by the examples alone, so that a step's arithmetic never depends on their order.
    """
    groups: list[list[Example]] = []
    for example in sorted(examples, key=lambda e: (len(e), e.id)):
        group = groups[-1] if groups else []
        padding = len(group) * (len(example) - len(group[-1])) if group else 0
        if group and padding <= overhead and (len(group) + 1) * len(example) <= limit:
            group.append(example)
        else:
            groups.append([example])
    return groups


@contextmanager
def head_at(model: nn.Module, places: Tensor, width: int) -> Iterator[None]:
    """Inside, the head sees only the flat `places` of the last `width` positions (virtual tokens stand in front)."""

    def keep(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        hidden = args[0][:, args[0].shape[1] - width :]
        return (hidden.reshape(-1, hidden.shape[-1]).index_select(0, places).unsqueeze(0), *args[1:])

    handle = model.get_output_embeddings().register_forward_pre_hook(keep)  # type: ignore[operator]
    try:
        yield
    finally:
        handle.remove()


def logits_at(model: nn.Module, batch: Batch, **options: Any) -> Tensor:
    """(S, V) logits that predict the supervised tokens, fp32."""
    if batch.documents:
        options |= inputs_of(batch)
    with head_at(model, batch.places, batch.tokens.shape[1]):
        return model(input_ids=batch.tokens, use_cache=False, **options).logits[0].float()


def nll(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """(S,) loss of each supervised token in nats, and the (S, V) logits, both fp32."""
    logits = logits_at(model, batch)
    return F.cross_entropy(logits, batch.labels, reduction="none"), logits


# --- weights -----------------------------------------------------------------------------------------------------


def own_weights(model: nn.Module) -> Weights:
    """An unwrapped model's weights by name, not copied: to be read only; tied weights once."""
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def kept_buffers(model: nn.Module) -> Weights:
    """What a checkpoint holds beside parameters, by name: biases of routers, say."""
    stored = model.state_dict().keys()
    return {name: buffer for name, buffer in model.named_buffers() if name in stored}


def plain_weights(model: nn.Module) -> Weights:
    """fp32 copies of an unwrapped model's weights by name; tied weights once."""
    return {name: p.detach().to(torch.float32, copy=True) for name, p in model.named_parameters()}


def weights_hash(weights: Weights) -> str:
    """16 hex digits over names and fp32 bytes: equal weights and only they have equal hashes."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].detach().to("cpu", torch.float32).contiguous()
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()[:16]


def save_model(base: BaseModel, weights: Weights, folder: Path) -> None:
    """A folder that transformers loads, in fp32: the base's configuration and tokenizer with these plain (folded) weights."""
    model = base.load(torch.float32)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(weights[name])
    with replacing(folder) as fresh:
        model.save_pretrained(fresh)
        base.tokenizer.save_pretrained(fresh)


def save_weights(weights: Weights, path: Path) -> None:
    """Plain weights as one safetensors file."""
    from safetensors.torch import save_file

    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, path)


def read_weights(path: Path) -> Weights:
    """What `save_weights` wrote, on whatever file system."""
    from safetensors.torch import load, load_file

    return load_file(path) if is_local(path) else load(read_bytes(path))
