"""Distillation from the base on domain inputs (learning without forgetting): stay close to what the base would say."""

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.contract import Batch, Method, Run


class Distill(Method):
    """L = (1 - alpha) CE + alpha T^2 KL(p0^T || p^T) at the supervised tokens; p^T = softmax(logits / T), p0 the base.

    Both terms are of domain inputs: general data that another method mixes in keeps its whole cross-entropy, and no more.
    """

    paper = (
        "Li and Hoiem 2016, arXiv:1606.09282; temperature: Hinton et al. 2015, arXiv:1503.02531. "
        "@article{li2016lwf, title={Learning without Forgetting}, author={Li, Zhizhong and Hoiem, Derek}, "
        "journal={arXiv:1606.09282}, year={2016}}"
    )
    verified = "its formula at T = 3; 0 at the base, positive elsewhere, its gradient leads back"
    off = {"alpha": 0.0}
    search = {"alpha": (0.1, 0.9)}
    bounds = {"alpha": "[0, 1]", "temperature": "(0, inf)"}
    needs = frozenset({"base_logits"})

    def __init__(self, alpha: float = 0.5, temperature: float = 2.0):
        self.alpha, self.temperature = alpha, temperature

    def share(self, batch: Batch) -> Tensor:
        return torch.where(batch.from_source("domain"), 1.0 - self.alpha, 1.0)

    def penalty(self, logits: Tensor, batch: Batch, run: Run) -> Tensor:
        penalty, ours = torch.zeros_like(logits[:, 0]), batch.from_source("domain")
        if not ours.any():
            return penalty
        base = F.log_softmax(run.base_logits(batch) / self.temperature, dim=-1)
        tuned = F.log_softmax(logits[ours] / self.temperature, dim=-1)
        divergence = F.kl_div(tuned, base, reduction="none", log_target=True).sum(-1)
        return penalty.masked_scatter(ours, self.alpha * self.temperature**2 * divergence)
