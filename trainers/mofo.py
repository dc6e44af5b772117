"""MoFO: Adam as it is, but of each tensor only the weights with the largest momentum move."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from harness.contract import Method, Run, Weights


class Mofo(Method):
    """Weights move where |m| is among the `alpha` largest of their tensor, m <- 0.9 m + 0.1 g as Adam's; others stay this step.

    Both moments are kept everywhere. Biases and norms move whole. Weight decay, too, acts only on what moves (published code
    decays everything). Memory: one more copy of what trains, for m, which the optimizer keeps to itself, and one for a step.
    """

    paper = (
        "Chen et al. 2024, arXiv:2407.20999, algorithm 1. "
        "@article{chen2024mofo, title={MoFO: Momentum-Filtered Optimizer for Mitigating Forgetting in LLM Fine-Tuning}, "
        "author={Chen, Yupeng and Wang, Senmiao and Lin, Zhihang and Qin, Zeyu and Zhang, Yushun and Ding, Tian and Sun, "
        "Ruoyu}, journal={arXiv:2407.20999}, year={2024}}"
    )
    verified = "two steps on four weights by hand; at each step `alpha` of each matrix moves"
    off = {"alpha": 1.0}
    search = {"alpha": (0.03, 0.5)}
    bounds = {"alpha": "(0, 1]"}
    holds = 2.0  # the momenta, and in each step the weights before it
    adamw_only = "the momenta that it goes by are AdamW's"
    unsharded = "the largest momenta are looked for in a whole tensor"

    DECAY = 0.9
    """Adam's own decay of the first moment."""

    def __init__(self, alpha: float = 0.15):
        self.alpha = alpha
        self.momenta_: Weights = {}

    @torch.no_grad()
    def update(self, step: Callable[[], None], weights: Weights, run: Run) -> None:
        matrices = {name: weight for name, weight in weights.items() if weight.dim() > 1 and weight.grad is not None}
        before = {name: weight.detach().clone() for name, weight in matrices.items()}
        step()
        for name, weight in matrices.items():
            assert weight.grad is not None
            momentum = self.momenta_.setdefault(name, torch.zeros_like(weight))
            momentum.lerp_(weight.grad, 1 - self.DECAY)
            count = max(1, int(self.alpha * weight.numel()))
            least = momentum.abs().flatten().topk(count).values[-1]
            weight.copy_(torch.where(momentum.abs() >= least, weight, before[name]))

    def stage_begin(self, model: nn.Module, run: Run) -> None:
        self.momenta_ = {}  # the optimizer's are fresh too

    def state(self) -> dict[str, Tensor]:
        return self.momenta_

    def restore(self, state: dict[str, Tensor]) -> None:
        self.momenta_ = dict(state)
