"""Token-adaptive loss reweighting: tokens the model finds hard count less, by a temperature that follows the batch."""

import torch
from torch import Tensor

from harness.contract import Batch, Method


class Talr(Method):
    """w = max(sg[exp(-l / tau)], floor), tau = scale * mean token loss of the micro-batch; then divided by the sum of weights.

    The form is the paper's idea as remembered, its code not being public: the choice of tau and floor are guesses of ours.
    `strength` blends towards weight 1: 0 is plain fine-tuning.
    """

    paper = (
        "arXiv:2509.20758 (token-adaptive loss reweighting). "
        "@article{talr2025, title={SFT Doesn't Always Hurt General Capabilities: Revisiting Domain-Specific Fine-Tuning in "
        "LLMs}, journal={arXiv:2509.20758}, year={2025}}"
    )
    off = {"strength": 0.0}
    search = {"scale": (0.5, 4.0)}
    bounds = {"scale": "(0, inf)", "floor": "[0, 1]", "strength": "[0, 1]"}
    verified = "weights by hand."

    def __init__(self, scale: float = 1.0, floor: float = 0.01, strength: float = 1.0):
        self.scale, self.floor, self.strength = scale, floor, strength

    def token_weights(self, nll: Tensor, logits: Tensor, batch: Batch) -> Tensor:
        weights = torch.exp(-nll / (self.scale * nll.mean()).clamp(min=1e-6)).clamp(min=self.floor)
        return (1.0 - self.strength) + self.strength * weights
