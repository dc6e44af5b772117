"""Quantised weights read back: what is scored are the values that they stand for, in the precision of the scoring."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from harness.checkpoints.files import quantised_by
from harness.checkpoints.hub import folder_of, loading
from harness.errors import PlanError, one_line


def load_quantised(path: str, dtype: torch.dtype, notes: list[str]) -> Any:
    """Return a quantised checkpoint (bitsandbytes, GPTQ, AWQ ...) with its weights read back to `dtype`.

    Raises PlanError where the library that reads them is not installed, or cannot read them back.
    """
    from transformers import AutoModelForCausalLM

    # Values, not kernels: what a quantised kernel rounds differently is not forgetting.
    method = quantised_by(folder_of(path))
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(path, dtype=dtype, **loading(path))
        model = model.dequantize()
    except Exception as error:  # of as many kinds as there are libraries
        cure = "install the library that wrote it, or give the checkpoint it was made from"
        raise PlanError(
            f"model '{path}' is quantised ({method}) and cannot be read back ({one_line(error)}); {cure}"
        ) from error
    notes.append(f"its weights are quantised ({method}): scored are the values that they stand for, read back.")
    return model.to(dtype).eval()


def load_gguf(path: str, dtype: torch.dtype, notes: list[str]) -> Any:
    """Return the model of a GGUF file, read back by transformers. Raises PlanError where it cannot be."""
    from transformers import AutoModelForCausalLM

    file = gguf_file(path)
    try:
        options = {"gguf_file": file.name, "dtype": dtype, "local_files_only": True}
        model: Any = AutoModelForCausalLM.from_pretrained(str(file.parent), **options)
    except Exception as error:
        cure = "it needs `pip install gguf` and an architecture whose GGUF transformers reads; or give the original checkpoint"
        raise PlanError(f"'{path}' cannot be read back from GGUF ({one_line(error)}); {cure}") from error
    notes.append("a GGUF file, quantised: scored are the values that its weights stand for, read back by transformers.")
    return model.to(dtype).eval()


def gguf_file(path: str) -> Path:
    """Return the GGUF file at `path`, itself or the only one of a folder."""
    location = Path(path).expanduser()
    return location if location.is_file() else next(folder_of(path).glob("*.gguf"))
