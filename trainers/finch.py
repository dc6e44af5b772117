"""FINCH: the learning rate falls where the training loss is high, and rises as it is learned."""

import math

import torch
from torch import Tensor

from harness.contract import Method


class Finch(Method):
    """eta_i = eta min(cap, (L_1 / L_i)^power), L_i the moving mean (0.9) of the steps' mean token losses, power 1/2.

    The paper: eta_i = min(eta_max, kappa / sqrt(L_i + epsilon)), epsilon only against 0, since forgetting in a step is bounded
    by eta_i sqrt(loss). That kappa is eta sqrt(L_1), so that the first step has the plan's rate, is a guess of ours, and so is
    multiplying the plan's own schedule eta, which the paper replaces: plan with `decay=constant` to follow it. `cap` is
    eta_max / eta. `power=0` is plain fine-tuning. Unreviewed, and no code was published. Its control is plain fine-tuning at
    its mean rate, which the log has.
    """

    paper = (
        "Prashant et al. 2026, arXiv:2605.20005. "
        "@article{prashant2026finch, title={Fine-Tuning Without Forgetting via Loss-Adaptive Learning Rates}, "
        "author={Prashant, Parjanya Prajakta and Zhu, Jiongli and Creo, Aldan and Salimi, Babak}, "
        "journal={arXiv:2605.20005}, year={2026}}"
    )
    verified = "factors of three steps by hand; the cap; the loss it sees is the step's own"
    off = {"power": 0.0}
    search = {"cap": (1.0, 10.0)}
    bounds = {"power": "[0, inf)", "cap": "(0, inf)"}

    DECAY = 0.9

    def __init__(self, power: float = 0.5, cap: float = 5.0):
        self.power, self.cap = power, cap
        self.first_ = 0.0
        """The first step's loss, nats; 0 before it."""
        self.mean_ = 0.0

    def observe_loss(self, loss: float) -> None:
        if not self.first_:
            self.first_ = self.mean_ = max(loss, 1e-8)
        self.mean_ = self.DECAY * self.mean_ + (1 - self.DECAY) * max(loss, 1e-8)

    def rate(self, fraction: float) -> float:
        if not self.first_:
            return 1.0
        return min(self.cap, math.pow(self.first_ / self.mean_, self.power))

    def log(self) -> dict[str, float]:
        return {"rate factor": self.rate(0.0)}

    def state(self) -> dict[str, Tensor]:
        return {"losses": torch.tensor([self.first_, self.mean_], dtype=torch.float64)}

    def restore(self, state: dict[str, Tensor]) -> None:
        self.first_, self.mean_ = state["losses"].tolist()
