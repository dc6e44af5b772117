"""Files of weights: whether they are there, whole, and of one model."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.errors import PlanError, one_line
from harness.store.opening import read_text

WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
"""Where weights may stand, in the order in which transformers looks."""
POINTER = b"version https://git-lfs.github.com"
OTHER_FORMS = {
    "*.gguf": "GGUF files, which are for inference",
    "consolidated*": "a checkpoint in its maker's own form",
    "tf_model.h5": "TensorFlow weights",
    "flax_model.msgpack": "Flax weights",
    "*.onnx": "an ONNX export",
    "*.mlpackage": "a Core ML export",
    "zero_to_fp32.py": "DeepSpeed's parts of a checkpoint (its zero_to_fp32.py joins them)",
    "pytorch_model_fsdp*": "FSDP's parts of a checkpoint (`accelerate merge-weights` joins them)",
    "*.pt": "a .pt file of some tool's own form",
}
"""Weights that are not read, by file name."""


def read_object(file: Path) -> dict[str, Any]:
    """Return a JSON file's object; empty where it is none."""
    try:
        value = json.loads(read_text(file))
    except (PlanError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def broken(file: Path) -> str | None:
    """Return what is wrong with a file as a file."""
    if not file.exists():
        return "is a link to a file that is not there; download it again" if file.is_symlink() else "is missing"
    if not file.is_file():
        return f"is a {'folder' if file.is_dir() else 'pipe or a device'}, not a file; put the file in its place"
    with file.open("rb") as opened:
        begin = opened.read(len(POINTER))
    if begin == POINTER:
        return "is a Git LFS pointer, not the file itself; run `git lfs pull` in the folder"
    if not begin:
        return "is empty; download it again"

    # JSON is small and is parsed whole; weights are not.
    if file.suffix == ".json":
        try:
            json.loads(file.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            return f"is not JSON ({one_line(error)}); download it again"
    return None


def other_forms(folder: Path) -> str:
    """Return what a folder holds in place of weights that are read; empty where there is none."""
    return " and ".join(what for pattern, what in OTHER_FORMS.items() if any(folder.glob(pattern)))


def weight_faults(folder: Path, whole: bool) -> Iterator[str]:
    """Yield weights that are absent, cut off or quantised.

    `whole`: all files should be here; those of a hub model come later.
    """
    weights = next((folder / name for name in WEIGHTS if (folder / name).exists() or (folder / name).is_symlink()), None)
    # A hub model's weights come later: their absence here says nothing.
    if weights is None:
        if whole:
            forms = other_forms(folder)
            other = f", only {forms}" if forms else ""
            yield f"no weights: the folder has none of {', '.join(WEIGHTS)}{other}; download or save them too"
        return
    if fault := broken(weights):
        yield f"{weights.name} {fault}"
        return
    if other := _other_weights(folder, weights):
        yield f"two checkpoints: {weights.name}, and the files that {other} names; remove the one that is not meant"
    if weights.suffix != ".json":
        yield from _file_faults(weights, None)
        return

    # An index says which file holds what: every file it names must be here and whole.
    shards: dict[str, list[str]] = {}
    for key, name in (read_object(weights).get("weight_map") or {}).items():
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
    named = set((read_object(index).get("weight_map") or {}).values()) - {weights.name}
    return index.name if any((folder / str(name)).exists() for name in named) else None


def _file_faults(file: Path, keys: list[str] | None) -> Iterator[str]:
    """Yield one file of weights; `keys`: what an index says it holds."""
    if fault := broken(file):
        named = "" if keys is None else ", though the index names it"
        cure = "; download it again" if fault == "is missing" else ""
        yield f"{file.name} {fault}{named}{cure}"
        return
    # A .bin file is a zip archive, whose directory stands at its end: a download that was cut has
    # none.
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
    """Return the header of a safetensors file, by tensor name; or a sentence on what is wrong with the file."""
    size = file.stat().st_size
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        if 8 + length > size:
            return f"is cut off ({size:,} bytes, fewer than its header says) or no safetensors file"
        try:
            header = json.loads(opened.read(length))
        except (ValueError, RecursionError):
            return "is no safetensors file (its header is not JSON)"
    header.pop("__metadata__", None)

    # The last tensor's end tells how long the file must be.
    wanted = 8 + length + max((entry["data_offsets"][1] for entry in header.values()), default=0)
    return header if wanted == size else f"is cut off ({size:,} bytes of {wanted:,})"


def some(names: list[str], most: int = 4) -> str:
    """Return a list of names, the first few of a long one."""
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")
