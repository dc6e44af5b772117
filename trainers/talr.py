"""Token-adaptive loss reweighting: tokens the model finds hard count less, by a temperature that follows the batch."""

import torch
from torch import Tensor

from harness.contract import Batch, Method


class Talr(Method):
    """w = max(sg[exp(-l / tau)], floor), tau = scale * the median token loss; then divided by the sum of weights.

    The closed form of min over w of sum w l + tau sum w log w on the simplex. Its code is not public; the paper was read by
    others: tau is the median token loss of the batch (here of the micro-batch). `tau=sequences` is the median over sequences of
    their mean token loss, as in one port; `tau=mean` the mean token loss, which this was before. Where most tokens are
    mastered the median is near 0 and most weights are at the floor; 0.01 is the port's. `strength` blends towards weight 1: 0
    is plain fine-tuning.
    """

    paper = (
        "Lin et al. 2025, arXiv:2509.20758 (token-adaptive loss reweighting). "
        "@article{lin2025sft, title={SFT Doesn't Always Hurt General Capabilities: Revisiting Domain-Specific Fine-Tuning in "
        "LLMs}, author={Lin, Jiacheng and others}, journal={arXiv:2509.20758}, year={2025}}"
    )
    off = {"strength": 0.0}
    search = {"scale": (0.5, 4.0)}
    bounds = {"scale": "(0, inf)", "floor": "[0, 1]", "strength": "[0, 1]", "tau": ("median", "sequences", "mean")}
    verified = "weights by hand, with each tau"

    def __init__(self, scale: float = 1.0, floor: float = 0.01, strength: float = 1.0, tau: str = "median"):
        self.scale, self.floor, self.strength, self.tau = scale, floor, strength, tau

    def token_weights(self, nll: Tensor, logits: Tensor, batch: Batch) -> Tensor:
        temperature = (self.scale * self._middle(nll, batch)).clamp(min=1e-6)
        weights = torch.exp(-nll / temperature).clamp(min=self.floor)
        return (1.0 - self.strength) + self.strength * weights

    def _middle(self, nll: Tensor, batch: Batch) -> Tensor:
        """What tau is a multiple of, nats."""
        if self.tau == "mean":
            return nll.mean()
        if self.tau == "median":
            return nll.median()
        rows = batch.rows
        return torch.stack([nll[rows == row].mean() for row in rows.unique()]).median()
