"""Synaptic intelligence with the importance of a short walk on general data, since the pre-training path is not to be had."""

from itertools import islice

import torch
from torch import Tensor, nn

from harness.contract import Example, Method, Run, Weights
from harness.toolbox import passes, scaled


class SiProxy(Method):
    """L + strength sum_i Omega_i (theta_i - theta0_i)^2 on effective weights.

    omega_i = -sum over the walk of g_i (change of theta_i), Omega_i = max(omega_i, 0) / ((whole change of theta_i)^2 + xi),
    scaled to mean 1. The walk is `steps` Adam steps of `step_size` on general batches from the base, which is put back after
    it: what the paper sums over pre-training, here only near its end, where gradients are mostly noise. A proxy, charged as
    `importance`. While xi exceeds the squared changes by far, `step_size` only scales Omega and drops out.
    """

    paper = (
        "Zenke et al. 2017, arXiv:1703.04200, eqs. 3 to 5; xi 0.1: van de Ven. "
        "@inproceedings{zenke2017si, title={Continual Learning Through Synaptic Intelligence}, author={Zenke, Friedemann and "
        "Poole, Ben and Ganguli, Surya}, booktitle={ICML}, year={2017}}"
    )
    verified = "importance and pull on two parameters by hand; never negative"
    off = {"strength": 0.0}
    search = {"strength": (0.01, 10.0)}
    bounds = {"strength": "[0, inf)", "steps": "[1, inf)", "step_size": "(0, inf)", "xi": "(0, inf)"}
    needs = frozenset({"general_data"})

    def __init__(self, strength: float = 1.0, steps: int = 30, step_size: float = 1e-4, xi: float = 0.1):
        self.strength, self.steps, self.step_size, self.xi = strength, steps, step_size, xi
        self.importance_: Weights = {}

    def prepare(self, model: nn.Module, run: Run) -> None:
        own = dict(model.named_parameters())
        theta = {name: run.start[name].to(p.device, copy=True) for name, p in own.items()}
        omega = {name: torch.zeros_like(tensor) for name, tensor in theta.items()}
        optimizer = torch.optim.Adam(theta.values(), lr=self.step_size)
        pool = passes(run.general, run.generator("si_proxy"))
        for _ in range(self.steps):
            gradients = _gradients(model, run, list(islice(pool, run.batch_size)))
            before = {name: tensor.clone() for name, tensor in theta.items()}
            for name, tensor in theta.items():
                tensor.grad = gradients[name]
            optimizer.step()
            for name, tensor in theta.items():
                omega[name] -= gradients[name] * (tensor - before[name])
                own[name].data.copy_(tensor)
        raw = {}
        for name, tensor in theta.items():
            start = run.start[name].to(tensor.device)
            raw[name] = omega[name].clamp(min=0) / ((tensor - start) ** 2 + self.xi)
            own[name].data.copy_(start)
        self.importance_ = scaled(raw)

    def pull(self, name: str, theta: Tensor, start: Tensor) -> Tensor:
        return 2 * self.strength * self.importance_[name] * (theta - start)

    def state(self) -> Weights:
        return self.importance_

    def restore(self, state: Weights) -> None:
        self.importance_ = dict(state)


def _gradients(model: nn.Module, run: Run, examples: list[Example]) -> Weights:
    """Mean-token-loss gradients over these examples, fp32."""
    total, count = {name: torch.zeros_like(p, dtype=torch.float32) for name, p in model.named_parameters()}, 0
    for batch in run.batches(examples):
        with run.charged("importance", model, batch, backward=True):
            nll, _ = run.nll(model, batch)
            nll.sum().backward()
            count += len(nll)
            for name, parameter in model.named_parameters():
                if parameter.grad is not None:
                    total[name] += parameter.grad.float()
            model.zero_grad()
    return {name: tensor / count for name, tensor in total.items()}
