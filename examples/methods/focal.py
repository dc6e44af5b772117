"""Focal token weights: tokens that the model already predicts count less (WEIGHTS)."""

from __future__ import annotations

from torch import Tensor

from harness.contract import Batch, Method


class Focal(Method):
    """w_t = (1 - p_t) ** gamma, where p_t is the model's probability of the token; no gradient through w_t."""

    paper = """Lin et al. 2017, arXiv:1708.02002, equation 4 without alpha.

    @article{lin2017focal,
      title={Focal Loss for Dense Object Detection},
      author={Lin, Tsung-Yi and others},
      journal={arXiv:1708.02002},
      year={2017}
    }"""
    off = {"gamma": 0.0}
    bounds = {"gamma": "[0, inf)"}
    search = {"gamma": (0.5, 4.0)}

    def __init__(self, gamma: float = 2.0):
        self.gamma = gamma

    def token_weights(self, nll: Tensor, logits: Tensor, batch: Batch) -> Tensor:
        """Return (S,) weights; the loop divides the weighted losses by their sum."""
        return (1 - (-nll).exp()) ** self.gamma
