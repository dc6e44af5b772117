"""Synaptic intelligence over stages: what a stage changed to lower its loss is held in the next."""

from collections.abc import Callable

import torch

from harness.contract import Method, Run, Weights
from harness.toolbox import scaled


class SiMulti(Method):
    """L + strength sum_i Omega_i (theta_i - theta*_i)^2 on the trained parameters, from the second stage on.

    Along each stage omega_i -= g_i (change of theta_i), g the raw gradient of the loss, before pulls and clipping. At its end
    Omega_i += max(omega_i, 0) / ((change of theta_i over the stage)^2 + xi), scaled to mean 1, and theta* is the weights then.
    With adapters these are the adapter's own parameters: the loss's gradient on effective weights is never formed. The first
    stage is plain fine-tuning, so it needs two.
    """

    paper = (
        "Zenke et al. 2017, arXiv:1703.04200, eqs. 3 to 5; xi 0.1: van de Ven. "
        "@inproceedings{zenke2017si, title={Continual Learning Through Synaptic Intelligence}, author={Zenke, Friedemann and "
        "Poole, Ben and Ganguli, Surya}, booktitle={ICML}, year={2017}}"
    )
    verified = "importance over stages on two parameters by hand"
    off = {"strength": 0.0}
    search = {"strength": (0.01, 10.0)}
    bounds = {"strength": "[0, inf)", "xi": "(0, inf)"}
    needs = frozenset({"stages"})
    holds = 5.0  # path, anchor, importance, and in each step gradients and the weights before it

    def __init__(self, strength: float = 1.0, xi: float = 0.1):
        self.strength, self.xi = strength, xi
        self.stage_ = 0
        self.omega_: Weights = {}
        self.anchor_: Weights = {}
        """The weights at which the present stage began."""
        self.importance_: Weights = {}
        self._raw: Weights = {}

    def gradient(self, weights: Weights, gradients: Weights, run: Run) -> None:
        if self.stage_ != run.stage:
            self._begin(weights, run)
        self._raw = {name: gradient.clone() for name, gradient in gradients.items()}
        for name, importance in self.importance_.items():
            if name in gradients:
                gradients[name] += 2 * self.strength * importance * (weights[name].detach() - self.anchor_[name])

    def _begin(self, weights: Weights, run: Run) -> None:
        """Turn the last stage's path into importance, and start a new one here."""
        if self.stage_:
            fresh = scaled({
                name: omega.clamp(min=0) / ((weights[name].detach() - self.anchor_[name]) ** 2 + self.xi)
                for name, omega in self.omega_.items()
            }, run.summed)  # fmt: skip
            self.importance_ = {name: self.importance_.get(name, 0.0) + part for name, part in fresh.items()}
        self.stage_ = run.stage
        self.anchor_ = {name: tensor.detach().clone() for name, tensor in weights.items()}
        self.omega_ = {name: torch.zeros_like(tensor) for name, tensor in self.anchor_.items()}

    def update(self, step: Callable[[], None], weights: Weights, run: Run) -> None:
        before = {name: weights[name].detach().clone() for name in self._raw}
        step()
        for name, gradient in self._raw.items():
            self.omega_[name] -= gradient * (weights[name].detach() - before[name])
        self._raw = {}

    def state(self) -> Weights:
        parts = {"omega": self.omega_, "anchor": self.anchor_, "importance": self.importance_}
        tensors = {"stage": torch.tensor(self.stage_)}
        for part, weights in parts.items():
            for name, tensor in weights.items():
                tensors[f"{part}/{name}"] = tensor
        return tensors

    def restore(self, state: Weights) -> None:
        self.stage_ = int(state["stage"])
        parts = {"omega": self.omega_, "anchor": self.anchor_, "importance": self.importance_}
        for name, tensor in state.items():
            if "/" in name:
                part, name = name.split("/")
                parts[part][name] = tensor
