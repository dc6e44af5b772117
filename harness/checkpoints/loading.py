"""From a checkpoint to a model and a tokenizer: every weight comes from its files, and none is left over.

transformers draws what it does not find at random, anew at each load; here that is refused.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from safetensors import safe_open
from torch import nn

from harness.checkpoints.hub import folder_of, loading
from harness.checkpoints.weight_files import some
from harness.errors import PlanError, one_line, raise_faults


def load_tokenizer(path: str) -> Any:
    """Return the tokenizer at `path`. Raises PlanError where it cannot be loaded, or has no end token."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(path, **loading(path))
        tokens = tokenizer("a b", add_special_tokens=False)["input_ids"]
    except Exception as error:  # whatever a broken file makes of it
        cure = "save the original tokenizer into the folder again"
        raise PlanError(f"model '{path}': its tokenizer cannot be loaded ({one_line(error)}); {cure}") from error

    # A tokenizer may load from half of its files, and turn every text into nothing.
    if not tokens or len(tokenizer) <= len(tokenizer.all_special_ids):
        raise PlanError(f"model '{path}': its tokenizer has no vocabulary; save the original tokenizer into the folder again")
    if tokenizer.eos_token_id is None:
        raise PlanError(f"model '{path}': its tokenizer names no eos token, so answers could not end; set eos_token")
    return tokenizer


def load_model(path: str, dtype: torch.dtype, device: torch.device | str = "cpu") -> Any:
    """Return the causal language model at `path`, in eval mode, with every weight from its files and none left over.

    Raises PlanError where the files and the architecture do not name the same weights: transformers would draw what is
    missing at random, anew at each load.
    """
    from transformers import AutoModelForCausalLM
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    config = config_of(path)
    try:
        with _quiet():
            options = {"config": config, "dtype": dtype, "ignore_mismatched_sizes": True, "output_loading_info": True}
            loaded: Any = AutoModelForCausalLM.from_pretrained(path, **options, **loading(path))
            model, keys = loaded
    except torch.OutOfMemoryError:
        raise
    except pickle.UnpicklingError as error:
        cure = "save it as safetensors, or give a whole download"
        raise PlanError(f"model '{path}': its .bin files hold more than tensors, which is not run; {cure}") from error
    except Exception as error:  # of as many kinds as there are broken files
        kind = type(config).__name__.removesuffix("Config")
        raise PlanError(f"model '{path}': its weights cannot be loaded as {kind} ({one_line(error)})") from error
    raise_faults([f"model '{path}': {fault}" for fault in _key_faults(keys)])
    return model.to(device).eval()


def config_of(path: str) -> Any:
    """Return the configuration at `path`. Raises PlanError if transformers has no causal language model for it."""
    from transformers import CONFIG_MAPPING, AutoConfig, PreTrainedConfig, __version__
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

    try:
        raw, _ = PreTrainedConfig.get_config_dict(path, **loading(path))
        kind = raw.get("model_type")
        if kind not in CONFIG_MAPPING:
            custom_code = ", only in code of its own (auto_map), which is not run" if raw.get("auto_map") else ""
            raise PlanError(f"model '{path}': transformers {__version__} does not have the architecture '{kind}'{custom_code}")
        config = AutoConfig.from_pretrained(path, **loading(path))
    except PlanError:
        raise
    except Exception as error:  # of as many kinds as there are broken files
        raise PlanError(f"model '{path}': config.json cannot be used: {one_line(error)}; take the original one") from error
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        cure = "give a model that transformers loads as AutoModelForCausalLM"
        raise PlanError(f"model '{path}': {config.model_type} is no causal language model; {cure}")
    return config


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers from printing its table of keys inside the context: what is wrong with them is raised."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


BUFFERS = ("inv_freq", "masked_bias", "attn.bias", "position_ids", "causal_mask")
"""Ends of keys that older versions stored though they follow from the configuration."""


def _key_faults(keys: Mapping[str, Any]) -> Iterator[str]:
    """Yield weights that the files lack, have beside the architecture's own, or have in another shape."""
    missing = sorted(keys["missing_keys"])
    unexpected = sorted(key for key in keys["unexpected_keys"] if not key.endswith(BUFFERS))

    # One prefix in all names is the commonest cause: a model that was saved inside its wrapper.
    between = {_between(key, set(missing)) for key in unexpected}
    if missing and len(between) == 1 and None not in between:
        yield f"the names of its weights have '{between.pop()}' in them ({some(unexpected)}); save the unwrapped model"
    elif missing and unexpected:
        wrong = f"it lacks {some(missing)}, and has no place for {some(unexpected)} of its files"
        yield f"config.json and the weights are not of one architecture: {wrong}; give both of one model"
    elif missing:
        yield f"its files lack weights that the architecture needs: {some(missing)}; save or download the whole checkpoint"
    elif unexpected:
        cure = "give config.json and weights of one model"
        yield f"its files hold weights that the architecture has no place for: {some(unexpected)}; {cure}"
    mismatched = sorted(f"{key} is {tuple(stored)}, not {tuple(wanted)}" for key, stored, wanted in keys["mismatched_keys"])
    if mismatched:
        yield f"its weights have other shapes than config.json says: {some(mismatched)}; give both of one model"
    if keys.get("error_msgs"):
        yield f"its weights cannot be read: {some(list(map(str, keys['error_msgs'])))}"


def _between(key: str, missing: set[str]) -> str | None:
    """Return what stands in the name of a weight that would else be one of the `missing`: `module.`, `_orig_mod.` ..."""
    parts = key.split(".")
    for begin in range(len(parts)):
        for end in range(begin + 1, len(parts)):
            if ".".join(parts[:begin] + parts[end:]) in missing:
                return ".".join(parts[begin:end]) + "."
    return None


FLOATS = (torch.float32, torch.bfloat16, torch.float16)
"""Types of stored weights that fp32 holds exactly."""


def value_faults(model: nn.Module) -> Iterator[str]:
    """Yield weights that are no numbers, and a model in which every matrix is 0, as a broken gathering of shards leaves it."""
    bad = []
    blank = True
    for name, parameter in model.named_parameters():
        if not parameter.numel():
            continue
        # The least and the most are not finite where any value is not; this reads a weight once and copies nothing.
        least, most = torch.aminmax(parameter.detach())
        if not (least.isfinite() and most.isfinite()):
            bad.append(name)
        blank = blank and (parameter.dim() < 2 or bool(least == most == 0))
    if bad:
        yield f"weights that are not finite (NaN or infinite): {some(bad)}; give an earlier checkpoint"
    if blank:
        yield "all its matrices are 0: it was saved without its weights; save it again, gathered, or give an earlier checkpoint"


def changed_weights(model: nn.Module, path: str) -> list[str]:
    """Return a sentence on weights that transformers gives other values than their safetensors files; none where all are equal.

    Weights that it renames, joins or cuts as it loads them are not compared. The model is in fp32.
    """
    own = dict(model.named_parameters())
    changed = []
    for file in sorted(folder_of(path).glob("model*.safetensors")):
        with safe_open(file, framework="pt") as stored:
            for name in own.keys() & set(stored.keys()):
                value = stored.get_tensor(name)
                if value.dtype in FLOATS and value.shape == own[name].shape and not torch.equal(value.float(), own[name]):
                    changed.append(name)
    if not changed:
        return []
    what = f"weights are not loaded as they stand in the files: {some(sorted(changed))}"
    return [f"{type(model).__name__}: {what}; transformers changes them, so what is measured and stored here is what it makes"]


def vocabulary_faults(model: Any, tokenizer: Any) -> Iterator[str]:
    """Yield tokens that have no row in the embedding. Special ones that nothing uses (an image's, say) may lack theirs."""
    rows = model.get_input_embeddings().weight.shape[0]
    beyond = {token: number for token, number in tokenizer.get_vocab().items() if number >= rows}
    template = json.dumps(tokenizer.chat_template or "", ensure_ascii=False)
    ends = {tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token}
    special = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    used = sorted(token for token in beyond if token not in special or token in ends or token in template)
    if used:
        cure = "give the tokenizer it was trained with, or resize_token_embeddings and train"
        yield f"its embedding has {rows:,} rows, but the tokenizer has tokens beyond them ({some(used)}); {cure}"


LENGTHS = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "max_sequence_length", "seq_length")
"""Under what names configurations have the longest sequence."""


def context_length(config: Any, tokenizer: Any) -> int:
    """Return tokens that the model can attend to; 2,048, or what its tokenizer says, where the configuration names no limit."""
    # Configurations of architectures name the limit differently; some (ALiBi) name none.
    text = config.get_text_config()
    limit = next((value for name in LENGTHS if isinstance(value := getattr(text, name, None), int) and value > 0), None)
    return int(limit or min(tokenizer.model_max_length, 2048))
