"""Elastic weight consolidation: pull each weight to the base, by how much the general data cares about it."""

import torch
from torch import Tensor, nn

from harness.contract import Method, Run, Weights


class Ewc(Method):
    """L + (strength / 2) sum_i F_i (theta_i - theta0_i)^2 on effective weights.

    F is the diagonal Fisher of the base on `samples` general sequences, one at a time (averaging gradients over a batch before
    squaring would make it too small by the batch size): F_i = mean_x [(d log p(y|x) / d theta_i)^2], y drawn from the base
    (`fisher=true`) or from the data (`fisher=empirical`). It is scaled to mean 1 over all weights, so that one strength means
    much the same on different models: a choice of ours, not of the paper. Prepared before the first step, and charged.
    """

    paper = (
        "Kirkpatrick et al. 2017, arXiv:1612.00796, eq. 3. "
        "@article{kirkpatrick2017ewc, title={Overcoming catastrophic forgetting in neural networks}, "
        "author={Kirkpatrick, James and others}, journal={PNAS}, year={2017}}"
    )
    off = {"strength": 0.0}
    search = {"strength": (0.01, 10.0)}

    def __init__(self, strength: float = 1.0, samples: int = 256, fisher: str = "true"):
        if fisher not in ("true", "empirical"):
            raise ValueError(f"fisher is true or empirical, not '{fisher}'")
        self.strength, self.samples, self.fisher = strength, samples, fisher
        self.needs = frozenset({"general_data"}) if strength else frozenset()
        self.fisher_: Weights = {}

    def prepare(self, model: nn.Module, run: Run) -> None:
        if not self.strength:
            return
        self.fisher_ = {name: torch.zeros_like(p, dtype=torch.float32) for name, p in model.named_parameters()}
        chosen = torch.randperm(len(run.general), generator=run.generator("ewc"))[: self.samples].tolist()
        with run.rng("ewc"):
            for index in chosen:
                self._add_one(model, run, index)
        total = sum(float(f.sum()) for f in self.fisher_.values())
        mean = total / sum(f.numel() for f in self.fisher_.values())
        for fisher in self.fisher_.values():
            fisher /= mean

    def _add_one(self, model: nn.Module, run: Run, index: int) -> None:
        """Add one sequence's squared gradient."""
        (batch,) = run.batches([run.general[index]])
        with run.charged("fisher", model, batch, backward=True):
            nll, logits = run.nll(model, batch)
            if self.fisher == "true":
                drawn = torch.multinomial(logits.detach().softmax(-1), 1).squeeze(1)
                nll = nn.functional.cross_entropy(logits, drawn, reduction="none")
            nll.sum().backward()
            for name, parameter in model.named_parameters():
                if parameter.grad is not None:
                    self.fisher_[name] += parameter.grad.float().square()
            model.zero_grad()

    def pull(self, name: str, theta: Tensor, start: Tensor) -> Tensor | None:
        if not self.strength:
            return None
        return self.strength * self.fisher_[name] * (theta - start)

    def state(self) -> Weights:
        return self.fisher_

    def restore(self, state: Weights) -> None:
        self.fisher_ = dict(state)
