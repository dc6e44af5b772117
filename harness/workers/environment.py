"""Environment variables of every process that computes; those that the user has set stay."""

from __future__ import annotations

import os

VISIBLE = "CUDA_VISIBLE_DEVICES"
ENVIRONMENT = {
    "OMP_WAIT_POLICY": "PASSIVE",  # spinning threads halve the speed of a shared machine
    "TOKENIZERS_PARALLELISM": "false",  # threads do not survive a fork
    "PYTORCH_NVML_BASED_CUDA_CHECK": "1",  # nor does what CUDA sets up when it is asked for GPUs the other way
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # without it products of matrices on a GPU are not the same bits every time
}


def set_environment() -> None:
    """In this process, and so in those that it starts; before torch is used."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
