"""Dynamic fine-tuning: each token's loss counts by how probable the model already finds it."""

import torch
from torch import Tensor

from harness.contract import Batch, Method


class Dft(Method):
    """w = sg[p(y_t)] = exp(-l), in fp32 (in bf16 it can lose its effect).

    `renorm` divides by the sum of weights, `faithful` by the number of tokens. `strength` blends towards weight 1: 0 is plain
    fine-tuning.
    """

    paper = (
        "Wu et al. 2025, arXiv:2508.05629: the policy gradient that SFT implies, with its 1/p taken out. "
        "@article{wu2025dft, title={On the Generalization of SFT: A Reinforcement Learning Perspective with Reward "
        "Rectification}, author={Wu, Yongliang and others}, journal={arXiv:2508.05629}, year={2025}}"
    )
    off = {"strength": 0.0}
    search = {"strength": (0.25, 1.0)}
    bounds = {"norm": ("renorm", "faithful"), "strength": "[0, 1]"}
    verified = "weights by hand; the gradient is that of -p."

    def __init__(self, norm: str = "renorm", strength: float = 1.0):
        self.norm, self.strength = norm, strength
        self.renorm = norm == "renorm"

    def token_weights(self, nll: Tensor, logits: Tensor, batch: Batch) -> Tensor:
        return (1.0 - self.strength) + self.strength * torch.exp(-nll)
