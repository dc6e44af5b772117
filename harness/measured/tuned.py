"""Open a model that was tuned elsewhere: what form it has, how it differs from the base, and what names it.

It is scored as it would be used: by its own configuration, in its own chat template, with its own stops. Where its tokens,
template, context and vocabulary are the base's, it is asked the very requests of the base; else its own are rendered.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from harness.checkpoints.files import has_tokenizer
from harness.checkpoints.hub import folder_of
from harness.checkpoints.loading import (
    config_of,
    context_length,
    load_model,
    load_tokenizer,
    value_faults,
    vocabulary_faults,
)
from harness.decoding.capabilities import forward_faults
from harness.errors import PlanError, raise_faults
from harness.measured.adapter import load_adapted
from harness.measured.forms import Form, form_of
from harness.measured.kinship import Kinship, kinship, tokens_hash
from harness.measured.read_back import gguf_file, load_gguf, load_quantised
from harness.models.base_model import BaseModel, kept_buffers, own_weights, read_weights, weights_hash
from harness.store.runs import RunFolder
from harness.store.schema import key_of

VOLATILE = ("_name_or_path", "transformers_version", "dtype", "torch_dtype", "use_cache", "quantization_config")
"""Entries of a configuration that decide no answer."""


@dataclass(frozen=True)
class Tuned:
    """A model tuned elsewhere."""

    path: str
    form: Form
    hash: str
    """Of all that decides its answers: weights, configuration, stops, and its tokens where they are not the base's."""
    parameters: int
    kinship: Kinship
    own: BaseModel | None
    """Its tokenizer and context, where it is asked otherwise than the base."""
    notes: tuple[str, ...]
    """What the report must say of it."""

    def record(self) -> dict[str, Any]:
        """Return what a run's record keeps of it."""
        facts = {"path": self.path, "form": str(self.form), "hash": self.hash, "parameters": self.parameters}
        # Only what differs: an empty sentence says that it is the same.
        differs = {name: text for name, text in asdict(self.kinship).items() if text}
        return facts | {"differs": differs, "notes": list(self.notes)}


def open_tuned(path: str, base: BaseModel) -> Tuned:
    """Load a tuned model once to describe it. Raises PlanError if it cannot be scored as it is."""
    form, notes = form_of(path), list[str]()
    tokenizer = _tokenizer_of(path, form, base, notes)
    model = _load(path, form, base, torch.float32, notes)
    faults = [*value_faults(model), *vocabulary_faults(model, tokenizer)] or list(forward_faults(model))
    raise_faults([f"model '{path}': {fault}" for fault in faults])

    # Asked as the base is, unless its tokens, its template or its context differ.
    length = context_length(model.config, tokenizer)
    kin = kinship(base, config_of(base.path), model, tokenizer, length)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    weights = weights_hash(own_weights(model) | kept_buffers(model))
    prompted_by = None if kin.asked_alike else [tokens_hash(tokenizer), length]
    own_base = None if kin.asked_alike else BaseModel(path, tokenizer, weights, parameters, length)
    all_notes = tuple(f"{path}: {note}" for note in (*notes, *kin.notes))
    return Tuned(path, form, key_of([weights, _settings(model), prompted_by]), parameters, kin, own_base, all_notes)


def load_tuned(tuned: Tuned, base: BaseModel, dtype: torch.dtype) -> Any:
    """Return the model to score, in the host's memory and in eval mode."""
    return _load(tuned.path, tuned.form, base, dtype, [])


def _load(path: str, form: Form, base: BaseModel, dtype: torch.dtype, notes: list[str]) -> Any:
    """Load a model of this form. Raises PlanError where it does not go with the base; what is to be said goes to `notes`."""
    match form:
        case Form.RUN:
            return _load_run(Path(path).expanduser(), base, dtype)
        case Form.ADAPTER:
            return load_adapted(path, base, dtype, notes)
        case Form.QUANTISED:
            return load_quantised(path, dtype, notes)
        case Form.GGUF:
            return load_gguf(path, dtype, notes)
        case Form.CHECKPOINT:
            return load_model(path, dtype)


def _load_run(path: Path, base: BaseModel, dtype: torch.dtype) -> Any:
    """Return the base with the final weights of a run of a store. Raises PlanError where it ran on another base."""
    folder = RunFolder(path)
    question = folder.read("run")["asked"]
    if question["model"]["hash"] != base.hash:
        theirs = f"'{question['model']['name']}' ({question['model']['hash']})"
        raise PlanError(f"run '{path}' was trained on {theirs}, not on '{base.path}' ({base.hash}); give that base")

    # By name into the base's own parameters: what a run adds and does not fold has no place there.
    weights = read_weights(folder.weights)
    model = base.load(dtype)
    parameters = dict(model.named_parameters())
    if added := sorted(weights.keys() - parameters.keys()):
        cure = "measure it in its own comparison, where the method wraps the base"
        raise PlanError(f"run '{path}' ({question['recipe']}) adds {len(added)} weights that do not fold into the base; {cure}")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(weights[name])
    return model


def _tokenizer_of(path: str, form: Form, base: BaseModel, notes: list[str]) -> Any:
    """Return the tokenizer of a tuned model; the base's, and its template, where the model's folder has none."""
    # A run was trained with the base's tokenizer.
    if form is Form.RUN:
        return base.tokenizer
    if form is Form.GGUF:
        return _gguf_tokenizer(path, base, notes)
    if not has_tokenizer(folder_of(path)):
        if form is not Form.ADAPTER:
            notes.append("its folder has no tokenizer: it is asked with the base's.")
        return base.tokenizer
    tokenizer = load_tokenizer(path)
    return _with_template(tokenizer, base, notes)


def _gguf_tokenizer(path: str, base: BaseModel, notes: list[str]) -> Any:
    from transformers import AutoTokenizer

    file = gguf_file(path)
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(file.parent), gguf_file=file.name, local_files_only=True)
    except Exception:  # of many kinds; a file without one, or of a form that transformers does not read
        notes.append("its tokenizer cannot be read from the GGUF file: it is asked with the base's.")
        return base.tokenizer
    return _with_template(tokenizer, base, notes)


def _with_template(tokenizer: Any, base: BaseModel, notes: list[str]) -> Any:
    """Return the tokenizer with the base's chat template where it has none."""
    # A tuned model without a template was tuned in its base's, as a rule.
    if tokenizer.chat_template is None and base.tokenizer.chat_template is not None:
        tokenizer.chat_template = base.tokenizer.chat_template
        notes.append("it has no chat template: it is asked in the base's.")
    return tokenizer


def _settings(model: Any) -> list[Any]:
    """Return what decides answers beside weights: the configuration, the stops, and an adapter's own settings."""
    config = {name: value for name, value in model.config.to_dict().items() if name not in VOLATILE}
    stops = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    adapters = {name: adapter.to_dict() for name, adapter in (getattr(model, "peft_config", None) or {}).items()}
    for adapter in adapters.values():
        # Where the adapter's base lay on somebody's disk decides no answer.
        adapter.pop("base_model_name_or_path", None)
    text = str([sorted(map(repr, config.items())), stops, sorted(map(repr, adapters.items()))])
    return [text]
