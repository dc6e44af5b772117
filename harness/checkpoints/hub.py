"""Where a model's files are: a folder, or the hub's cache."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from harness.errors import PlanError, one_line

SMALL = ["*.json", "*.txt", "*.model", "*.jinja", "*.tiktoken"]
"""Files of a hub model that say what it is."""
PATIENCE = 10.0
"""Seconds to wait for the hub to answer (a guess)."""


def folder_of(path: str) -> Path:
    """Return the folder of a model's small files; those of a hub model are fetched. Raises PlanError where there is none."""
    folder = Path(path).expanduser()
    # Only a name that could be a hub id is asked of the hub; a path that is not there is a typing
    # error.
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
    """Return whether the hub can be reached for this model: one request, no retries.

    Raises PlanError if the hub has no such model.
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
