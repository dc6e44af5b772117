"""What a checkpoint must be made of, read from its files before anything of it is loaded.

Whatever is wrong is said in one sentence that names the file and the cure. What only loading shows (keys, values, the
vocabulary) is for `harness/models/base_model.py`.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from harness.errors import PlanError, raise_faults

WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
"""Where weights may stand, in the order in which transformers looks."""
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
SMALL = ["*.json", "*.txt", "*.model", "*.jinja", "*.tiktoken"]
"""Files of a hub model that say what it is."""
POINTER = b"version https://git-lfs.github.com"
PATIENCE = 10.0
"""Seconds to wait for the hub to answer (a guess)."""
OTHER_FORMS = {
    "*.gguf": "GGUF files, which are for inference",
    "consolidated*": "a checkpoint in its maker's own form",
    "tf_model.h5": "TensorFlow weights",
    "flax_model.msgpack": "Flax weights",
    "*.onnx": "an ONNX export",
    "*.mlpackage": "a Core ML export",
}
"""Weights that are not read, by file name."""
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
    faults = faults or list(_weight_faults(folder, whole=Path(path).is_dir()))
    raise_faults([f"{name}: {fault}" for fault in faults])


# --- where it is ------------------------------------------------------------------------------------------------------


def folder_of(path: str) -> Path:
    """Return the folder of a model's small files; those of a hub model are fetched. Raises PlanError where there is none."""
    folder = Path(path).expanduser()
    if folder.is_dir():
        return folder
    name = f"model '{path}'"
    if folder.is_file():
        raise PlanError(f"{name} is a file; give the folder of a Hugging Face checkpoint, with config.json and a tokenizer")
    if folder.is_absolute() or path.startswith((".", "~")) or path.count("/") > 1 or "\\" in path:
        raise PlanError(f"{name}: there is no such folder; give the folder of a Hugging Face checkpoint, or a hub id")
    return _fetched(path)


def loading(path: str) -> dict[str, Any]:
    """Return how transformers may load from `path`: no code of the checkpoint's own runs, and no network where none is
    needed.
    """
    return {"trust_remote_code": False, "local_files_only": Path(path).expanduser().is_dir() or not _online(path)}


def _fetched(name: str) -> Path:
    """Return the small files of a hub model in the hub's cache."""
    from huggingface_hub import snapshot_download

    # Only small files: weights are fetched when the model is loaded.
    online = _online(name)
    try:
        folder = Path(snapshot_download(name, allow_patterns=SMALL, local_files_only=not online))
    except Exception as error:  # of many kinds: the network's, the hub's, the disk's
        why = "and the hub cannot be asked (offline)" if not online else f"and the hub does not give it: {one_line(error)}"
        raise PlanError(
            f"model '{name}' is no folder and not in the hub's cache, {why}; check the name, or give a folder"
        ) from error
    return folder


@cache
def _online(name: str) -> bool:
    """Return whether the hub can be asked for this model: one question, no retries.

    Raises PlanError where it does not have it.
    """
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError

    if constants.HF_HUB_OFFLINE:
        return False
    try:
        HfApi().model_info(name, timeout=PATIENCE)
    except GatedRepoError as error:
        raise PlanError(f"model '{name}': its owner asks for agreement; accept it on the hub and log in") from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise PlanError(
            f"model '{name}' is neither a folder nor a model of the hub (or a private one: log in); check the name"
        ) from error
    except Exception:  # no network, in one of many ways: what is in the cache may do
        return False
    return True


def one_line(error: BaseException) -> str:
    """Return an error's whole message in one line, its type where it has none."""
    return " ".join(str(error).split()) or type(error).__name__


# --- what form it has -------------------------------------------------------------------------------------------------


def _form_faults(folder: Path) -> Iterator[str]:
    """Folders that hold something else than a checkpoint."""
    config = folder / "config.json"
    if (adapter := folder / "adapter_config.json").exists():
        base = _read(adapter).get("base_model_name_or_path") or "its base"
        cure = "merge it first (peft: load it, `merge_and_unload().save_pretrained(FOLDER)`, the tokenizer too) and give FOLDER"
        yield f"adapter_config.json says that it is an adapter of {base}, not a model; {cure}"
        return
    if config.exists():
        return

    # What else lies there tells what the user may have meant.
    inside = sorted(child.name for child in folder.iterdir() if (child / "config.json").exists())
    forms = [what for pattern, what in OTHER_FORMS.items() if any(folder.glob(pattern))]
    if config.is_symlink():
        yield "config.json is a link to a file that is not there; download the checkpoint again"
    elif inside:
        shown = ", ".join(inside[:5]) + (" ..." if len(inside) > 5 else "")
        yield f"no config.json here, but folders that have one: {shown}; give one of them, as {folder / inside[-1]}"
    elif (folder / "model_index.json").exists():
        yield "model_index.json says that it is a pipeline of diffusers; give a language model"
    elif forms:
        yield f"no config.json, only {' and '.join(forms)}; give the original checkpoint in Hugging Face's form, or convert it"
    else:
        yield f"no config.json, so it is no Hugging Face checkpoint ({_listing(folder)}); give the folder that has it"


def _listing(folder: Path) -> str:
    names = sorted(child.name for child in folder.iterdir())
    return "it holds " + ", ".join(names[:6]) + (" ..." if len(names) > 6 else "") if names else "it is empty"


def _read(file: Path) -> dict[str, Any]:
    """Return a JSON file's object; empty where it is none."""
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _broken(file: Path) -> str | None:
    """Return what is wrong with a file as a file."""
    if not file.exists():
        return "is a link to a file that is not there; download it again" if file.is_symlink() else "is missing"
    with file.open("rb") as opened:
        begin = opened.read(len(POINTER))
    if begin == POINTER:
        return "is a Git LFS pointer, not the file itself; run `git lfs pull` in the folder"
    if not begin:
        return "is empty; download it again"
    if file.suffix == ".json":
        try:
            json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            return f"is not JSON ({one_line(error)}); download it again"
    return None


def _config_faults(folder: Path) -> Iterator[str]:
    """Configurations of what is no plain causal language model."""
    if fault := _broken(folder / "config.json"):
        yield f"config.json {fault}"
        return
    config = _read(folder / "config.json")

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
    config = _read(folder / "config.json")
    text = config.get("text_config") or {}
    quantised = config.get("quantization_config") or text.get("quantization_config") or config.get("compression_config")
    if quantised:
        return str(quantised.get("quant_method") or "of some kind")
    return "gptq" if (folder / "quantize_config.json").exists() else ""


def has_tokenizer(folder: Path) -> bool:
    """Return whether a folder has a tokenizer of its own."""
    vocabulary = any((folder / name).exists() for name in VOCABULARIES) or any(folder.glob("*.tiktoken"))
    alone = "tokenizer_class" in _read(folder / "tokenizer_config.json")  # of bytes, say, which needs no vocabulary
    return vocabulary or alone


def _tokenizer_faults(folder: Path) -> Iterator[str]:
    """Tokenizers without a vocabulary, or with broken files."""
    present = [folder / name for name in (*VOCABULARIES, *BESIDE)]
    present = [file for file in present if file.exists() or file.is_symlink()]
    for file in present:
        if fault := _broken(file):
            yield f"{file.name} {fault}"
    if not has_tokenizer(folder):
        cure = "save the tokenizer into the folder (AutoTokenizer.from_pretrained(ORIGINAL).save_pretrained(FOLDER))"
        yield f"no tokenizer: the folder has none of {', '.join(VOCABULARIES)}; {cure}"


# --- weights ----------------------------------------------------------------------------------------------------------


def _weight_faults(folder: Path, whole: bool) -> Iterator[str]:
    """Yield weights that are absent, cut off or quantised.

    `whole`: all files should be here; those of a hub model come later.
    """
    weights = next((folder / name for name in WEIGHTS if (folder / name).exists() or (folder / name).is_symlink()), None)
    if weights is None:
        if whole:
            forms = [what for pattern, what in OTHER_FORMS.items() if any(folder.glob(pattern))]
            other = f", only {' and '.join(forms)}" if forms else ""
            yield f"no weights: the folder has none of {', '.join(WEIGHTS)}{other}; download or save them too"
        return
    if fault := _broken(weights):
        yield f"{weights.name} {fault}"
        return
    if other := _other_weights(folder, weights):
        yield f"two checkpoints: {weights.name}, and the files that {other} names; remove the one that is not meant"
    if weights.suffix != ".json":
        yield from _file_faults(weights, None)
        return

    # An index says which file holds what: every file it names must be here and whole.
    shards: dict[str, list[str]] = {}
    for key, name in (_read(weights).get("weight_map") or {}).items():
        shards.setdefault(str(name), []).append(key)
    if not shards:
        yield f"{weights.name} names no weights (weight_map is missing or empty); download it again"
    for name, keys in sorted(shards.items()):
        if whole or (folder / name).exists():
            yield from _file_faults(folder / name, keys)


def _other_weights(folder: Path, weights: Path) -> str | None:
    """Return the index of a second checkpoint in safetensors: transformers would take the single file without a word."""
    index = folder / "model.safetensors.index.json"
    if weights.name != "model.safetensors" or not index.exists():
        return None
    named = set((_read(index).get("weight_map") or {}).values()) - {weights.name}
    return index.name if any((folder / str(name)).exists() for name in named) else None


def _file_faults(file: Path, keys: list[str] | None) -> Iterator[str]:
    """Yield one file of weights; `keys`: what an index says it holds."""
    if fault := _broken(file):
        named = "" if keys is None else ", though the index names it"
        cure = "; download it again" if fault == "is missing" else ""
        yield f"{file.name} {fault}{named}{cure}"
        return
    if file.suffix != ".safetensors":
        with file.open("rb") as opened:
            cut = opened.read(2) == b"PK" and not zipfile.is_zipfile(file)
        if cut:
            yield f"{file.name} is cut off ({file.stat().st_size:,} bytes, without its end); download it again"
        return

    # Names, types and sizes stand in the header: nothing of the weights is read.
    header = safetensors_header(file)
    if isinstance(header, str):
        yield f"{file.name} {header}; download it again"
        return
    if absent := [key for key in keys or () if key not in header]:
        yield f"{file.name} lacks {some(absent)}, which the index says it holds; download both again"
    if small := [key for key, entry in header.items() if _few_bits(key, str(entry.get("dtype")))]:
        yield f"{file.name} holds quantised weights ({some(small)}); give the checkpoint they were made from"


def _few_bits(key: str, dtype: str) -> bool:
    """Return whether a tensor is a weight of fewer than 16 bits, or an integer where a weight belongs."""
    return key.endswith("weight") and (dtype.startswith(("F8", "F4", "F6", "I", "U")) or dtype == "BOOL")


def safetensors_header(file: Path) -> dict[str, dict[str, Any]] | str:
    """Tensor name -> what the file says of it, or what is wrong with the file in words."""
    size = file.stat().st_size
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        if 8 + length > size:
            return f"is cut off ({size:,} bytes, fewer than its header says) or no safetensors file"
        try:
            header = json.loads(opened.read(length))
        except ValueError:
            return "is no safetensors file (its header is not JSON)"
    header.pop("__metadata__", None)

    # The last tensor's end tells how long the file must be.
    wanted = 8 + length + max((entry["data_offsets"][1] for entry in header.values()), default=0)
    return header if wanted == size else f"is cut off ({size:,} bytes of {wanted:,})"


def some(names: list[str], most: int = 4) -> str:
    """Return a list of names, the first few of a long one."""
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")
