"""What stands in a folder that is to be measured: a checkpoint, quantised or not, a peft adapter, or a run of a store."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from harness.checkpoints.files import check_files, has_tokenizer, quantised_by
from harness.checkpoints.hub import folder_of
from harness.errors import PlanError
from harness.store.runs import RunFolder


class Form(StrEnum):
    """In what form somebody hands over a tuned model."""

    CHECKPOINT = "checkpoint"
    QUANTISED = "quantised checkpoint, read back"
    GGUF = "GGUF file, read back"
    ADAPTER = "adapter"
    RUN = "run of a store"


def form_of(path: str) -> Form:
    """Return the form of the model at `path`. Raises PlanError with the cure if it cannot be scored."""
    location = Path(path).expanduser()
    # A run's folder holds more than weights, so it is recognised first.
    if (location / "run.json").is_file():
        if not RunFolder(location).weights.is_file():
            cure = "train it again with a larger keep=, or give the checkpoint that `lethe export` writes"
            raise PlanError(f"'{path}' is a run whose weights were not kept; {cure}")
        return Form.RUN
    if location.is_file() and location.suffix == ".gguf":
        return Form.GGUF
    folder = folder_of(path)
    if (folder / "adapter_config.json").is_file():
        return Form.ADAPTER

    # A folder of GGUF files has no configuration of transformers' kind.
    if not (folder / "config.json").exists() and len(list(folder.glob("*.gguf"))) == 1:
        return Form.GGUF
    if quantised_by(folder):
        return Form.QUANTISED
    check_files(path, tokenizer=has_tokenizer(folder))
    return Form.CHECKPOINT
