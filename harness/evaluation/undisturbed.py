"""A model evaluated without a trace: its mode, gradients and random generators are put back."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator

import numpy as np
import torch
from torch import nn


@contextlib.contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Put the model in evaluation mode without gradients, and put module modes and random generators back afterwards.

    The generators are the global ones of Python, numpy, torch on the CPU, and torch on the model's devices.
    """
    modes = {module: module.training for module in model.modules()}
    python_state = random.getstate()
    numpy_state = np.random.get_state()
    # only the model's own devices: reading the state of another would initialise it
    devices = {parameter.device for parameter in model.parameters() if parameter.is_cuda}
    with torch.random.fork_rng(devices=devices), torch.no_grad():
        model.eval()
        try:
            yield
        finally:
            for module, training in modes.items():
                module.training = training
            random.setstate(python_state)
            np.random.set_state(numpy_state)
