"""NLIRG: weigh each token's loss by how far the model is from it; mastered and hopeless tokens count less."""

import torch
from torch import Tensor

from harness.contract import Batch, Method


class Nlirg(Method):
    """w = sg[W(l)], W(l) = sigmoid(k (l - x0)) for l <= threshold, sigmoid(centre - l) up to the deadline, 0 beyond.

    `renorm` divides by the sum of weights, `faithful` by the number of tokens whose weighted loss is not 0 (as published).
    `variant=article` is the code that articles print, which contradicts their own text: a labelled ablation.
    `strength` blends towards weight 1: 0 is plain fine-tuning.
    """

    paper = (
        "NLIRG reference implementation (y-trainer), constants k=1.7, x0=1.2, threshold 3, deadline 15. "
        "@misc{nlirg, title={NLIRG, non-linear importance re-weighting of gradients, reference "
        "implementation}, howpublished={y-trainer}}"
    )
    off = {"strength": 0.0}
    search = {"strength": (0.25, 1.0)}

    CENTRE = 6.2  # nats: the right branch's half-weight point, part of the definition

    def __init__(
        self,
        k: float = 1.7,
        x0: float = 1.2,
        threshold: float = 3.0,
        deadline: float = 15.0,
        norm: str = "renorm",
        variant: str = "reference",
        strength: float = 1.0,
    ):
        if norm not in ("renorm", "faithful"):
            raise ValueError(f"norm is renorm or faithful, not '{norm}'")
        if variant not in ("reference", "article"):
            raise ValueError(f"variant is reference or article, not '{variant}'")
        self.k, self.x0, self.threshold, self.deadline = k, x0, threshold, deadline
        self.norm, self.variant, self.strength = norm, variant, strength
        self.renorm = norm == "renorm"

    def weight(self, loss: Tensor) -> Tensor:
        """W at these losses (nats), elementwise; a NaN loss weighs 0."""
        if self.variant == "article":
            left = torch.sigmoid(-self.k * (loss - self.x0))
            middle = torch.sigmoid(self.k * (loss - self.threshold))
            right = torch.sigmoid(-self.k * (loss - self.deadline))
            weight = torch.where(loss <= 1.45, left, torch.where(loss <= 6.6, middle, right)).clamp(5e-8, 1.0)
        else:
            rising = torch.sigmoid(self.k * (loss - self.x0))
            falling = torch.sigmoid(self.CENTRE - loss)
            weight = torch.where(loss <= self.threshold, rising, torch.where(loss < self.deadline, falling, 0.0))
        return weight.nan_to_num(0.0)

    def token_weights(self, nll: Tensor, logits: Tensor, batch: Batch) -> Tensor:
        return (1.0 - self.strength) + self.strength * self.weight(nll.float())
