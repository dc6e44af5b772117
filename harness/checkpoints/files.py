"""What a checkpoint must be made of, read from its files before anything of it is loaded.

Whatever is wrong is said in one sentence that names the file and the cure. What only loading shows (keys, values, the
vocabulary) is for `harness/checkpoints/loading.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from harness.checkpoints.hub import folder_of
from harness.checkpoints.weight_files import broken, other_forms, read_object, weight_faults
from harness.errors import raise_faults

VOCABULARIES = (
    "tokenizer.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tekken.json",
)
"""Where a tokenizer's vocabulary may stand."""
BESIDE = (
    *("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "merges.txt"),
    *("chat_template.json", "chat_template.jinja", "generation_config.json"),
)
"""What may stand beside a vocabulary; transformers passes over some of these where they are broken."""
TOWERS = ("vision_config", "audio_config", "image_processor_type", "vision_tower", "mm_vision_tower")
"""Entries of configurations of models that read more than text."""


def check_files(path: str, tokenizer: bool = True) -> None:
    """Raise PlanError with all that is wrong with the model at `path`, a folder or a hub id.

    `tokenizer`: whether it must have one of its own.
    """
    folder = folder_of(path)
    name = f"model '{path}'"

    # Each kind of fault makes the next ones meaningless, so they are looked for in turn.
    faults = list(_form_faults(folder))
    if not faults:
        faults = [*_config_faults(folder), *(_tokenizer_faults(folder) if tokenizer else ())]
    faults = faults or list(weight_faults(folder, whole=Path(path).is_dir()))
    raise_faults([f"{name}: {fault}" for fault in faults])


def _form_faults(folder: Path) -> Iterator[str]:
    """Return what is wrong with a folder that holds something else than a checkpoint."""
    config = folder / "config.json"
    # An adapter folder has weights too, but of another model's layers.
    if (adapter := folder / "adapter_config.json").exists():
        base = read_object(adapter).get("base_model_name_or_path") or "its base"
        cure = "merge it first (peft: load it, `merge_and_unload().save_pretrained(FOLDER)`, the tokenizer too) and give FOLDER"
        yield f"adapter_config.json says that it is an adapter of {base}, not a model; {cure}"
        return
    if config.exists():
        return

    # What else lies there tells what the user may have meant.
    inside = sorted(child.name for child in folder.iterdir() if (child / "config.json").exists())
    forms = other_forms(folder)
    if config.is_symlink():
        yield "config.json is a link to a file that is not there; download the checkpoint again"
    elif inside:
        shown = ", ".join(inside[:5]) + (" ..." if len(inside) > 5 else "")
        yield f"no config.json here, but folders that have one: {shown}; give one of them, as {folder / inside[-1]}"
    elif (folder / "model_index.json").exists():
        yield "model_index.json says that it is a pipeline of diffusers; give a language model"
    elif forms:
        yield f"no config.json, only {forms}; give the original checkpoint in Hugging Face's form, or convert it"
    else:
        yield f"no config.json, so it is no Hugging Face checkpoint ({_listing(folder)}); give the folder that has it"


def _listing(folder: Path) -> str:
    names = sorted(child.name for child in folder.iterdir())
    return "it holds " + ", ".join(names[:6]) + (" ..." if len(names) > 6 else "") if names else "it is empty"


def _config_faults(folder: Path) -> Iterator[str]:
    """Return what is wrong with the configuration of what is no plain causal language model."""
    if fault := broken(folder / "config.json"):
        yield f"config.json {fault}"
        return
    config = read_object(folder / "config.json")

    # Weights of few bits can neither be trained nor compared with a base in 16 or 32 bits.
    if method := quantised_by(folder):
        cure = "give the checkpoint it was made from (qlora quantises by itself)"
        yield f"its weights are quantised already ({method}, says config.json): it can be neither trained nor compared; {cure}"
    if config.get("is_encoder_decoder"):
        yield "config.json says is_encoder_decoder: it is no causal language model; give one that only decodes"
    if towers := [name for name in TOWERS if config.get(name)]:
        cure = "give a text model, or save its text part alone"
        yield f"config.json has {', '.join(towers)}: it reads more than text, and only text models are trained here; {cure}"
    if not config.get("model_type"):
        yield "config.json names no model_type, so nothing says which architecture it is; take config.json from the original"


def quantised_by(folder: Path) -> str:
    """Return how a folder's weights are quantised, as its configuration says; empty where they are not."""
    config = read_object(folder / "config.json")
    text = config.get("text_config") or {}
    quantised = config.get("quantization_config") or text.get("quantization_config") or config.get("compression_config")
    if quantised:
        return str(quantised.get("quant_method") or "of some kind")
    return "gptq" if (folder / "quantize_config.json").exists() else ""


def has_tokenizer(folder: Path) -> bool:
    """Return whether a folder has a tokenizer of its own."""
    vocabulary = any((folder / name).exists() for name in VOCABULARIES) or any(folder.glob("*.tiktoken"))
    alone = "tokenizer_class" in read_object(folder / "tokenizer_config.json")  # of bytes, say, which needs no vocabulary
    return vocabulary or alone


def _tokenizer_faults(folder: Path) -> Iterator[str]:
    """Return what is wrong with a tokenizer that has no vocabulary, or broken files."""
    present = [folder / name for name in (*VOCABULARIES, *BESIDE)]
    present = [file for file in present if file.exists() or file.is_symlink()]
    for file in present:
        if fault := broken(file):
            yield f"{file.name} {fault}"
    if not has_tokenizer(folder):
        cure = "save the tokenizer into the folder (AutoTokenizer.from_pretrained(ORIGINAL).save_pretrained(FOLDER))"
        yield f"no tokenizer: the folder has none of {', '.join(VOCABULARIES)}; {cure}"
