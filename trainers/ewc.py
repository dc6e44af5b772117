"""Elastic weight consolidation: pull each weight to the base, by how much the general data cares about it."""

import torch
from torch import Tensor, nn

from harness.contract import Method, Run, Weights
from harness.toolbox import diagonal_fisher


class Ewc(Method):
    """L + (strength / 2) sum_i F_i (theta_i - theta0_i)^2 on effective weights.

    F is the diagonal Fisher of the base on `samples` general sequences, y drawn from the base (`fisher=true`) or from the data
    (`fisher=empirical`), scaled to mean 1 over all weights: a choice of ours, not of the paper. Prepared before the first
    step, and charged. The anchor is the base, in every stage.

    `ewc+lora` is the penalty of EWC-LoRA (arXiv:2602.17559) for one task: on the effective weight W0 + s B A, by the chain
    rule, and not on A and B. There F comes from the adapted weights of earlier tasks and sums up over them; here from the base.
    """

    paper = (
        "Kirkpatrick et al. 2017, arXiv:1612.00796, eq. 3. "
        "@article{kirkpatrick2017ewc, title={Overcoming catastrophic forgetting in neural networks}, "
        "author={Kirkpatrick, James and others}, journal={PNAS}, year={2017}}"
    )
    verified = (
        "Fisher against squared gradients of the model's own loss, one sequence at a time; "
        "pull is the penalty's gradient, on adapters by autograd"
    )
    off = {"strength": 0.0}
    search = {"strength": (0.01, 10.0)}
    bounds = {"strength": "[0, inf)", "samples": "[1, inf)", "fisher": ("true", "empirical")}
    needs = frozenset({"general_data"})

    def __init__(self, strength: float = 1.0, samples: int = 256, fisher: str = "true"):
        self.strength, self.samples, self.fisher = strength, samples, fisher
        self.fisher_: Weights = {}

    def prepare(self, model: nn.Module, run: Run) -> None:
        chosen = torch.randperm(len(run.general), generator=run.generator("ewc"))[: self.samples].tolist()
        with run.rng("ewc"):
            self.fisher_ = diagonal_fisher(model, run, [run.general[i] for i in chosen], self.fisher)

    def pull(self, name: str, theta: Tensor, start: Tensor) -> Tensor:
        return self.strength * self.fisher_[name] * (theta - start)

    def state(self) -> Weights:
        return self.fisher_

    def restore(self, state: Weights) -> None:
        self.fisher_ = dict(state)
