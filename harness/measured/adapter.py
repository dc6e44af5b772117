"""A peft adapter on its base: merged into the base's weights where it folds, around the model where it does not."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import torch

from harness.checkpoints.hub import loading
from harness.checkpoints.weight_files import some
from harness.errors import PlanError, one_line
from harness.models.base_model import BaseModel


def load_adapted(path: str, base: BaseModel, dtype: torch.dtype, notes: list[str]) -> Any:
    """Return the base with the adapter at `path`. It is merged in fp32, also if it is scored in another precision.

    Raises PlanError where the adapter cannot be read, or does not name the weights of this base.
    """
    wrapped = _wrapped(path, base, notes)
    config = wrapped.peft_config[wrapped.active_adapter]
    kind = str(getattr(config.peft_type, "value", config.peft_type)).lower()
    model = None
    # Virtual tokens stand in front of a text, so nothing of them folds into weights.
    if not config.is_prompt_learning:
        try:
            model = wrapped.merge_and_unload(safe_merge=True)
        except (NotImplementedError, AttributeError, TypeError):
            wrapped = _wrapped(path, base, [])  # what a merge that stopped half way left is not the adapter
        except ValueError as error:  # safe_merge found values that are not finite
            raise PlanError(f"adapter '{path}' cannot be merged ({one_line(error)}); give an earlier checkpoint") from error
    folded = "merged into the base's weights" if model is not None else "kept around the base, since it does not fold"
    notes.append(f"an adapter ({kind}), {folded}.")
    return (wrapped if model is None else model).to(dtype).eval()


def _wrapped(path: str, base: BaseModel, notes: list[str]) -> Any:
    """Return the base wrapped by peft, with every weight of the adapter from its files and none left over."""
    from peft import PeftConfig, PeftModel, get_peft_model_state_dict
    from peft.utils.save_and_load import load_peft_weights

    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)

    # What peft warns of is checked here by name, weight for weight.
    local = {"local_files_only": loading(path)["local_files_only"]}
    try:
        config = PeftConfig.from_pretrained(path, **local)
        saved = load_peft_weights(path, device="cpu", **local)
        model = base.load(torch.float32)
        _make_room(model, saved, notes)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what it warns of is checked below
            wrapped = PeftModel.from_pretrained(model, path, torch_device="cpu", **local)
    except Exception as error:  # of many kinds: a file, a type that this peft does not have, shapes of another base
        cure = "give an adapter that was trained on this base, with all of its files"
        raise PlanError(f"adapter '{path}' does not go on '{base.path}' ({one_line(error)}); {cure}") from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        own_state = get_peft_model_state_dict(wrapped, save_embedding_layers=False)
    everything = wrapped.state_dict().keys() | own_state.keys()
    missing = sorted(own_state.keys() - saved.keys())
    unexpected = sorted(saved.keys() - everything)
    if missing or unexpected:
        parts = [f"lacks {some(missing)}"] if missing else []
        parts += [f"has no place for {some(unexpected)}"] if unexpected else []
        raise PlanError(f"adapter '{path}' {' and '.join(parts)} on '{base.path}'; give the base that it was trained on")

    # An adapter of another base of the same shapes loads without a word.
    named = config.base_model_name_or_path
    if named and Path(str(named)).name != Path(base.path).name:
        notes.append(f"its adapter_config.json names {named} as its base; here it stands on {base.path}.")
    return wrapped


def _make_room(model: Any, saved: dict[str, Any], notes: list[str]) -> None:
    """Give the embedding the rows that the adapter brings with added tokens."""
    rows = model.get_input_embeddings().weight.shape[0]
    brought = [tensor.shape[0] for name, tensor in saved.items() if name.endswith(("embed_tokens.weight", "wte.weight"))]
    # The rows of added tokens come with the adapter, so their start does not matter.
    if brought and brought[0] != rows:
        model.resize_token_embeddings(brought[0], mean_resizing=False)
        notes.append(f"brings an embedding of {brought[0]:,} rows, where the base has {rows:,}.")
