"""Anchored SFT: dynamic fine-tuning held near the base by a KL penalty."""

import torch
from torch import Tensor

from harness.contract import Batch, Method, Run
from harness.toolbox import divergence_from_base


class Asft(Method):
    """L = sum_t sg[p_t] l_t / n + beta KL(p0 || p), l_t the n target tokens' losses, p_t their probabilities, p0 the base.

    `dft(norm=faithful)+kl(beta=...)` under its published name, to the last bit. Published code: beta 0.05 at a rate of 5e-5,
    0.1 at 2e-5. `strength` blends the weights towards 1; with `beta=0` too it is plain fine-tuning.
    """

    paper = (
        "Zhu et al. 2025, arXiv:2509.23753; LLaMA-Factory's `use_asft_loss`. "
        "@article{zhu2025asft, title={Anchored Supervised Fine-Tuning}, author={Zhu, He and others}, "
        "journal={arXiv:2509.23753}, year={2025}}"
    )
    verified = "ends with the weights of dft(norm=faithful)+kl, bit for bit"
    off = {"strength": 0.0, "beta": 0.0}
    search = {"beta": (0.01, 1.0)}
    bounds = {"beta": "[0, inf)", "strength": "[0, 1]"}

    def __init__(self, beta: float = 0.05, strength: float = 1.0):
        self.beta, self.strength = beta, strength
        self.renorm = not strength
        self.needs = frozenset({"base_logits"}) if beta else frozenset()

    def token_weights(self, nll: Tensor, logits: Tensor, batch: Batch) -> Tensor:
        return (1.0 - self.strength) + self.strength * torch.exp(-nll)

    def penalty(self, logits: Tensor, batch: Batch, run: Run) -> Tensor:
        if not self.beta:
            return torch.zeros_like(logits[:, 0])
        return self.beta * divergence_from_base(logits, batch, run)
