from __future__ import annotations

import torch

from harness.checkpoints.files import check_files
from harness.checkpoints.loading import (
    changed_weights,
    config_of,
    context_length,
    load_model,
    load_tokenizer,
    value_faults,
    vocabulary_faults,
)
from harness.errors import raise_faults
from harness.models.base_model import BaseModel, kept_buffers, own_weights, weights_hash


def open_base(path: str) -> BaseModel:
    """Load tokenizer and weights once to describe the base. Raises PlanError if it cannot be used as it is."""
    from harness.decoding.capabilities import capabilities_of, forward_faults

    check_files(path)
    config_of(path)
    tokenizer = load_tokenizer(path)
    model = load_model(path, torch.float32)
    faults = [*value_faults(model), *vocabulary_faults(model, tokenizer)] or list(forward_faults(model))
    raise_faults([f"model '{path}': {fault}" for fault in faults])
    notes = (*changed_weights(model, path), *capabilities_of(model).notes)
    parameters = sum(p.numel() for p in model.parameters())
    limit = context_length(model.config, tokenizer)
    return BaseModel(path, tokenizer, weights_hash(own_weights(model) | kept_buffers(model)), parameters, limit, notes)
